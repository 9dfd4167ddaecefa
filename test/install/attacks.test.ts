import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer, connect as netConnect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { uninstallCommand } from '../../src/install/uninstall.ts';
import { type Database, freePort, useServer } from '../support/database.ts';
import { startRunner, until } from '../support/runner.ts';

const run = promisify(execFile);
const { server, admin, connect, database } = await useServer();

/** A login that may create objects in the schema public of every database, as every login may on PostgreSQL 14. */
await admin.unsafe(`create role mallory login password 'x'`);
const asMallory = (target: Database) => connect(server.url(target.name).replace('postgres:postgres@', 'mallory:x@'));

const psql = (url: string, ...args: string[]) =>
  run('psql', [url, '-X', '-v', 'ON_ERROR_STOP=1', ...args, '-f', 'sql/install.psql']);
const cli = (args: string[], url: string, env: Record<string, string> = {}) =>
  run(process.execPath, ['--import', 'tsx', 'src/cli.ts', ...args], {
    env: { PATH: process.env.PATH, DATABASE_URL: url, ...env },
  });

/** All SQL that this project runs: the shipped files and the SQL in src. */
function ourSql(): string {
  const read = (folder: string, ending: RegExp) =>
    (readdirSync(folder, { recursive: true }) as string[])
      .filter(name => ending.test(name))
      .map(name => readFileSync(join(folder, name), 'utf8'));
  return [...read('sql', /\.(sql|psql)$/), ...read('src', /\.ts$/)].join('\n');
}

/**
 * For every function and operator of pg_catalog that our SQL uses, mallory creates others in public with the same name
 * and with argument types that match some call better. A trap that is called counts the call in a sequence, which a
 * rollback does not undo, and raises an error with its name.
 */
async function plantTraps(target: Database) {
  await target.sql.unsafe(`
    grant usage, create on schema public to mallory;
    create sequence public.sprung; grant all on sequence public.sprung to public`);
  const mallory = asMallory(target);
  const names = new Set([...ourSql().matchAll(/\b([a-z_][a-z0-9_]*)\(/g)].map(([, name]) => name as string));
  const [{ functions, operators } = {}] = await mallory
    .unsafe<{ functions: number; operators: number }[]>(
      `create function pg_temp.plant(names text[]) returns table (functions int, operators int) language plpgsql
        set search_path = pg_catalog, pg_temp as $plant$
     declare
       types constant regtype[] := '{text,name,int,bigint,oid,regclass,timestamptz,interval,numeric}';
       operands constant regtype[] := types ||
         '{json,jsonb,boolean,"\\"char\\"",text[],float8,xid8,smallint,regrole,regnamespace}'::regtype[];
       wanted record;
       body constant text :=
         'begin perform pg_catalog.nextval(''public.sprung''); raise exception ''sprung: %'', %L; end';
     begin
       functions := 0; operators := 0;
       for wanted in
         select distinct p.proname as name, arguments.list
         from pg_proc p
         cross join lateral (
           select array[a] as list from unnest(types) a
           union all
           select array[a, b] from unnest(types) a cross join unnest(types) b
             where p.pronargs >= 2 or p.provariadic <> 0
           union all
           select array['text', a, b]::regtype[]
             from unnest('{text,int,boolean}'::regtype[]) a cross join unnest('{text,int,boolean}'::regtype[]) b
           where p.pronargs >= 3 or p.provariadic <> 0
         ) arguments
         where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and p.proname = any (names)
           and not exists (select from pg_proc q where q.pronamespace = 'pg_catalog'::regnamespace
                           and q.proname = p.proname and q.proargtypes::oid[] = arguments.list::oid[])
       loop
         execute format('create function public.%I(%s) returns text language plpgsql as %L', wanted.name,
           array_to_string(wanted.list, ', '), replace(body, '%L', quote_literal(wanted.name)));
         functions := functions + 1;
       end loop;
       for wanted in
         select distinct o.oprname as name, a as left_type, b as right_type
         from pg_operator o cross join unnest(operands) a cross join unnest(operands) b
         where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprkind = 'b'
           and o.oprname in ('=', '<>', '<', '>', '<=', '>=', '||', '+', '-', '*', '/', '%', '~', '!~', '~*', '->',
           '->>', '#>>', '&&', '@>', '?', '~~')
           and not exists (select from pg_operator q where q.oprnamespace = 'pg_catalog'::regnamespace
                           and q.oprname = o.oprname and q.oprleft = a and q.oprright = b)
       loop
         execute format('create or replace function public.%I(%s, %s) returns boolean language plpgsql as %L',
           'operator_' || translate(md5(wanted.name), '-', ''), wanted.left_type, wanted.right_type,
           replace(body, '%L', quote_literal(wanted.name || ' ' || wanted.left_type || ' ' || wanted.right_type)));
         execute format('create operator public.%s (function = public.%I, leftarg = %s, rightarg = %s)',
           wanted.name, 'operator_' || translate(md5(wanted.name), '-', ''), wanted.left_type, wanted.right_type);
         operators := operators + 1;
       end loop;
       return next;
     end $plant$;
     select * from pg_temp.plant('{${[...names].join(',')}}')`,
    )
    .then(results => (results as unknown as { functions: number; operators: number }[][])[1] ?? []);
  t.ok(functions! > 2000 && operators! > 1000, `${functions} functions and ${operators} operators are planted`);
  // The traps work: a call that should reach one does.
  const victim = connect(target.url, { max: 1 });
  const [before] = await victim`select is_called from public.sprung`;
  t.equal(before!.is_called, false);
  await t.rejects(victim`select format('%s'::text, 'x'::text)`, /sprung: format/);
  await victim`select pg_catalog.setval('public.sprung', 1, false)`;
  return async (step: string) => {
    const [now] = await victim`select is_called from public.sprung`;
    t.equal(now!.is_called, false, `${step} springs no trap`);
    await victim`select pg_catalog.setval('public.sprung', 1, false)`;
  };
}

t.test('functions and operators planted in public are never called by install, commands or runner', async t => {
  for (const way of ['migrate', 'psql'] as const) {
    const target = await database('empty');
    const check = await plantTraps(target);
    if (way === 'migrate') await cli(['migrate'], target.url);
    else await psql(target.url);
    await check(way);
    if (way === 'psql') continue;
    await migrate(target.url);
    await check('migrate again');
    const sql = connect(target.url, { max: 1 });
    await sql`create table public.orders (id int primary key, status text, tenant text)`;
    await sql`select collecta.attach_module('public.orders', 'orders', 'status')`;
    const [endpoint] = await sql`
      select * from collecta.create_endpoint(${`http://127.0.0.1:${await freePort()}/`},
        '{record_created,record_updated,record_deleted}')`;
    await sql`select * from collecta.create_inbound_endpoint('orders',
        '{"id": {"path": "$.id"}, "$.status": "status"}', '{id}')`;
    await sql`insert into public.orders values (1, 'open', 'a'), (2, 'open', 'b')`;
    await sql`update public.orders set status = 'done'`;
    await sql`select * from collecta.health`;
    await sql`select * from collecta.webhook_deliveries`;
    await check('everyday SQL');

    await runFor(target);
    await check('run');
    for (const args of [
      ['migrate', '--check'],
      ['doctor'],
      ['seal'],
      ['create-endpoint', 'https://example.com/', '--events', 'record_created'],
      ['rotate-secret', endpoint!.endpoint_id as string],
    ]) {
      const env = args[0] === 'seal' ? { COLLECTA_SECRET_KEY: Buffer.alloc(32, 7).toString('base64') } : {};
      await cli(args, target.url, env).catch(error => t.notMatch(String(error.stderr), 'sprung', args.join(' ')));
      await check(args.join(' '));
    }
    await uninstallCommand(target.url, false, () => {});
    await uninstallCommand(target.url, true, () => {});
    await check('uninstall');
  }
});

/**
 * Runs a runner with inbound and operations, a scrape of its metrics, and a tail, until all queued deliveries have been
 * attempted.
 */
async function runFor(target: Database) {
  const operations = await freePort();
  const runner = await startRunner(target.url, {
    command: 'run',
    env: { COLLECTA_PORT: '0', COLLECTA_OPERATIONS_PORT: String(operations) },
  });
  const tail = startRunner(target.url, { command: 'tail' });
  await until('attempts', async () => (await target.sql`select from collecta.delivery_attempts`).length >= 2);
  const scrape = await fetch(`http://127.0.0.1:${operations}/metrics`);
  t.equal(scrape.status, 200);
  t.match(await scrape.text(), /collecta_endpoints/);
  const following = await tail;
  await until('the tail has printed', () => following.output().includes('record_created'));
  await following.stop();
  await runner.stop();
  t.notMatch(runner.output() + following.output(), 'sprung');
}

t.test('a pooler that refuses startup parameters works where nobody else can create functions', async t => {
  const target = await database('empty');
  await target.sql`revoke create on schema public from public`; // the default since PostgreSQL 15
  const refused: string[] = [];
  // This does what pgbouncer does without ignore_startup_parameters, and passes everything else on.
  const pooler = createServer(client => {
    client.once('data', first => {
      const names = first
        .subarray(8)
        .toString('latin1')
        .split('\0')
        .filter((_, place) => place % 2 === 0);
      const unknown = names.find(name => name === 'search_path' || name === 'options');
      if (unknown) {
        refused.push(unknown);
        const fields = `SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: ${unknown}\0\0`;
        const answer = Buffer.alloc(5 + fields.length);
        answer.write(`E`, 0);
        answer.writeInt32BE(4 + fields.length, 1);
        answer.write(fields, 5);
        return void client.end(answer);
      }
      const upstream = netConnect(server.port, '127.0.0.1', () => upstream.write(first));
      client.pipe(upstream).pipe(client);
      client.on('error', () => upstream.destroy());
      upstream.on('error', () => client.destroy());
    });
  });
  await new Promise<void>(done => pooler.listen(0, '127.0.0.1', done));
  t.teardown(() => pooler.close());
  const { port } = pooler.address() as AddressInfo;
  const url = `${target.url.replace(`:${server.port}/`, `:${port}/`)}?sslmode=disable`;
  t.match(await cli(['migrate'], url), { stdout: /is up to date/ });
  t.match(await cli(['doctor'], url).catch(error => error), { stdout: /collecta is up to date/ });
  t.ok(refused.includes('search_path'));
  const runner = await startRunner(url, { command: 'dispatch' });
  await target.sql.unsafe(`
    create table orders (id int primary key); select collecta.attach_module('orders', 'orders');
    select collecta.create_endpoint('http://127.0.0.1:${await freePort()}/', '{record_created}');
    insert into orders values (1)`);
  await until('an attempt', async () => (await target.sql`select from collecta.delivery_attempts`).length > 0);
  await runner.stop();

  // If others may create functions in a schema of the login's search_path, nothing is run.
  await target.sql`grant create on schema public to mallory`;
  const seen: string[] = [];
  for (const command of ['doctor', 'dispatch', 'migrate']) {
    const ended = await cli([command], url).catch(error => error);
    seen.push(`${ended.code} ${ended.stdout} ${ended.stderr}`);
    t.match(
      seen.at(-1),
      /^[12] .*look names up in the schema public.*alter role \\?"postgres\\?" set search_path/s,
      command,
    );
  }
  await target.sql.unsafe(`alter role postgres in database ${target.name} set search_path = pg_catalog, pg_temp`);
  t.match(await cli(['doctor'], url).catch(error => error), { stdout: /collecta is up to date/ }, 'mended as it said');
});

t.test('a schema that is foreign or holds foreign objects is refused by name, by CLI and psql', async t => {
  const refuses = async (target: Database, found: RegExp) => {
    await t.rejects(migrate(target.url), { code: 'CW041', message: found });
    t.match(String(await psql(target.url).catch(error => error.stderr)), found);
  };
  const mine = await database('empty');
  await mine.sql.unsafe(`
    create schema collecta authorization mallory;
    create table collecta.migrations (filename text primary key, hash text, previous_hash text,
      applied_at timestamptz default now());
    create function collecta.let_capture_read(oid) returns void language sql as 'select';
    alter table collecta.migrations owner to mallory; alter function collecta.let_capture_read owner to mallory`);
  await refuses(mine, /the schema collecta belongs to mallory/);

  const holds = await database('empty');
  await holds.sql.unsafe(
    `create schema collecta; create function collecta.let_capture_read(oid) returns void language sql as 'select'`,
  );
  await refuses(holds, /the schema collecta holds what is not of this install/);
  await holds.sql`drop function collecta.let_capture_read(oid)`;
  await migrate(holds.url);

  // Default privileges let mallory create objects in every schema that the installer creates. After the install mallory
  // may not.
  const created = await database('empty');
  await created.sql.unsafe('alter default privileges grant all on schemas to mallory');
  await migrate(created.url);
  await t.rejects(
    asMallory(created).unsafe(`create function collecta.let_capture_read(oid) returns void language sql as 'select'`),
    { code: '42501' },
  );
  await created.sql.unsafe(`
    grant usage, create on schema collecta to mallory; set role mallory;
    create function collecta.let_capture_read(oid) returns void language sql as 'select'; reset role`);
  t.match(await created.sql`select problem from collecta.health order by 1`, [
    { problem: 'objects have the wrong owner' },
    { problem: 'privileges are not as designed' },
  ]);
  await refuses(created, /the schema collecta holds what is not of this install/);
  await created.sql`drop function collecta.let_capture_read(oid)`;
  await migrate(created.url);
  t.strictSame([...(await created.sql`select * from collecta.health`)], []);

  for (const schema of ['collecta_modules', 'collecta_rows']) {
    const other = await database('empty');
    await other.sql.unsafe(`create schema ${schema} authorization mallory`);
    await refuses(other, new RegExp(`the schema ${schema} belongs to mallory`));
  }
});

for (const installer of ['superuser', 'installer without CREATEROLE'] as const)
  t.test(`default privileges and later grants give nobody access; ${installer}`, async t => {
    const alone = await useServer();
    const target = await alone.database('empty');
    await alone.admin.unsafe(`
      create role app login password 'x'; create role installer login password 'x';
      grant create on database ${target.name} to installer`);
    const who = installer === 'superuser' ? 'postgres:postgres' : 'installer:x';
    const url = target.url.replace('postgres:postgres', who);
    const sql = alone.connect(url);
    await sql.unsafe(`
      alter default privileges grant all on tables to app, public;
      alter default privileges grant all on sequences to app, public;
      alter default privileges grant all on functions to app, public;
      alter default privileges grant all on types to app, public;
      alter default privileges grant all on schemas to app, public`);
    const rights = () => target.sql<{ object: string; grantee: string }[]>`
      select object, case grantee when 0 then 'public' else grantee::regrole::text end as grantee
      from (
        select c.oid::regclass::text as object, a.grantee from pg_class c cross join lateral aclexplode(c.relacl) a
        where c.relnamespace::regnamespace::text like 'collecta%'
        union
        select c.oid::regclass || '.' || attname, a.grantee
        from pg_class c join pg_attribute on attrelid = c.oid cross join lateral aclexplode(attacl) a
        where c.relnamespace::regnamespace::text like 'collecta%'
        union
        select p.oid::regprocedure::text, a.grantee
        from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace::regnamespace::text like 'collecta%'
        union
        select n.nspname, a.grantee from pg_namespace n cross join lateral aclexplode(n.nspacl) a
          where n.nspname like 'collecta%'
      ) granted
      where grantee = 0 or grantee::regrole::text = 'app' order by 1, 2`;
    await migrate(url);
    t.strictSame([...(await rights())], [], 'after the install');
    await target.sql.unsafe(
      'create table orders (id int primary key, name text); alter table orders owner to installer',
    );
    await sql.unsafe(`
      select collecta.attach_module('public.orders', 'orders');
      select collecta.create_endpoint('https://example.com/', '{record_created,record_updated,record_deleted}');
      select collecta.create_inbound_endpoint('orders', '{"id": {"path": "$.id"}, "$.name": "name"}', '{id}')`);
    t.strictSame([...(await rights())], [], 'after functions are written');
    await sql.unsafe(`
      do $$ begin execute format('drop table collecta.%I', to_char(now() at time zone 'UTC' + interval '3 days',
      '"events_"YYYYMMDD')); end $$;
      select * from collecta.maintain()`);
    t.strictSame([...(await rights())], [], 'after a partition is made');
    t.strictSame([...(await target.sql`select problem from collecta.health where severity = 'error'`)], []);

    for (const [way, mend] of [
      ['migrate, when all is up to date', () => migrate(url)],
      ['install.psql again', () => psql(url)],
      ['restore_grants', () => target.sql`select * from collecta.restore_grants()`],
    ] as const) {
      await target.sql.unsafe(`
        grant all on all tables in schema collecta to app; grant all on all functions in schema collecta to app, public;
        grant all on all sequences in schema collecta to app; grant create on schema collecta to app, public;
        grant select (secret) on collecta.endpoint_secrets to public;
        grant select on collecta.events to app with grant option;
        revoke all on collecta.settings
          from ${installer === 'superuser' ? 'collecta_owner, collecta_dispatcher' : 'installer'}`);
      const problem = 'privileges are not as designed';
      t.equal((await target.sql`select from collecta.health where problem = ${problem}`).length, 1);
      await mend();
      t.strictSame(
        (await rights()).filter(({ grantee, object }) => grantee === 'public' || !/new_id/.test(object)),
        [],
        way,
      );
      t.strictSame([...(await target.sql`select problem from collecta.health where severity = 'error'`)], [], way);
    }
    // Privileges that a column's default needs are for the DBA to grant.
    await target.sql.unsafe(`grant usage on schema collecta to app; grant execute on function collecta.new_id to app`);
    await migrate(url);
    t.ok(
      await alone.connect(target.url.replace('postgres:postgres', 'app:x'))`select collecta.new_id('rec') as id`.then(
        rows => rows.length,
      ),
    );
  });

t.test('with separate roles for each database, the login of one cannot claim in another', async t => {
  const cluster = await useServer();
  const [shop, erp] = [await cluster.database('empty'), await cluster.database('empty')];
  await migrate(shop.url, { rolePrefix: 'shop_' });
  await psql(erp.url, '-v', 'role_prefix=erp_');
  t.strictSame(
    (
      await cluster.admin`select rolname from pg_roles where rolname ~ '^(shop|erp|collecta)_(owner|dispatcher)$'
        order by 1`
    ).map(row => row.rolname),
    ['erp_dispatcher', 'erp_owner', 'shop_dispatcher', 'shop_owner'],
  );
  await cluster.admin.unsafe(`create role shop_runner login password 'x' in role shop_dispatcher`);
  const as = (target: Database) => cluster.connect(target.url.replace('postgres:postgres', 'shop_runner:x'));
  await as(shop)`select * from collecta.claim_deliveries(1)`;
  await t.rejects(as(erp)`select * from collecta.claim_deliveries(1)`, { code: '42501' });
  for (const { sql } of [shop, erp]) t.strictSame([...(await sql`select * from collecta.health`)], []);
  await t.rejects(migrate(shop.url), { code: 'CW041' }, 'a later run has to name it too');
  await migrate(shop.url, { rolePrefix: 'shop_' });
  t.equal((await cluster.admin`select from pg_roles where rolname like 'collecta%'`).length, 0);
  await t.rejects(migrate(shop.url, { rolePrefix: 'other_' }), { code: 'CW041' });
  await t.rejects(migrate((await cluster.database('empty')).url, { rolePrefix: 'Bad prefix' }), { code: 'CW041' });
  await shop.sql.unsafe(`
    create table orders (id int primary key); select collecta.attach_module('orders', 'orders');
    select collecta.create_endpoint('https://example.com/', '{record_created}'); insert into orders values (1)`);
  t.equal((await shop.sql`select from collecta.outbox`).length, 1);
  t.match(
    await shop.sql`select distinct proowner::regrole::text as owner from pg_proc where proname ~ '^capture_1_insert'`,
    [{ owner: 'shop_capture' }],
  );
  await uninstallCommand(shop.url, true, () => {});
  t.equal((await cluster.admin`select from pg_roles where rolname in ('shop_owner', 'shop_capture')`).length, 0);
});

t.test('with shared roles, health names the logins that can claim in both; its hint prevents it', async t => {
  const cluster = await useServer();
  const [one, two] = [await cluster.database('empty'), await cluster.database('empty')];
  for (const { url } of [one, two]) await migrate(url);
  await cluster.admin.unsafe(`create role runner_one login password 'x' in role collecta_dispatcher`);
  const rows =
    await one.sql`select subject, hint from collecta.health where problem = 'a login can claim for two databases'`;
  t.match(rows, [{ subject: 'runner_one' }]);
  await two.sql.unsafe(rows[0]!.hint.replaceAll(one.name, two.name));
  for (const { sql } of [one, two])
    t.strictSame(
      [...(await sql`select * from collecta.health where problem = 'a login can claim for two databases'`)],
      [],
    );
});
