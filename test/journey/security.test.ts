import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { readPayload } from '../../src/inbound/payload.ts';
import { createReceiver } from '../../src/inbound/receive.ts';
import { createLog } from '../../src/log.ts';
import { deliver } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';
import { makeEndpoint, post, startReceiving } from '../support/inbound.ts';

const { server, admin, connect, database } = await useServer();
await admin.unsafe(`create role attacker login password 'x'; create role victim nologin`);
const asAttacker = (name: string) => connect(server.url(name).replace('postgres:postgres@', 'attacker:x@'), { max: 1 });

/**
 * A schema that belongs to the attacker. loot.try(where) tries, with the rights of whoever runs it, everything that
 * must not be possible. It notes the role and the result of each try; everybody may write its notes.
 */
const loot = `
  create schema loot authorization attacker; grant usage, create on schema public to attacker;
  create table victims_only (id int); alter table victims_only owner to victim;
  set role attacker;
  grant usage on schema loot to public;
  create table loot.notes (at text, who text, what text, code text); grant all on loot.notes to public;
  create function loot.try(place text) returns boolean language plpgsql set search_path = pg_catalog, pg_temp as $$
  declare attack text; code text;
  begin
    if current_user <> 'attacker' and not exists (select from loot.notes where at = place and who = current_user) then
      foreach attack in array array[
        'select * from collecta.endpoint_secrets', 'select * from collecta.inbound_secrets',
        'select * from collecta.events', 'select * from collecta.inbound_requests',
        'update collecta.endpoints set url = ''https://evil.example/''', 'delete from collecta.delivery_queue',
        'update collecta.settings set retention = default',
        'select collecta.create_endpoint(''https://evil.example/'', ''{record_created}'')',
        'select * from collecta.claim_deliveries(1)', 'select collecta.new_secret()',
        'select * from public.victims_only', 'insert into public.victims_only values (1)',
        'drop table public.victims_only',
        'create function collecta.planted() returns int language sql as ''select 1''',
        'create or replace function collecta.new_id(prefix text) returns text language sql as ''select 1''',
        'create table collecta.planted ()', 'create role planted', 'set role collecta_owner', 'set role postgres',
        'set session authorization postgres', 'grant collecta_owner to attacker',
        'copy (select 1) to program ''true''', 'alter function collecta.new_id(text) owner to attacker'] loop
        code := '00000';
        begin execute attack; exception when others then code := sqlstate; end;
        insert into loot.notes values (place, current_user, attack, code);
      end loop;
    end if;
    return true;
  end $$;
  create function loot.fire() returns trigger language plpgsql as $$
    begin perform loot.try(tg_argv[0]); return new; end $$;
  create type loot.box as enum ('x');
  create function loot.to_json(b loot.box) returns json language plpgsql as $$
    begin perform loot.try('cast to json'); return '"boxed"'; end $$;
  create cast (loot.box as json) with function loot.to_json;
  create domain loot.checked as text check (loot.try('domain'));
  create function loot.defaulted() returns text language plpgsql as $$
    begin perform loot.try('default'); return 'x'; end $$;
  create table loot.orders (id int primary key, sku loot.checked, qty int, box loot.box default 'x',
    made text default loot.defaulted(), constraint tried check (loot.try('check')));
`;

const triggers = `
  create index on loot.orders ((loot.indexed(qty)));
  create trigger a before insert or update on loot.orders for each row execute function loot.fire('before row');
  create trigger b after insert or update on loot.orders for each row execute function loot.fire('after row');
  create trigger c after insert or update on loot.orders for each statement
    execute function loot.fire('after statement');
  create constraint trigger d after insert or update on loot.orders deferrable initially deferred for each row
    execute function loot.fire('deferred');
  create rule e as on delete to loot.orders do also select loot.try('rule');
  alter table loot.orders enable row level security;
  create policy f on loot.orders using (loot.try('policy')) with check (loot.try('policy'));
  reset role;`;
const indexed = `create function loot.indexed(n int) returns int language plpgsql immutable as $$
  begin perform loot.try('index'); return n; end $$;`;

async function setLoot(sql: Sql): Promise<void> {
  await sql.unsafe(loot + indexed + triggers);
  await sql.unsafe(`
    select collecta.attach_module('loot.orders', 'orders', on_truncate => 'ignore');
    create table public.seen (id int)`);
}

/** Returns the role that the attacker's code ran as at each place, and asserts that none of its attacks worked. */
async function tried(t: Test, sql: Sql): Promise<Record<string, string>> {
  const worked = await sql`select at, who, what, code from loot.notes where code <> '42501'`;
  t.strictSame([...worked], [], 'nothing that it tried went through');
  const places =
    await sql`select at, string_agg(distinct who, ' ' order by who) as who from loot.notes group by at order by at`;
  return Object.fromEntries(places.map(row => [row.at, row.who]));
}

t.test('casts used by a captured table cannot read secrets or write anywhere', async t => {
  const { sql, name } = await database();
  await setLoot(sql);
  await sql`select collecta.create_endpoint('https://example.com/', '{record_created,record_updated,record_deleted}')`;
  const attacker = asAttacker(name);
  await attacker`insert into loot.orders (id, sku, qty) values (1, 'A', 1)`;
  await attacker.unsafe(
    `update loot.orders set qty = 2; update loot.orders set made = repeat('x', 100000); delete from loot.orders`,
  );
  t.strictSame(await tried(t, sql), {}, 'its cast is not even called');
  t.strictSame(
    (await sql`select new ->> 'box' as box from collecta.outbox where operation = 'I'`).map(row => row.box),
    ['x'],
    'but taken as its text',
  );
  t.equal((await sql`select from collecta.outbox`).length, 4);
});

t.test('code of a table that inbound writes cannot read secrets or write elsewhere', async t => {
  const target = await database();
  const { sql } = target;
  await setLoot(sql);
  await sql`select collecta.create_endpoint('https://example.com/', '{record_created,record_updated}')`;
  const { path } = await makeEndpoint(
    sql,
    { id: { path: '$.id' }, '$.sku': 'sku', '$.qty': 'qty' },
    { module: 'orders', match_columns: ['id'], rate_limit_per_minute: 1000 },
  );
  const receiving = await startReceiving(target);
  for (const body of [
    { id: 1, sku: 'A', qty: 1 },
    { id: 1, sku: 'B', qty: 2 },
    { id: 2, sku: 'C' },
    { id: 2, qty: 5 },
  ])
    t.equal((await post(receiving.port, path, body)).status, 202);
  t.strictSame(await tried(t, sql), {
    'after row': 'collecta_writer',
    'after statement': 'collecta_writer',
    'before row': 'collecta_writer',
    check: 'collecta_writer',
    default: 'collecta_writer',
    deferred: 'collecta_writer',
    domain: 'collecta_writer',
    index: 'collecta_writer',
    policy: 'collecta_writer',
  });
  t.equal((await sql`select count(*)::int as n from loot.orders`)[0]!.n, 2);

  // As the owner of the table, the attacker can make the generated functions run with the rights of their caller, and
  // choose their search_path.
  const attacker = asAttacker(target.name);
  await attacker.unsafe(`
    create function loot.differs(a name, b name) returns boolean language plpgsql as $$
      begin perform loot.try('operator'); return false; end $$;
    create operator loot.<> (leftarg = name, rightarg = name, function = loot.differs);
    create or replace function loot.fire() returns trigger language plpgsql as $$
    declare written text;
    begin
      perform loot.try('altered');
      for written in select oid::regprocedure from pg_proc
        where pronamespace = 'collecta'::regnamespace and proowner = 'collecta_writer'::regrole loop
        begin execute format('alter function %s security invoker set search_path = loot, pg_catalog', written);
        exception when others then end;
      end loop;
      return new;
    end $$`);
  await sql`delete from loot.notes`;
  t.equal((await post(receiving.port, path, { id: 3, sku: 'A', qty: 1 })).status, 202);
  t.equal(
    (
      await sql`select count(*)::int as n from pg_proc where proname ~ '^(write|cast)_inbound_\\d+$' and not prosecdef`
    )[0]!.n,
    2,
    'it did alter them',
  );
  t.equal((await post(receiving.port, path, { id: 4, sku: 'A', qty: 1 })).status, 202, 'written anew before they run');
  t.equal((await post(receiving.port, path, { id: 5, sku: 'A', qty: 'x' })).status, 422);
  for (const who of Object.values(await tried(t, sql))) t.match(who, /^(collecta_writer|collecta_capture)$/);
  await sql`select collecta.update_inbound_endpoint(inbound_endpoint_id) from collecta.inbound_endpoints`;
  await attacker`drop trigger a on loot.orders`;
  await attacker`drop trigger b on loot.orders`;
  await attacker`drop trigger c on loot.orders`;
  await attacker`drop trigger d on loot.orders`;
  t.equal(
    (await post(receiving.port, path, { id: 5, sku: 'A', qty: 1 })).status,
    202,
    'and mended by update_inbound_endpoint',
  );
  await receiving.stop();
});

t.test('deferred constraints are checked before the answer is sent', async t => {
  const target = await database();
  await target.sql.unsafe(`
    create table products (code text primary key);
    create table orders (id int primary key, code text references products deferrable initially deferred);
    select collecta.attach_module('orders', 'orders')`);
  const { path } = await makeEndpoint(
    target.sql,
    { id: { path: '$.id' }, '$.code': 'code' },
    { module: 'orders', match_columns: ['id'] },
  );
  const receiving = await startReceiving(target);
  t.match(await post(receiving.port, path, { id: 1, code: 'none' }), {
    status: 422,
    json: { detail: /orders_code_fkey/ },
  });
  t.equal((await target.sql`select from orders`).length, 0);
  await receiving.stop();
});

t.test('temporary types and hostile search paths do not affect privileged functions', async t => {
  const { sql, name } = await database();
  await sql.unsafe(`
    create table orders (id int primary key, name text, status text);
    select collecta.attach_module('orders', 'orders', status_column => 'status');
    create role mallory login password 'x' in role collecta_operator, collecta_dispatcher, collecta_inbound;
    grant all on orders to mallory;
    create schema hostile authorization mallory; grant usage on schema hostile to public`);
  const [endpoint] = await sql`select * from collecta.create_endpoint('https://example.com/',
      '{record_created,record_updated,status_change,record_deleted}', filter => '$.record.id > 0')`;
  const [inbound] = await sql`
    select * from collecta.create_inbound_endpoint('orders', '{"id": {"path": "$.id"}, "$.name": "name"}', '{id}',
      rate_limit_per_minute => 1000)`;
  // Calls are reported by notices, because the hostile code mostly makes the transaction fail.
  const ran: string[] = [];
  const onnotice = ({ message = '' }) => void (message.startsWith('ran as') && ran.push(message));
  const mallory = connect(server.url(name).replace('postgres:postgres@', 'mallory:x@'), { max: 1, onnotice });
  const kinds = (
    await sql`
    select typname as name from pg_type where typnamespace = 'pg_catalog'::regnamespace and typtype = 'b'
      and typelem = 0 and typname <> 'unknown'`
  ).map(row => row.name as string);
  await mallory.unsafe(`
    create function hostile.note(what pg_catalog.text) returns pg_catalog.bool language plpgsql
      set search_path = pg_catalog, pg_temp as $$
    begin
      if current_user <> session_user then raise notice 'ran as %: %', current_user, what; end if;
      return true;
    end $$`);
  const [hash] =
    await sql`select encode(sha256(convert_to(${inbound!.path.split('/').at(-1)}, 'UTF8')), 'hex') as token`;
  const id = `'${endpoint!.endpoint_id}'`;
  const inb = `'${inbound!.inbound_endpoint_id}'`;
  const calls = [
    `insert into public.orders values (1, 'a', 'open'), (2, repeat('x', 200000), 'open')`,
    `update public.orders set status = 'done'`,
    'delete from public.orders where id = 1',
    'truncate public.orders',
    `select collecta.pause_endpoint(${id}, 'x')`,
    `select collecta.resume_endpoint(${id})`,
    `select collecta.send_test_event(${id})`,
    `select collecta.send_test_event('none')`,
    'select collecta.route_again()',
    'select * from collecta.claim_deliveries(100)',
    `select collecta.record_deliveries(array(select r from json_populate_recordset(null::collecta.delivery_result,
      '[{"id": 1, "lease": 1, "outcome": "failed"}, {"id": 2, "lease": 1, "outcome": "delivered"}]') r))`,
    `select collecta.release_deliveries('{3}', '{1}')`,
    `select collecta.replay_delivery((select id from collecta.webhook_deliveries limit 1))`,
    `select collecta.replay_delivery('none')`,
    'select * from collecta.maintain()',
    'select collecta.wake_runner()',
    'select collecta.sealing_keys()',
    'select collecta.check_installation(null)',
    `select * from collecta.find_inbound_endpoint('orders', '${hash!.token}')`,
    `select * from collecta.receive_inbound(${inb}, '{"id": 7, "name": "x"}', 'key')`,
    `select * from collecta.receive_inbound(${inb}, '{"id": "x", "name": {}}', null)`,
    `select collecta.retry_inbound(${inb})`,
    'select * from collecta.next_inbound_retries()',
    `select collecta.maintain_inbound('[{"inbound_endpoint_id": "", "status": 404, "requests": 1}]')`,
    `select collecta.pause_inbound_endpoint(${inb})`,
    `select collecta.resume_inbound_endpoint(${inb})`,
    `select * from collecta.test_inbound_mapping(${inb}, '{"id": 7, "name": "x"}')`,
    `select collecta.test_inbound_mapping('none', '{}')`,
    `select collecta.new_id('x')`,
  ];
  const run = async () => {
    for (const call of calls) await mallory.unsafe(call).catch(error => error);
  };
  const plant = async (statements: string[]) => {
    let planted = 0;
    for (const statement of statements)
      await mallory.unsafe(statement).then(
        () => planted++,
        () => {},
      );
    return planted;
  };
  const types = await plant(
    kinds.map(kind => `create domain pg_temp."${kind}" as pg_catalog."${kind}" check (hostile.note('type ${kind}'))`),
  );
  t.ok(types > 50, `${types} temporary types`);
  await plant(
    ['endpoints', 'events', 'settings', 'orders', 'pg_proc', 'pg_class', 'pg_attribute'].map(
      table => `create view pg_temp."${table}" as select hostile.note('table ${table}')`,
    ),
  );
  await run();
  t.strictSame([...new Set(ran)], [], 'temporary types and tables');

  const functions = await sql`
    select distinct on (p.oid) format('create function hostile.%I(%s) returns %s language plpgsql as $f$
        begin perform hostile.note(%L); return null; end $f$',
      p.proname, pg_get_function_identity_arguments(p.oid), p.prorettype::regtype, 'function ' || p.proname) as make
    from pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and not p.proretset
      and p.proname in ('now', 'clock_timestamp', 'format', 'to_char', 'left', 'lpad', 'to_hex', 'replace', 'strpos',
        'length', 'lower', 'coalesce', 'row_to_json', 'to_json', 'pg_notify', 'current_setting',
        'pg_try_advisory_xact_lock', 'pg_advisory_xact_lock', 'pg_advisory_xact_lock_shared',
        'pg_try_advisory_xact_lock_shared', 'pg_column_size', 'octet_length', 'to_regrole',
        'to_regclass', 'current_database', 'gen_random_uuid', 'json_typeof', 'hashtext', 'sha256', 'encode',
        'nextval', 'array_length', 'cardinality')`;
  t.ok((await plant(functions.map(row => row.make))) > 40, 'functions');
  const operators = await sql`
    select distinct format('create operator hostile.%s (%s %s function = hostile.%I)', o.oprname,
      case when o.oprleft <> 0 then 'leftarg = ' || o.oprleft::regtype || ',' end,
      case when o.oprright <> 0 then 'rightarg = ' || o.oprright::regtype || ',' end, 'o' || o.oid) as make,
      format('create function hostile.%I(%s) returns %s language plpgsql as $f$
        begin perform hostile.note(%L); return null; end $f$', 'o' || o.oid,
        concat_ws(',', nullif(o.oprleft, 0)::regtype, nullif(o.oprright, 0)::regtype), o.oprresult::regtype,
        'operator ' || o.oprname) as function
    from pg_operator o
    where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprresult <> 0 and o.oprkind = 'b'
      and o.oprname in ('=', '<>', '<', '>', '<=', '>=', '||', '->', '->>', '+', '-', '*', '*<>', '~', '!~', '&&', '<@')
      and 'text timestamptz int4 int8 json jsonb name oid bool text[] interval record anyarray'::text
        like '%' || o.oprleft::regtype::text || '%'`;
  t.ok((await plant(operators.flatMap(row => [row.function, row.make]))) > 100, 'operators');
  await mallory.unsafe('set search_path = hostile, pg_temp, pg_catalog, public');
  await run();
  t.strictSame([...new Set(ran)], [], 'a search path of the attacker’s');

  // The test can fail: it finds a definer function without a fixed search_path.
  await sql.unsafe(
    `create function public.careless() returns int language sql security definer as $$ select length('x'::text) $$`,
  );
  await mallory.unsafe('select public.careless()').catch(error => error);
  t.match(ran[0], /^ran as postgres/);
});

const attacks = [
  `'; create role pwned; --`,
  `'); create role pwned; --`,
  `"; create role pwned; --`,
  `"); create role pwned; --`,
  `$$; create role pwned; $$`,
  `$f$; create role pwned; $f$`,
  `\\'; create role pwned; --`,
  `x' || (select pwned()) || '`,
  `" || (select pwned()) || "`,
  `{"a": "'; create role pwned; --"}`,
  `%s %I %L %1$s %%`,
  `]]; create role pwned; --`,
  `'\n; create role pwned; --`,
  `＇; create role pwned; --`,
  `ʼ"'\u202e日本語🎉`,
  `${`a`.repeat(62)}'`,
];

t.test('attack strings passed to every function create nothing', async t => {
  const { sql } = await database();
  await sql
    .unsafe(`
    create table public.pwned_log (at timestamptz);
    create function public.pwned() returns text language sql as $$
      insert into public.pwned_log values (now()) returning 'x' $$;
    create function pg_catalog.pwned() returns text language sql as $$
      insert into public.pwned_log values (now()) returning 'x' $$`)
    .catch(() => {});
  await sql.unsafe(
    `create table orders (id int primary key, name text, status text);
      select collecta.attach_module('orders', 'orders', status_column => 'status')`,
  );
  await sql`select collecta.create_endpoint('https://example.com/', '{record_created,status_change}')`;
  await sql`select collecta.create_inbound_endpoint('orders', '{"id": {"path": "$.id"}, "$.name": "name"}', '{id}')`;
  const objects = async () =>
    JSON.stringify(
      await sql`
      select (select array_agg(rolname order by rolname) from pg_roles) as roles, (select array_agg(nspname order by 1)
        from pg_namespace where nspname !~ '^pg_') as schemas,
        (select array_agg(oid::regclass order by oid) from pg_class
          where relkind in ('r', 'v', 'S') and relnamespace = 'public'::regnamespace) as tables`,
    );
  const before = await objects();
  const functions = await sql`
    select proname as name, array(select format_type(a, null) from unnest(proargtypes::oid[]) with ordinality u (a, n)
      order by n) as types
    from pg_proc where pronamespace = 'collecta'::regnamespace and prorettype <> 'trigger'::regtype
      and proname !~ '^(forget_|delete_)'`;
  let calls = 0;
  const values = (type: string, attack: string): string => {
    const text = `'${attack.replaceAll("'", "''")}'::text`;
    if (type === 'text') return text;
    if (type === 'text[]') return `array[${text}]`;
    if (type === 'json' || type === 'jsonb') return `json_build_object(${text}, ${text})::${type}`;
    if (type === 'json[]') return `array[json_build_object(${text}, ${text})]`;
    if (type === 'jsonpath') return `'$.a'::jsonpath`;
    if (type === 'regclass') return `'orders'::regclass`;
    if (type === 'integer' || type === 'bigint') return `1::${type}`;
    if (type === 'boolean') return 'false';
    if (type === 'interval') return `'1 hour'::interval`;
    return `null::${type}`;
  };
  for (const { name, types } of functions) {
    if (!types.some((type: string) => /text|json/.test(type))) continue;
    for (const attack of attacks) {
      // First all arguments are hostile, then each alone beside valid ones.
      const calls_ = [types.map((type: string) => values(type, attack))];
      types.forEach((type: string, i: number) => {
        if (/text|json/.test(type))
          calls_.push(
            types.map((other: string, j: number) =>
              i === j ? values(type, attack) : other === 'text' ? `'orders'` : values(other, 'id'),
            ),
          );
      });
      for (const each of calls_) {
        calls++;
        await sql
          .unsafe(`select * from collecta.${name}(${each.join(', ')})`)
          .catch((error: { code: string; internal_query?: string }) => {
            if (error.code === '42601' && /pwned/.test(error.internal_query ?? ''))
              t.fail(`${name} made malformed SQL of ${JSON.stringify(attack)}: ${JSON.stringify(error)}`);
          });
      }
    }
  }
  t.ok(calls > 1000, `${calls} calls`);
  t.equal(await objects(), before);
  t.equal((await sql`select from public.pwned_log`).length, 0);
  await sql`delete from collecta.unrouted`;
});

t.test('names with quotes, unicode and 63 bytes work end to end', async t => {
  const target = await database();
  const { sql } = target;
  const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;
  const schema = `s'"; create role pwned; --`;
  const receiver = createReceiver({ sql, log: createLog('error', () => {}) });
  const names = [
    `t'"; create role pwned; --`,
    '日本語"\'🎉',
    `${'x'.repeat(62)}"`,
    '%s %I %1$s',
    '\\',
    '$1 $$ $f$',
    'collecta new',
    'select',
    ' ',
    'a\nb',
  ];
  await sql.unsafe(
    `create schema ${quote(schema)}; create role ${quote(`r'"; --`)} nologin;
      grant usage on schema ${quote(schema)} to ${quote(`r'"; --`)}`,
  );
  for (const [index, name] of names.entries()) {
    const slug = `m${index}`;
    const column = (part: string) =>
      Buffer.byteLength(part + name) > 63 ? part + name.slice(part.length) : part + name;
    const [key, status, custom, scope, hidden, ignored, value] = ['k', 's', 'c', 'o', 'h', 'i', 'v'].map(column) as [
      string,
      string,
      string,
      string,
      string,
      string,
      string,
    ];
    const relation = `${quote(schema)}.${quote(name)}`;
    await sql.unsafe(`create table ${relation} (${quote(key)} text primary key, ${quote(status)} text,
      ${quote(custom)} jsonb, ${quote(scope)} text,
      ${quote(hidden)} text default 'hidden', ${quote(ignored)} text, ${quote(value)} text, "plain" numeric(5,2))`);
    await sql`select collecta.attach_module(${relation}::text::regclass, ${slug}, ${status}, ${custom}, ${scope},
      exclude_columns => ${[hidden]}, ignore_columns => ${[ignored]})`;
    await sql.unsafe(
      `grant select (${[key, status, custom, value].map(quote).join(', ')}) on ${relation} to ${quote(`r'"; --`)}`,
    );
    const hostile = attacks[index]!;
    const make = (more: Record<string, unknown>) => {
      const named = Object.entries({
        url: `https://example.com/${encodeURIComponent(hostile)}`,
        events: ['record_created', 'record_updated', 'record_deleted', 'status_change', 'custom_data_updated'],
        modules: [slug],
        ...more,
      });
      const list = named.map(([argument], i) => `${argument} => $${i + 1}`).join(', ');
      return sql.unsafe(`select * from collecta.create_endpoint(${list})`, named.map(([, each]) => each) as string[]);
    };
    await make({
      name: `${hostile} ${index}`,
      scope: hostile,
      filter: `$.record.${JSON.stringify(value)} == ${JSON.stringify(hostile)}`,
    });
    await make({ payload_role: `r'"; --`, secret: hostile.replace(/\n/g, '') });
    await sql.begin(async tx => {
      await tx`select set_config('collecta.context', ${hostile}, true)`;
      await tx.unsafe(`insert into ${relation} (${[key, scope, value].map(quote).join(', ')}) values ($1, $1, $1)`, [
        hostile,
      ]);
      await tx.unsafe(
        `update ${relation} set ${quote(status)} = $1, ${quote(custom)} = jsonb_build_object($1::text, 1)`,
        [hostile],
      );
      await tx.unsafe(`update ${relation} set ${quote(value)} = $1`, ['x'.repeat(3_000_000)]);
    });
    await sql.unsafe(`truncate ${relation}`);
    const bodies = (await deliver(sql)).filter(body => body.module === slug);
    const created = bodies.filter(body => body.event === 'record_created');
    t.equal(created.length, 2, `${JSON.stringify(name)}: both endpoints got it`);
    const [whole, seen] = created.sort((a, b) => Object.keys(b.record!).length - Object.keys(a.record!).length);
    t.match(whole, {
      record_id: hostile,
      module: slug,
      record: { [key]: hostile, [scope]: hostile, [value]: hostile, [ignored]: null },
    });
    t.notOk(hidden in whole!.record!);
    t.strictSame(Object.keys(seen!.record!).sort(), [key, status, custom, value].sort(), 'payload_role');
    t.match(
      bodies.find(body => body.event === 'status_change'),
      { from: null, to: hostile, previous: { [status]: null } },
    );
    t.ok(
      bodies.some(body => body.event === 'record_deleted') && bodies.some(body => body.truncated),
      'a truncated record and a TRUNCATE too',
    );

    const mapping = {
      [key]: { path: '$.key', required: true },
      [value]: { path: '$.value', default: hostile },
      [status]: { constant: hostile },
      plain: { path: '$.plain' },
    };
    const { path } = await makeEndpoint(sql, mapping, { module: slug, match_columns: [key] });
    const [hash] = await sql`select encode(sha256(convert_to(${path.split('/').at(-1)!}, 'UTF8')), 'hex') as token`;
    const endpoint = await receiver.find(slug, hash!.token);
    const unknown = { keyHash: null, sameBody: false, bodyDigest: null, checkDigest: false };
    for (const body of [
      { key: hostile, plain: 1.5 },
      { key: hostile, value: `${hostile}!` },
      { key: hostile, plain: null },
    ]) {
      const payload = readPayload(Buffer.from(JSON.stringify(body)));
      t.match(await receiver.receive(endpoint!, payload, unknown, false), { status: 202, record_id: hostile });
    }
    t.match(
      await receiver.receive(
        endpoint!,
        readPayload(Buffer.from(JSON.stringify({ key: hostile, plain: hostile }))),
        unknown,
        false,
      ),
      { status: 422, column_name: 'plain' },
    );
    const [row] = await sql.unsafe(`select * from ${relation}`);
    t.match(row, { [key]: hostile, [status]: hostile, [value]: hostile });
    await sql`select collecta.detach_module(${slug})`;
  }
  t.strictSame([...(await sql`select rolname from pg_roles where rolname = 'pwned'`)], []);
  for (const slug of [...attacks, '', 'a'.repeat(64), 'A', 'ä', 'a b', '-a', `a'`, 'a"', 'a;b', 'a/b', 'a.b', 'a%'])
    await t.rejects(
      sql`select collecta.attach_module('pg_class', ${slug})`,
      { code: 'CW006' },
      `slug ${JSON.stringify(slug)}`,
    );
});

t.test('docs/dependencies.md names every production package, with its version', async t => {
  const lock = JSON.parse(readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8')) as {
    packages: Record<string, { version: string; dev?: boolean; optional?: boolean; hasInstallScript?: boolean }>;
  };
  const production = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && !dev);
  const page = readFileSync(new URL('../../docs/dependencies.md', import.meta.url), 'utf8');
  const named = Array.from(page.matchAll(/^\| `([^`]+)` \| (\S+) \|/gm), ([, name, version]) => `${name} ${version}`);
  t.strictSame(
    named.sort(),
    production.map(([path, { version }]) => `${path.replace(/^.*node_modules\//, '')} ${version}`).sort(),
  );
  t.match(page, `${production.length} packages`);
  t.strictSame(
    production.filter(([, { hasInstallScript }]) => hasInstallScript),
    [],
    'none runs a script at installation',
  );
});
