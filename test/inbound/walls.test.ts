import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { useServer } from '../support/database.ts';
import { closeAgent, post, startReceiving } from '../support/inbound.ts';

const { database, admin } = await useServer();
await admin.unsafe(`
  create role mallory login password 'mallory';
  create role neighbour login password 'neighbour';`);
t.teardown(closeAgent);

/** Like `refusal`: the code of the error, or undefined if the statement succeeded. */
const codeOf = (statement: Promise<unknown>): Promise<string | undefined> =>
  statement.then(
    () => undefined,
    (error: { code: string }) => error.code,
  );

/** A table whose owner has put code wherever PostgreSQL runs code. Each call as a superuser increments a sequence. */
const trap = `
  create schema trap authorization mallory;
  set role mallory;
  create sequence trap.sprung;
  grant usage on schema trap to public;
  grant usage, select on sequence trap.sprung to public;
  create function trap.spring() returns boolean language plpgsql immutable as $$ begin
    if (select rolsuper from pg_catalog.pg_roles
      where rolname = current_user) then perform pg_catalog.nextval('trap.sprung'); end if;
    return true; end $$;
  create function trap.text_of(text) returns text language plpgsql immutable as $$
    begin perform trap.spring(); return $1; end $$;
  create function trap.trigger() returns trigger language plpgsql as $$ begin
    perform trap.spring(); return case when tg_op = 'DELETE' then old else new end; end $$;
  create type trap.mood as enum ('good', 'bad');
  create function trap.mood_json(trap.mood) returns json language plpgsql immutable as $$ begin
    perform trap.spring(); return pg_catalog.to_json($1::text); end $$;
  create domain trap.code as text check (trap.spring());
  create table trap.orders (
    id text primary key default trap.text_of(pg_catalog.gen_random_uuid()::text), sku text,
    quantity int check (trap.spring()),
    status text default 'open', mood trap.mood, code trap.code, custom_data jsonb,
    upper_sku text generated always as (trap.text_of(sku)) stored);
  create unique index on trap.orders (sku) where trap.spring();
  create index on trap.orders (trap.text_of(sku));
  create index on trap.orders (trap.text_of('constant'), sku);
  create trigger a before insert or update or delete on trap.orders for each row execute function trap.trigger();
  create trigger b after insert or update or delete on trap.orders for each row execute function trap.trigger();
  create policy everything on trap.orders using (trap.spring()) with check (trap.spring());
  create statistics trap.tricky on (trap.text_of(sku)), quantity from trap.orders;
  reset role;
  create cast (trap.mood as json) with function trap.mood_json(trap.mood);`;

t.test('no function that a DBA calls runs the table’s code as the DBA', async t => {
  const { sql, url } = await database();
  await sql.unsafe(trap);
  const sprung = async () =>
    (await sql`select case when is_called then last_value else 0 end::int as n from trap.sprung`)[0]!.n;
  await sql`explain select from trap.orders t where t.sku = t.sku limit 0`;
  t.ok((await sprung()) > 0, 'the trap works: planning alone springs it');
  await sql`alter sequence trap.sprung restart`;
  await sql`select setval('trap.sprung', 1, false)`;
  const seen = async (call: string) => {
    const code = await codeOf(sql.unsafe(call));
    t.equal(await sprung(), 0, `${call.slice(0, 60)} ${code ?? ''}`);
    await sql`select setval('trap.sprung', 1, false)`;
    return code;
  };
  const one = async (statement: string) => Object.values((await sql.unsafe(statement))[0]!)[0] as string;
  const mapping = `'{"$.sku": "sku", "$.quantity": "quantity", "$.mood": "mood", "$.code": "code"}'`;
  t.equal(
    await seen(
      `select collecta.attach_module('trap.orders', 'orders', status_column => 'status',
        custom_data_column => 'custom_data', on_truncate => 'ignore')`,
    ),
    undefined,
  );
  t.equal(
    await seen(
      `select * from collecta.create_endpoint('https://example.com', '{record_created,record_updated}', name => 'one',
        filter => '$.record.quantity > 0')`,
    ),
    undefined,
  );
  t.equal(await seen(`select * from collecta.create_inbound_endpoint('orders', ${mapping}, '{sku}')`), undefined);
  const inbound = await one('select inbound_endpoint_id from collecta.inbound_endpoints');
  const endpoint = await one('select endpoint_id from collecta.endpoints');
  // What is sent and received in between runs as the roles created for it.
  const receiving = await startReceiving({ url, sql, name: '' });
  const path = await one(`select collecta.rotate_inbound_token('${inbound}')`);
  t.match(await post(receiving.port, path, { sku: 'a', quantity: 1, mood: 'good', code: 'x' }), { status: 202 });
  t.match(await post(receiving.port, path, { sku: 'a', quantity: 2, mood: 'nope' }), { status: 422 });
  await receiving.stop();
  t.equal(await sprung(), 0, 'a request');
  await sql`select * from collecta.maintain()`;
  await sql`select * from collecta.health`;
  t.equal(await sprung(), 0, 'upkeep and health');
  const calls: Record<string, string> = {
    attach_module: `select collecta.attach_module('trap.orders', 'orders', on_truncate => 'ignore')`,
    let_capture_read: `select collecta.let_capture_read('trap.orders')`,
    create_endpoint: `select * from collecta.create_endpoint('https://example.com', '{record_created}', name => 'two',
      payload_role => 'neighbour')`,
    update_endpoint: `select collecta.update_endpoint('${endpoint}', filter => '$.record.quantity > 1')`,
    pause_endpoint: `select collecta.pause_endpoint('${endpoint}')`,
    resume_endpoint: `select collecta.resume_endpoint('${endpoint}')`,
    rotate_secret: `select collecta.rotate_secret('${endpoint}')`,
    send_test_event: `select collecta.send_test_event('${endpoint}')`,
    route_again: `select collecta.route_again()`,
    remember_module_tables: `select collecta.remember_module_tables()`,
    attach_shards: `select collecta.attach_shards('trap.orders', 'shards')`,
    replay_undelivered: `select collecta.replay_undelivered('${endpoint}')`,
    replay_delivery: `select collecta.replay_delivery('none')`,
    resume_after_restore: `select collecta.resume_after_restore()`,
    test_inbound_mapping: `select * from collecta.test_inbound_mapping('${inbound}',
      '{"sku": "a", "mood": "good", "code": "y"}')`,
    create_inbound_endpoint: `select * from collecta.create_inbound_endpoint('orders', ${mapping}, '{sku,mood}',
      match_where => 'trap.spring()')`,
    update_inbound_endpoint: `select collecta.update_inbound_endpoint('${inbound}', ${mapping}, '{mood}',
      match_where => 'quantity > 0')`,
    pause_inbound_endpoint: `select collecta.pause_inbound_endpoint('${inbound}')`,
    resume_inbound_endpoint: `select collecta.resume_inbound_endpoint('${inbound}')`,
    rotate_inbound_token: `select collecta.rotate_inbound_token('${inbound}')`,
    rotate_inbound_secret: `select collecta.rotate_inbound_secret('${inbound}')`,
    retry_inbound: `select collecta.retry_inbound('${inbound}')`,
    delete_inbound_endpoint: `select collecta.delete_inbound_endpoint('${inbound}')`,
    delete_endpoint: `select collecta.delete_endpoint('${endpoint}')`,
    detach_module: `select collecta.detach_module('orders')`,
  };
  const swept = new Set<string>();
  for (const [name, call] of Object.entries(calls)) {
    swept.add(name);
    await seen(call);
  }
  // A public function that is added later has to be included here as well.
  const inner = new Set(await publicFunctions());
  t.strictSame(
    [...inner].filter(name => !swept.has(name) && !notOfTables.has(name)),
    [],
    'every public function was called',
  );
});

/** These functions are public and have no argument that names a table. */
const notOfTables = new Set([
  'new_id',
  'alert_events',
  'attempt_id_at',
  'body_contains',
  'note_action',
  'is_walled',
  'visible_scopes',
]);

/** Functions whose file is directly in a topic's folder, which a DBA calls. */
async function publicFunctions(): Promise<string[]> {
  const folder = fileURLToPath(new URL('../../sql/fixtures', import.meta.url));
  const names: string[] = [];
  for (const topic of await readdir(folder, { withFileTypes: true })) {
    for (const file of await readdir(join(folder, topic.name), { withFileTypes: true })) {
      if (!file.isFile()) continue;
      const text = await readFile(join(folder, topic.name, file.name), 'utf8');
      const all = [...text.matchAll(/create or replace function collecta\.(\w+)/g)].map(([, name]) => name!);
      // If a file has several functions, the first one is public, and so are those whose names begin like this.
      names.push(...all.filter((name, i) => i === 0 || /^(update|resume|rotate|delete|detach)_/.test(name)));
    }
  }
  return names.filter(
    name => !/^(check|save|next|promote|set|forget|end|last|mask|notifies|remember)_|^check$/.test(name),
  );
}

t.test("code of one table can neither write another owner's table nor break its endpoints for good", async t => {
  const { sql, url } = await database();
  await sql.unsafe(`
    grant create on schema public to mallory, neighbour;
    create table theirs (id int primary key, sku text); alter table theirs owner to neighbour;
    create table mine (id int primary key, sku text, note text); alter table mine owner to mallory;
    select collecta.attach_module('theirs', 'theirs');
    select collecta.attach_module('mine', 'mine');`);
  const [theirs] =
    await sql`select * from collecta.create_inbound_endpoint('theirs', '{"$.id": "id", "$.sku": "sku"}', '{id}')`;
  const create = (more: string) =>
    `select * from collecta.create_inbound_endpoint('mine', '{"$.id": "id", "$.sku": "sku"}', '{id}'${more})`;
  const refused = await sql.unsafe(create('')).then(
    () => undefined,
    (error: { code: string; hint: string }) => error,
  );
  t.match(refused, { code: 'CW056' });
  await sql.unsafe(refused!.hint.replace(/Then the same call.*/, ''));
  const writer = /writer => '(\w+)'/.exec(refused!.hint)![1]!;
  const [mine] = await sql.unsafe(create(`, writer => '${writer}'`));
  await sql.unsafe(`
    set role mallory;
    create function attack() returns trigger language plpgsql as $$
    declare f record; statement text; said text := '';
    begin
      foreach statement in array array[
        'insert into public.theirs values (666, ''planted'')',
        'select from collecta.write_inbound_1(array[''{"id": 666}''::json], 1)',
        'alter function collecta.write_inbound_1(json[], int) security invoker set search_path = public',
        'drop function collecta.write_inbound_1(json[], int) cascade',
        'drop function collecta.cast_inbound_1(json, text)',
        'select collecta.accept_inbound_1(array[''{"id": 666}''], null, null, null)',
        'select collecta.map_inbound_1(''{}'', 1)',
        'alter function collecta.map_inbound_2(json, int) security definer',
        'alter function collecta.accept_inbound_2(text[], text[], text[], text[]) security invoker',
        'create or replace function collecta.write_inbound_1(elements json[],
          out record_ids text[], out operations text[]) language sql as ''select null, null''',
        'drop table collecta.inbound_endpoints cascade',
        'select collecta.save_inbound_endpoint(null, null)',
        -- What is its own it can break; that is mended.
        'grant execute on function collecta.write_inbound_2(json[], int) to public',
        'alter function collecta.write_inbound_2(json[], int) security invoker set search_path = public',
        'drop function collecta.cast_inbound_2(json, text)'] loop
        begin
          execute statement;
          said := said || 'done ';
        exception when others then
          said := said || sqlstate || ' ';
        end;
      end loop;
      new.note := said;
      return new;
    end $$;
    create trigger attack before insert on mine for each row execute function attack();
    reset role;`);
  const receiving = await startReceiving({ url, sql, name: '' });
  t.match(await post(receiving.port, mine!.path, { id: 1, sku: 'x' }), { status: 202 });
  const [{ note }] = (await sql`select note from mine where id = 1`) as unknown as [{ note: string }];
  t.strictSame(note.trim().split(' '), [...Array(12).fill('42501'), 'done', 'done', 'done'], 'the owner of one table');
  t.match(await sql`select from theirs`, { length: 0 });
  t.match(
    [...(await sql`select * from collecta.broken_inbound_endpoints()`)],
    [{ inbound_endpoint_id: mine!.inbound_endpoint_id }],
  );
  t.match(
    [...(await sql`select severity, subject from collecta.health where problem like 'inbound function%'`)],
    [{ severity: 'error', subject: mine!.inbound_endpoint_id }],
  );
  // The next request repairs it at once, and nothing has run with other rights.
  t.match(await post(receiving.port, mine!.path, { id: 1, sku: 'y' }), { status: 202 });
  await sql`drop trigger attack on mine`;
  t.match(await post(receiving.port, mine!.path, { id: 2, sku: 'y' }), { status: 202 });
  t.match(await post(receiving.port, theirs!.path, { id: 1, sku: 'z' }), { status: 202 });
  // maintain repairs it too, for an endpoint that receives no requests.
  await sql.unsafe(`set role ${writer}; drop function collecta.write_inbound_2(json[], int) cascade; reset role`);
  t.equal((await sql`select * from collecta.broken_inbound_endpoints()`).length, 1);
  await sql`select collecta.maintain_inbound('[]')`;
  t.equal((await sql`select * from collecta.broken_inbound_endpoints()`).length, 0);
  const [acl] = await sql`
    select count(*)::int as n from pg_proc p cross join lateral aclexplode(p.proacl) a
    where p.proname ~ '^(write|cast)_inbound_[0-9]+$' and a.grantee <> p.proowner`;
  t.equal(acl!.n, 0, 'and takes back what was granted');
  await receiving.stop();
});

t.test('a function that was altered runs nothing with the rights of its caller', async t => {
  const { sql } = await database();
  await sql.unsafe(`
    create table orders (id text primary key default gen_random_uuid()::text, sku text, seen text);
    create function look() returns trigger language plpgsql as $$ begin new.seen := current_user; return new; end $$;
    create trigger look before insert on orders for each row execute function look();
    select collecta.attach_module('orders', 'orders');`);
  const [made] = await sql`select * from collecta.create_inbound_endpoint('orders', '{"$.sku": "sku"}')`;
  await sql`alter function collecta.write_inbound_1(json[], int) security invoker set search_path = public`;
  const [outcome] = await sql`
    select status from collecta.receive_inbound(${made!.inbound_endpoint_id}, '{"sku": "a"}')`;
  t.equal(outcome!.status, 202, 'it is written anew');
  t.match([...(await sql`select seen from orders`)], [{ seen: 'collecta_writer' }]);
});

t.test('a request whose table code drops the writer’s functions or privileges is rolled back', async t => {
  const { sql } = await database();
  await sql.unsafe(`
    create table orders (id text primary key default gen_random_uuid()::text, sku text);
    select collecta.attach_module('orders', 'orders');
    create function spoil() returns trigger language plpgsql as $$
    begin drop owned by current_user cascade; return new; end $$`);
  const [made] = await sql`select * from collecta.create_inbound_endpoint('orders', '{"$.sku": "sku"}')`;
  const receive = async () => {
    const [outcome] = await sql`
      select status from collecta.receive_inbound(${made!.inbound_endpoint_id}, '{"sku": "a"}')`;
    return outcome;
  };
  for (const trigger of [
    'trigger spoil before insert on orders for each row',
    'trigger spoil after insert on orders for each row',
    'trigger spoil after insert on orders for each statement',
    'constraint trigger spoil after insert on orders deferrable initially deferred for each row',
  ]) {
    await sql.unsafe(`create ${trigger} execute function spoil()`);
    t.equal((await receive())!.status, 422, trigger);
    await sql`drop trigger spoil on orders`;
    t.equal((await sql`select * from collecta.broken_inbound_endpoints()`).length, 0);
    t.equal((await sql`select * from collecta.differing_grants()`).length, 0);
    t.equal((await receive())!.status, 202, 'the next one is written');
  }
});

t.test("a mapped scope column is part of every match: no tenant writes another's record", async t => {
  const { sql, url } = await database();
  await sql.unsafe(`
    create table parts (id int generated always as identity primary key, tenant_id text not null, sku text,
      quantity int);
    insert into parts (tenant_id, sku, quantity) values ('other', 'A', 1);
    select collecta.attach_module('parts', 'parts', scope_column => 'tenant_id');`);
  const [made] = await sql`
    select * from collecta.create_inbound_endpoint('parts',
      '{"sku": {"path": "$.sku"}, "quantity": {"path": "$.quantity"}, "tenant_id": {"constant": "acme"}}', '{sku}')`;
  const receiving = await startReceiving({ url, sql, name: '' });
  for (const quantity of [5, 6])
    t.match(await post(receiving.port, made!.path, { sku: 'A', quantity }), { status: 202 });
  t.strictSame(
    [...(await sql`select tenant_id, quantity from parts order by id`)],
    [
      { tenant_id: 'other', quantity: 1 },
      { tenant_id: 'acme', quantity: 6 },
    ],
  );
  // The key is unique over all tenants: the request is refused, and the other tenant’s record is unchanged.
  await sql`delete from parts where tenant_id = 'acme'`;
  await sql`create unique index on parts (sku)`;
  t.match(await post(receiving.port, made!.path, { sku: 'A', quantity: 7 }), { status: 422 });
  t.match([...(await sql`select tenant_id, quantity from parts`)], [{ tenant_id: 'other', quantity: 1 }]);
  await receiving.stop();
});

t.test("table code can leave a setting in the receiving process's session, as documented", async t => {
  const { sql } = await database();
  await sql.unsafe(`
    create table orders (id text primary key default gen_random_uuid()::text, sku text);
    create function leave() returns trigger language plpgsql as $$ begin
      perform set_config('work_mem', '123kB', false); return new; end $$;
    create trigger leave before insert on orders for each row execute function leave();
    select collecta.attach_module('orders', 'orders');`);
  const [made] = await sql`select * from collecta.create_inbound_endpoint('orders', '{"$.sku": "sku"}')`;
  const session = await sql.reserve();
  await session`
    select status from collecta.receive_inbound(${made!.inbound_endpoint_id}, '{"sku": "a"}')`;
  const [{ work_mem } = {}] = await session`show work_mem`;
  session.release();
  t.equal(work_mem, '123kB');
});
