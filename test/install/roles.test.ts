import type { TransactionSql } from 'postgres';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { deliver } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';
import { makeModule, post, startReceiving } from '../support/inbound.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';

const { server, admin, connect, database } = await useServer();

const roles = ['owner', 'capture', 'writer', 'viewer', 'dispatcher', 'inbound', 'reader', 'operator'].map(
  name => `collecta_${name}`,
);

/** Runs a statement as the current role and rolls it back. Returns its SQLSTATE, or ZZ000 if it succeeded. */
const attempt = `
  create function public.attempt(statement text) returns text language plpgsql as $$
  begin
    execute statement;
    raise exception using errcode = 'ZZ000';
  exception when others then
    return sqlstate;
  end $$`;

async function as<T>(sql: Sql, role: string, work: (tx: TransactionSql) => Promise<T>): Promise<T> {
  return (await sql.begin(async tx => {
    await tx.unsafe(`set local role ${role}`);
    return await work(tx as unknown as TransactionSql);
  })) as T;
}

async function login(name: string, memberOf = ''): Promise<(database: string) => string> {
  await admin.unsafe(`create role ${name} login password 'x' ${memberOf && `in role ${memberOf}`}`);
  return database => server.url(database).replace('postgres:postgres@', `${name}:x@`);
}

const stranger = 'stranger';
await login(stranger);

t.test('every role may use exactly the objects that collecta.designed_grants() lists', async t => {
  const { sql } = await database();
  await sql.unsafe(`
    ${attempt};
    grant temporary on database ${(await sql`select current_database() as name`)[0]!.name} to public;
    create table orders (id int primary key, name text);
    select collecta.attach_module('orders', 'orders');
    select collecta.create_endpoint('https://example.com/', '{record_created,record_updated,record_deleted}');
    select collecta.create_inbound_endpoint('orders', '{"id": {"path": "$.id"}, "$.name": "name"}', '{id}')`);
  const designed = new Map<string, Set<string>>();
  for (const { kind, object, privilege, grantee } of await sql`select * from collecta.designed_grants()`) {
    const key = `${privilege} ${kind === 'function' ? 'function' : 'relation'} ${object}`;
    designed.set(key, (designed.get(key) ?? new Set()).add(grantee));
  }
  const functions = await sql`
    select proname as name, oid::regprocedure::text as signature, oid::text, proisstrict as strict,
      proowner::regrole::text as owner,
      prorettype = 'trigger'::regtype as trigger,
      format('select %s(%s)', oid::regproc, (select string_agg('null::' || format_type(a, null), ', ')
        from unnest(proargtypes::oid[]) a)) as call
    from pg_proc where pronamespace::regnamespace::text in ('collecta', 'collecta_modules', 'collecta_rows')
      and prokind = 'f' order by 1`;
  const relations = await sql`
    select relname as name, oid::regclass::text as relation, oid::text, relkind as kind,
      relowner::regrole::text as owner
    from pg_class where relnamespace = 'collecta'::regnamespace and relkind not in ('i', 'I', 'c') order by 1`;
  t.ok(functions.length > 50 && relations.length > 20);

  for (const role of [...roles, stranger])
    await as(sql, role, async tx => {
      const allowed = async (statement: string) =>
        (await tx`select public.attempt(${statement}) as code`)[0]!.code !== '42501';
      const owner = role === 'collecta_owner';
      const granted = (privilege: string, object: string) => {
        const grantees = designed.get(`${privilege} ${object}`);
        // An operator is a member of collecta_reader.
        return grantees?.has(role) || (role === 'collecta_operator' && grantees?.has('collecta_reader')) || false;
      };
      await tx.unsafe('create temporary table mine (id int) on commit drop');
      for (const { name, signature, oid, strict, trigger, call, owner: functionOwner } of functions) {
        const expected =
          owner ||
          functionOwner === role ||
          (signature.startsWith('collecta_rows.') && role === 'collecta_capture') ||
          granted('EXECUTE', `function ${name}`);
        const [row] = await tx`select has_function_privilege(${oid}::text::oid, 'execute') as may`;
        t.equal(row!.may, expected, `${role}: execute ${signature}`);
        if (strict) continue; // a strict function is not called with a null argument
        const statement = trigger
          ? `create trigger forged after insert on mine for each statement execute function ${signature}`
          : call;
        // The owner of a generated function cannot use the schema that it is in, and so cannot alter it.
        const found = owner || !signature.startsWith('collecta_modules.');
        t.equal(await allowed(statement), expected && found, `${role}: ${statement}`);
        if (functionOwner === role && !owner && !found)
          t.notOk(await allowed(`alter function ${signature} security invoker`), `${role}: alter ${signature}`);
      }
      for (const { name, relation, oid, kind, owner: relationOwner } of relations) {
        const expected = (privilege: string) =>
          owner || relationOwner === role || granted(privilege.toUpperCase(), `relation ${name}`);
        const check = async (privilege: string, statement: string) =>
          t.equal(await allowed(statement), expected(privilege), `${role}: ${statement}`);
        if (kind === 'S') await check('usage', `select nextval('${relation}')`);
        else await check('select', `select r from ${relation} r limit 0`);
        if (kind === 'S' || kind === 'v' || kind === 'm') continue;
        await check('insert', `insert into ${relation} default values`);
        await check('delete', `delete from ${relation} where false`);
        await check('truncate', `truncate ${relation}`);
        for (const privilege of ['update', 'references', 'trigger']) {
          const [row] = await tx`select has_any_column_privilege(${oid}::text::oid,
                ${privilege === 'trigger' ? 'update' : privilege})
                  or has_table_privilege(${oid}::text::oid, ${privilege}) as may`;
          t.equal(row!.may, expected(privilege), `${role}: ${privilege} on ${relation}`);
        }
      }
      t.equal(await allowed('select change_id from collecta.outbox'), owner, role);
      t.equal(await allowed('select old from collecta.outbox'), owner, role);
      t.equal(await allowed('create table collecta.mine (id int)'), owner, `${role}: create in the schema`);
    });
});

t.test('nothing is public, whatever the default privileges were', async t => {
  const { url, sql } = await database('empty');
  await sql.unsafe(`
    create role analyst nologin;
    alter default privileges grant all on tables to analyst, public;
    alter default privileges for role collecta_owner grant select on tables to analyst;
    alter default privileges grant execute on functions to public, analyst`);
  await migrate(url);
  const open = await sql`
    select p.oid::regprocedure::text as name from pg_proc p
      cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    where p.pronamespace = 'collecta'::regnamespace and a.grantee = 0`;
  t.strictSame([...open], []);
  for (const table of ['endpoint_secrets', 'inbound_secrets'])
    await t.rejects(
      as(sql, 'analyst', tx => tx.unsafe(`select * from collecta.${table}`)),
      { code: '42501' },
    );
  const searchPaths = await sql`
    select p.oid::regprocedure::text as name from pg_proc p
    where p.pronamespace = 'collecta'::regnamespace and p.prosecdef
      and not coalesce(p.proconfig, '{}') @> '{"search_path=pg_catalog, pg_temp"}'`;
  t.strictSame([...searchPaths], [], 'every definer function has temporary objects last');
});

t.test('each role does its job with its own login and cannot read secrets', async t => {
  const target = await database();
  const { sql } = target;
  await makeModule(sql);
  const receiver = await startReceiver();
  const outbound = await createEndpoint(sql, receiver, '/job', {
    answers: [500, 200],
    retry_max: 0,
    name: 'job',
    headers: { Authorization: 'Bearer hush' },
  });
  const [inbound] = await sql`
    select * from collecta.create_inbound_endpoint('work-orders', '{"$.sku": "product_code"}',
      secret => 'typed-by-hand')`;
  const urls = {
    dispatcher: (await login('only_dispatcher', 'collecta_dispatcher'))(target.name),
    inbound: (await login('only_inbound', 'collecta_inbound'))(target.name),
    reader: (await login('only_reader', 'collecta_reader'))(target.name),
    operator: (await login('only_operator', 'collecta_operator'))(target.name),
  };

  const runner = await startRunner(urls.dispatcher);
  const receiving = await startReceiving({ ...target, url: urls.inbound });
  const open = await sql`select * from collecta.create_inbound_endpoint('work-orders', '{"$.sku": "product_code"}')`;
  t.equal((await post(receiving.port, open[0]!.path, { sku: 'A' })).status, 202);
  await until(
    'it is exhausted',
    async () => (await sql`select from collecta.webhook_deliveries where outcome = 'exhausted'`).length === 1,
  );
  await runner.stop();
  t.strictSame(
    runner.log.filter(({ level }) => level === 'error' || level === 'warn'),
    [],
  );

  const reader = connect(urls.reader);
  const seen: string[] = [];
  const readable = await sql`
    select object from collecta.designed_grants() where kind = 'relation' and grantee = 'collecta_reader'`;
  t.ok(readable.length > 15);
  for (const { object: name } of readable)
    seen.push(JSON.stringify(await reader.unsafe(`select * from collecta.${name}`)));
  const all = seen.join('\n');
  t.ok(all.includes(outbound.id) && all.includes('record_created') && all.includes('exhausted'), 'history is there');
  const token = (path: string) => path.split('/').at(-1)!;
  const [hash] = await sql`select token_hash from collecta.inbound_secrets where secret is not null`;
  for (const secret of [
    outbound.secret,
    'typed-by-hand',
    'hush',
    token(inbound!.path),
    token(open[0]!.path),
    hash!.token_hash,
  ])
    t.notOk(all.includes(secret), `no ${secret.slice(0, 8)}…`);
  t.strictSame((await reader`select headers from collecta.endpoints`)[0]!.headers, { Authorization: '***' });
  const [{ id } = {}] = await reader`select id from collecta.webhook_deliveries`;
  await t.rejects(reader`select collecta.replay_delivery(${id})`, { code: '42501' });

  const operator = connect(urls.operator);
  await operator`select collecta.pause_endpoint(${outbound.id}, 'repair')`;
  t.match(await operator`select problem from collecta.health where subject = ${outbound.id}`, [
    { problem: 'endpoint is paused' },
  ]);
  await operator`select collecta.resume_endpoint(${outbound.id})`;
  await operator`select collecta.replay_delivery(${id})`;
  await operator`select collecta.send_test_event(${outbound.id})`;
  await operator`select collecta.route_again()`;
  await operator`select collecta.pause_inbound_endpoint(${inbound!.inbound_endpoint_id})`;
  await operator`select collecta.resume_inbound_endpoint(${inbound!.inbound_endpoint_id})`;
  await operator`select * from collecta.test_inbound_mapping(${inbound!.inbound_endpoint_id}, '{"sku": "A"}')`;
  await operator`select collecta.retry_inbound(${inbound!.inbound_endpoint_id})`;
  for (const statement of [
    `select collecta.rotate_secret('${outbound.id}')`,
    `select collecta.update_endpoint('${outbound.id}', url => 'https://evil.example/')`,
    `select collecta.create_endpoint('https://evil.example/', '{record_created}')`,
    'update collecta.settings set retention = default',
    'delete from collecta.delivery_queue',
    'delete from collecta.events',
    'select * from collecta.claim_deliveries(1)',
  ])
    await t.rejects(operator.unsafe(statement), { code: '42501' }, statement);
  const again = await startRunner(urls.dispatcher);
  await until(
    'replay and test are delivered',
    async () => (await reader`select from collecta.webhook_deliveries where outcome = 'delivered'`).length === 2,
  );
  await Promise.all([again.stop(), receiving.stop()]);
});

t.test('other roles cannot attach a capture function to their own tables', async t => {
  const { sql, name } = await database();
  await sql.unsafe(`
    create table orders (id int primary key); select collecta.attach_module('orders', 'orders');
    select collecta.create_endpoint('https://example.com/', '{record_created}');
    create schema strangers authorization ${stranger};
    create table strangers.forged (id int primary key);
    alter table strangers.forged owner to ${stranger};
    grant all on orders to ${stranger}; grant usage on schema collecta to ${stranger}`);
  const forged = connect(server.url(name).replace('postgres:postgres@', `${stranger}:x@`));
  const trigger = (on: string) =>
    `create trigger forged after insert on ${on} referencing new table as new_rows for each statement
      execute function collecta_modules.capture_1_insert()`;
  await t.rejects(forged.unsafe(trigger('strangers.forged')), { code: '42501' });
  await t.rejects(forged.unsafe(trigger('orders')), { code: '42501' }, 'not even where it is attached');
  await t.rejects(forged`select collecta.attach_module('strangers.forged', 'forged')`, { code: '42501' });
  await t.rejects(forged`insert into collecta.outbox (version, operation, captured_at) values (1, 'I', now())`, {
    code: '42501',
  });
  await forged`insert into orders values (1)`;
  await forged`insert into strangers.forged values (2)`;
  t.strictSame(
    (await sql`select new from collecta.outbox`).map(row => row.new),
    [{ id: 1 }],
    'an ordinary writer is captured',
  );
});

t.test('row security applies to the history, and no event is lost because of it', async t => {
  const { sql, name } = await database();
  await sql.unsafe(`
    create role table_owner nologin; create role tenant_a login password 'x';
    create role tenant_reader nologin in role collecta_reader;
    create table plain (id int primary key, name text);
    create table secured (id int primary key, tenant text not null, name text);
    alter table secured owner to table_owner;
    alter table secured enable row level security; alter table secured force row level security;
    create policy own_rows on secured using (tenant = current_user) with check (tenant = current_user);
    grant all on plain, secured to tenant_a;
    select collecta.attach_module('plain', 'plain');
    select collecta.create_endpoint('https://example.com/', '{record_created,record_updated,record_deleted}')`);
  await t.rejects(
    sql`select collecta.attach_module('secured', 'secured')`,
    { code: 'CW002' },
    'TRUNCATE could lose events',
  );
  await sql`select collecta.attach_module('secured', 'secured', on_truncate => 'ignore')`;
  const tenant = connect(server.url(name).replace('postgres:postgres@', 'tenant_a:x@'));
  await tenant`insert into secured values (1, 'tenant_a', 'classified')`;
  await tenant`update secured set name = 'classified too'`;
  await tenant`delete from secured`;
  // pg_restore sets this in its session. The tables' own policies do not apply to a superuser.
  await sql.begin(async tx => {
    await tx`set local row_security = off`;
    await tx`insert into secured values (2, 'other', 'classified')`;
  });
  await tenant.begin(async tx => {
    await tx`set local row_security = off`;
    await tx`insert into plain values (1, 'public')`;
  });
  t.equal((await sql`select count(*)::int as n from collecta.outbox`)[0]!.n, 5, 'everything is captured');
  t.equal((await deliver(sql)).length, 5);
  await sql`insert into collecta.unrouted (change_id, module, reason, old)
    values (1, 'secured', 'x', '"classified"'), (2, 'plain', 'x', '"public"')`;

  for (const role of ['collecta_reader', 'collecta_operator', 'tenant_reader'])
    await as(sql, role, async tx => {
      const deliveries = await tx`select module, request_body from collecta.webhook_deliveries order by module, event`;
      t.strictSame(
        deliveries.map(row => [row.module, row.request_body === null]),
        [
          ['plain', false],
          [null, true],
          [null, true],
          [null, true],
          [null, true],
        ],
        role,
      );
      t.strictSame(
        (await tx`select distinct module from collecta.events`).map(row => row.module),
        ['plain'],
      );
      t.strictSame(
        (await tx`select distinct module from collecta.unrouted`).map(row => row.module),
        ['plain'],
      );
      t.strictSame(
        (await tx`select slug from collecta.row_secured_modules`).map(row => row.slug),
        ['secured'],
      );
      const shown = await Promise.all(
        ['webhook_deliveries', 'events', 'unrouted', 'health'].map(async view =>
          JSON.stringify(await tx.unsafe(`select * from collecta.${view}`)),
        ),
      );
      t.notMatch(shown.join(''), 'classified');
      await t.rejects(
        tx.savepoint(nested => nested`select old from collecta.outbox`),
        { code: '42501' },
      );
    });
  t.equal(
    (await sql`select from collecta.webhook_deliveries where request_body like '%classified%'`).length,
    4,
    'to whom it does not apply sees all',
  );
  await sql.unsafe('grant table_owner to tenant_reader');
  await sql.unsafe('alter table secured no force row level security');
  await as(sql, 'tenant_reader', async tx =>
    t.equal(
      (await tx`select from collecta.webhook_deliveries where request_body like '%classified%'`).length,
      4,
      'the table’s owner does',
    ),
  );
});

for (const [kind, options] of [
  ['who can create roles', 'createrole'],
  ['who cannot create roles', 'nocreaterole'],
] as const)
  t.test(`an installer without superuser and ${kind} can install and run everything`, async t => {
    const other = await useServer();
    const { name, sql: superuser } = await other.database('empty');
    await other.admin.unsafe(`create role installer login password 'x' ${options}; create role app login password 'x'`);
    await superuser.unsafe(
      `grant create on database ${name} to installer; grant create, usage on schema public to installer`,
    );
    const url = other.server.url(name).replace('postgres:postgres@', 'installer:x@');
    const notices: string[] = [];
    await migrate(url, { onNotice: ({ message, hint }) => notices.push(`${message} ${hint}`) });
    const made = await superuser`select rolname from pg_roles where rolname like 'collecta%' order by 1`;
    if (options === 'createrole') {
      t.strictSame(notices, []);
      t.equal(made.length, roles.length);
    } else {
      t.equal(made.length, 0);
      for (const role of roles)
        t.ok(
          notices.some(notice => notice.includes(`role ${role} was skipped`) && notice.includes(`create role ${role}`)),
          role,
        );
    }
    const sql = other.connect(url);
    await makeModule(sql);
    const receiver = await startReceiver();
    await createEndpoint(sql, receiver, `/installer-${options}`);
    const open = await sql`select * from collecta.create_inbound_endpoint('work-orders', '{"$.sku": "product_code"}',
      '{product_code}')`;
    await sql.unsafe(
      'grant usage on schema public to app; grant select, insert, update, truncate on work_orders to app',
    );
    const app = other.connect(other.server.url(name).replace('postgres:postgres@', 'app:x@'));
    await app`insert into work_orders (id, product_code) values ('r1', 'B')`;
    await app`update work_orders set status = 'done'`;
    const runner = await startRunner(url, { command: 'run', env: { COLLECTA_PORT: '0' } });
    const { port } = (await runner.logged('inbound listens')) as unknown as { port: number };
    t.equal((await post(port, open[0]!.path, { sku: 'A' })).status, 202);
    await until('all is delivered', () => receiver.to(`/installer-${options}`).length === 4);
    await app`truncate work_orders`;
    await until('the truncated ones too', () => receiver.to(`/installer-${options}`).length === 6);
    for (const statement of [
      'select * from collecta.endpoint_secrets',
      'select * from collecta.claim_deliveries(1)',
      'select * from collecta.webhook_deliveries',
    ])
      await t.rejects(app.unsafe(statement), { code: '42501' }, statement);
    await runner.stop();
  });
