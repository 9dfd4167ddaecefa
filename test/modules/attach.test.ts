import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { brief, refusal, refuses, route, subscribe } from '../support/changes.ts';
import { type Sql, startServer, useServer } from '../support/database.ts';

const { database, connect, server, admin } = await useServer(['-c', 'wal_level=logical']);
const triggers = (sql: Sql) => sql<{ on: string; name: string }[]>`
  select tgrelid::regclass::text as on, tgname as name from pg_trigger where tgname like 'collecta_capture%'
    order by 1, 2`;

t.test('writers do not wait for calls that change other modules or subscriptions', async t => {
  const { sql } = await database();
  await sql`create table a (id int primary key)`;
  await sql`create table b (id int primary key)`;
  await sql`create table c (id int primary key)`;
  await sql`create table parted (id int primary key) partition by range (id)`;
  await sql`select collecta.attach_module('parted', 'parted')`;
  await sql`create table part partition of parted default`;
  await sql`select collecta.attach_module('a', 'a'), collecta.attach_module('b', 'b')`;
  const ids = await sql`
    select (collecta.create_endpoint('https://example.com/' || n, '{record_created}')).endpoint_id as id
    from generate_series(1, 2) n`;
  const holder = await sql.reserve();
  await holder`begin`;
  await holder`select collecta.create_endpoint('https://example.com/a', '{record_created}', modules => '{a}')`;
  const detaching = sql`select collecta.detach_module('b')`.execute();
  await pause(300);
  await sql.begin(async tx => {
    await tx`set local lock_timeout = '1s'`;
    await tx`insert into b values (1)`;
  });
  await holder`commit`;
  await detaching;

  // A writer's open transaction holds the table. The call gives up, so that other writers do not queue behind it.
  await holder`begin`;
  await holder`insert into a values (1)`;
  await holder`insert into c values (1)`;
  await holder`insert into part values (1)`;
  const refused = await refuses(t, sql`select collecta.detach_module('a')`, '55P03', 'the table is in use');
  t.match(await sql.unsafe(refused!.hint!), [{ state: 'idle in transaction' }]);
  await t.rejects(sql`select collecta.attach_module('c', 'c')`.execute(), { code: '55P03' });
  const partition = sql`select collecta.attach_partitions('parted')`;
  await refuses(t, partition, '55P03', 'a partition is in use');
  await holder`rollback`;

  // Each call locks subscriptions before rows, so these do not deadlock.
  await holder`begin`;
  await holder`select collecta.update_endpoint(${ids[0]!.id}, retry_max => 3)`;
  const deleting = sql`select collecta.delete_endpoint(${ids[1]!.id})`.execute();
  await pause(300);
  await holder`select collecta.update_endpoint(${ids[1]!.id}, retry_max => 3)`;
  await holder`commit`;
  holder.release();
  await deleting;
});

t.test('a table that cannot be attached is refused, each time with a hint', async t => {
  const { sql } = await database();
  await sql.unsafe(`
    create table good (id int primary key, status text, n int);
    create view a_view as select * from good;
    create materialized view a_matview as select * from good;
    create foreign data wrapper nowhere; create server nowhere foreign data wrapper nowhere;
    create foreign table a_foreign (id int) server nowhere;
    create sequence a_sequence;
    create temp table a_temporary (id int primary key);
    create table no_key (id int);
    create table deferrable_key (id int primary key deferrable);
    create table deferrable_unique (id int not null unique deferrable initially deferred);
    create table partial_unique (id int not null); create unique index on partial_unique (id) where id > 0;
    create table expression_unique (id int not null); create unique index on expression_unique ((id + 1));
    create table nullable_unique (id int unique);
    create table parent (id int primary key); create table child (primary key (id)) inherits (parent);
    create table tree (id int primary key) partition by range (id);
    create table leaf partition of tree for values from (0) to (10);
    create table tree2 (id int primary key) partition by range (id); create table leaf2 partition of tree2 default`);
  const attach = (table: string, slug = 'x', rest = '') =>
    sql.unsafe(`select collecta.attach_module('${table}', '${slug}'${rest})`);
  for (const table of [
    'a_view',
    'a_matview',
    'a_foreign',
    'a_sequence',
    'pg_class',
    'collecta.events',
    'information_schema.sql_features',
    'parent',
    'child',
  ])
    await refuses(t, attach(table), 'CW002', table);
  await refuses(
    t,
    sql.begin(async tx => {
      await tx`create temp table temporary (id int primary key)`;
      await tx`select collecta.attach_module('temporary', 'x')`;
    }),
    'CW002',
    'a temporary table',
  );
  await refuses(t, sql`select collecta.attach_module(null, 'x')`, 'CW002', 'no table');
  await refuses(t, sql`select collecta.attach_module('good', null)`, 'CW002', 'no slug');
  t.equal((await refusal(attach('no_such_table')))?.code, '42P01', 'a table that does not exist: PostgreSQL says so');

  for (const table of [
    'no_key',
    'deferrable_key',
    'deferrable_unique',
    'partial_unique',
    'expression_unique',
    'nullable_unique',
  ]) {
    await refuses(t, attach(table), 'CW003', table);
    await refuses(t, attach(table, 'x', ", key_columns => '{id}'"), 'CW003', `${table} as a named key`);
  }
  t.match((await refusal(attach('deferrable_key')))?.detail, /deferrable/);
  await refuses(t, attach('good', 'x', ", key_columns => '{n}'"), 'CW003', 'a column that is no key');
  const unique = await (async () => {
    await sql`create table unique_only (code text not null unique)`;
    return refuses(t, attach('unique_only'), 'CW003', 'no primary key, but a unique one');
  })();
  await sql.unsafe(unique!.hint!);
  await sql`select collecta.detach_module('x')`;
  t.pass('and its hint is the statement that works');

  for (const slug of ['', 'Work Orders', '-x', '_x', 'é', 'x'.repeat(64), 'a/b', 'a\nb']) {
    const error = await refuses(
      t,
      sql`select collecta.attach_module('good', ${slug})`,
      'CW006',
      `slug ${JSON.stringify(slug)}`,
    );
    t.match(error?.hint, /attach_module\('[^']*good', '[a-z0-9][a-z0-9_-]{0,62}'\)/, 'its hint has one that would do');
  }
  const columns: [string, string][] = [
    ["status_column => 'nope'", 'unknown status column'],
    ["custom_data_column => 'nope'", 'unknown custom data column'],
    ["scope_column => 'nope'", 'unknown scope column'],
    ["exclude_columns => '{n,nope}'", 'unknown excluded column'],
    ["ignore_columns => '{nope}'", 'unknown ignored column'],
    ["exclude_columns => '{id}'", 'excluded key'],
    ["status_column => 'status', exclude_columns => '{status}'", 'excluded status'],
    ["scope_column => 'n', exclude_columns => '{n}'", 'excluded scope'],
    ["on_truncate => 'maybe'", 'unknown on_truncate'],
  ];
  for (const [argument, what] of columns) await refuses(t, attach('good', 'x', `, ${argument}`), 'CW004', what);

  const partition = await refuses(t, attach('leaf'), 'CW002', 'a partition of a table that is not attached');
  await sql.unsafe(partition!.hint!);
  t.ok(
    (await triggers(sql)).some(({ on }) => on === 'leaf'),
    'and its hint attaches the whole tree',
  );
  const captured = await refuses(t, attach('leaf', 'y'), 'CW002', 'a partition of an attached table');
  t.equal((await sql.unsafe(captured!.hint!)).length, 1, captured!.hint!);
  await sql`select collecta.detach_module('x')`;
  await sql`alter table tree2 detach partition leaf2`;
  await attach('leaf2', 'leaf2');
  await sql`alter table tree2 attach partition leaf2 default`;
  const above = await refuses(
    t,
    attach('tree2', 'z'),
    'CW002',
    'a table whose partition was attached before it became one',
  );
  t.match(above?.hint, /detach_module\('leaf2'\)/);
  t.match(
    [...(await sql`select severity, problem from collecta.health where subject = 'leaf2'`)],
    [{ severity: 'error', problem: /partition/ }],
    'and health says what is missed meanwhile',
  );

  await attach('good', 'good');
  const taken = await refuses(t, attach('good', 'other'), 'CW005', 'a second slug for a table');
  t.match(taken?.hint, /detach_module\('good'\)/);
  await sql`create table second (id int primary key)`;
  await refuses(t, attach('second', 'good'), 'CW005', 'a slug in use');
  await refuses(t, sql`select collecta.detach_module('nope')`, 'CW001', 'detaching an unknown module');

  if (Number((await sql`show server_version_num`)[0]!.server_version_num) >= 180000) {
    await sql`create table virtual (id int primary key, a int, b int generated always as (a + 1) virtual)`;
    await refuses(
      t,
      attach('virtual', 'virtual', ", status_column => 'b'"),
      'CW004',
      'a virtual generated column as status',
    );
  }
  t.equal(
    (await sql`select * from collecta.modules where slug in ('x', 'y', 'z', 'other', 'virtual')`).length,
    0,
    'nothing of it was kept',
  );
});

t.test('a table that logical replication writes is refused, or reported by health', async t => {
  const { sql, name } = await database();
  await sql`create table replica (id int primary key)`;
  // A real subscription would need a publisher. attach_module looks at the catalog row only.
  await sql.unsafe(
    `create subscription s_${name} connection 'host=127.0.0.1 dbname=nowhere' publication p with (connect = false,
      enabled = false, slot_name = none)`,
  );
  await admin.unsafe(`alter role postgres in database ${name} set allow_system_table_mods = on`);
  const raw = connect(server.url(name), { max: 1 });
  await raw`set allow_system_table_mods = on`;
  await raw`insert into pg_subscription_rel (srsubid, srrelid, srsubstate) select oid, 'replica'::regclass, 'r'
    from pg_subscription`;
  const error = await refuses(t, sql`select collecta.attach_module('replica', 'replica')`, 'CW002', 'subscribed table');
  t.match(error?.hint, /publisher/);
  await raw`delete from pg_subscription_rel`;
  await sql`select collecta.attach_module('replica', 'replica')`;
  await raw`insert into pg_subscription_rel (srsubid, srrelid, srsubstate) select oid, 'replica'::regclass, 'r'
    from pg_subscription`;
  t.match(
    [...(await sql`select severity, problem from collecta.health where subject = 'replica'`)],
    [{ severity: 'error', problem: 'logical replication writes it' }],
  );
  await raw.unsafe(`delete from pg_subscription_rel; drop subscription s_${name}`);
});

t.test('attaching again updates a module, and detaching removes all of it', async t => {
  const { sql } = await database();
  await sql.unsafe(
    `create table t (id int primary key, status text, phase text, secret text);
      select collecta.attach_module('t', 't', status_column => 'status', exclude_columns => '{secret}')`,
  );
  await subscribe(sql);
  await sql`insert into t values (1, 'a', 'x', 's')`;
  const before = await sql`select module_id from collecta.modules`;
  await sql`select collecta.attach_module('t', 't', status_column => 'phase', exclude_columns => '{}')`;
  t.strictSame([...(await sql`select module_id from collecta.modules`)], [...before], 'the same module');
  await sql`update t set phase = 'y', secret = 'shown'`;
  const events = await route(sql);
  t.strictSame(brief(events), ['created 1', 'updated 1', 'status_change 1']);
  t.notOk('secret' in events[0]!.record!, 'what was captured before keeps its version');
  t.match(events[2], { from: 'x', to: 'y', record: { secret: 'shown' } });

  await sql`update t set phase = 'z'`;
  await sql`select collecta.detach_module('t')`;
  await sql`update t set phase = 'unseen'`;
  await sql`truncate t`;
  t.equal((await triggers(sql)).length, 0);
  t.equal(
    (
      await sql`select from pg_proc where pronamespace in ('collecta_modules'::regnamespace,
        'collecta_rows'::regnamespace)`
    ).length,
    0,
    'no function stays',
  );
  await sql`select collecta.update_endpoint(endpoint_id, retry_max => 1) from collecta.endpoints`;
  t.strictSame(
    brief(await route(sql)),
    ['updated 1', 'status_change 1'],
    'what was captured still routes, whatever changes at its endpoint meanwhile',
  );
  await sql`select collecta.attach_module('t', 'u')`;
  await sql`insert into t values (2)`;
  t.match(await route(sql), [{ module: 'u', record_id: '2' }], 'another slug now');

  await sql`drop table t`;
  t.match(
    [...(await sql`select problem, hint from collecta.health where subject = 'u'`)],
    [{ problem: 'table is gone', hint: /detach_module/ }],
  );
  await sql`create table t (id int primary key)`;
  await refuses(t, sql`select collecta.attach_module('t', 'u')`, 'CW005', 'the slug of a table that is gone');
  await sql`select collecta.detach_module('u')`;
  await sql`select collecta.attach_module('t', 'u')`;
  await sql`alter table t disable trigger collecta_capture_update`;
  t.match(
    [...(await sql`select severity, problem, detail from collecta.health where subject = 'u'`)],
    [{ severity: 'error', problem: 'changes are not captured', detail: /update/ }],
    'a disabled trigger is seen',
  );
});

t.test('an endpoint of all modules gets a module that is created at the same time', async t => {
  const { sql, url } = await database();
  await sql`create table t (id int primary key)`;
  const [attacher, subscriber] = [connect(url, { max: 1 }), connect(url, { max: 1 })];
  for (const first of ['endpoint', 'module']) {
    const attach = () => attacher`select collecta.attach_module('t', 't')`;
    const [one, other] = first === 'endpoint' ? [subscriber, attacher] : [attacher, subscriber];
    await one`begin`;
    await (first === 'endpoint' ? subscribe(one) : attach());
    const second = (first === 'endpoint' ? attach() : subscribe(other)).then(() => undefined);
    while (!(await sql`select from pg_locks where not granted`).length) await new Promise(done => setTimeout(done, 10));
    await one`commit`;
    await second;
    await sql`insert into t values (1)`;
    t.equal((await route(sql)).length, 1, `the ${first} first`);
    await sql`select collecta.detach_module('t')`;
    await sql`select collecta.delete_endpoint(endpoint_id) from collecta.endpoints where state <> 'deleted'`;
    await sql`delete from t`;
  }
});

t.test('subscribing under REPEATABLE READ misses no module', async t => {
  const { sql, url } = await database();
  await sql.unsafe("create table t (id int primary key); select collecta.attach_module('t', 't')");
  const old = connect(url, { max: 1 });
  await old`begin isolation level repeatable read`;
  await old`select from collecta.endpoints`;
  await subscribe(sql, ['record_deleted']);
  const error = await refusal(subscribe(old, ['record_created']));
  await old.unsafe(error ? 'rollback' : 'commit');
  await sql.unsafe('insert into t values (1); delete from t');
  t.strictSame(
    brief(await route(sql)),
    ['deleted 1'],
    'an older snapshot does not undo what another session subscribed to',
  );
  t.equal(error?.code, '40001');
});

t.test('changes of a transaction older than the endpoint may be missed, later ones are not', async t => {
  const { sql, url } = await database();
  await sql.unsafe("create table t (id int primary key); select collecta.attach_module('t', 't')");
  const writer = connect(url, { max: 1 });
  await writer`begin isolation level repeatable read`;
  await writer`select from t`;
  await subscribe(sql);
  await writer`insert into t values (1)`;
  await writer`commit`;
  await sql`insert into t values (2)`;
  t.ok(
    brief(await route(sql)).includes('created 2'),
    'the first change may be missed, as documented; later ones are not',
  );
});

t.test('capture functions are replaced while writers run and a transaction that used them is open', async t => {
  const { sql, url } = await database();
  await sql.unsafe(
    "create table t (id int primary key generated always as identity, n int); select collecta.attach_module('t', 't')",
  );
  const open = connect(url, { max: 1 });
  await open`begin`;
  await open`insert into t (n) values (0)`;
  let stop = false;
  let written = 0;
  const writers = Array.from({ length: 4 }, async () => {
    while (!stop) {
      await sql`insert into t (n) values (1)`;
      written++;
    }
  });
  for (let i = 0; i < 10; i++) {
    const endpoint = await subscribe(sql, ['record_created']);
    await sql`select collecta.delete_endpoint(${endpoint})`;
  }
  stop = true;
  await Promise.all(writers);
  await open`commit`;
  t.ok(written > 0, `${written} statements, none failed, none waited for the open transaction`);
});

/** A login role on a server, and its URL for a database. */
async function role(
  on: { admin: Sql; url(database: string): string },
  name: string,
  options: string,
  databaseName: string,
) {
  await on.admin.unsafe(`create role ${name} login password 'pw' ${options}`);
  const url = new URL(on.url(databaseName));
  url.username = name;
  url.password = 'pw';
  return url.href;
}

async function worksFor(t: Test, sql: Sql, owner: string) {
  await sql.unsafe(`create schema app; create table app.t (id int primary key, big text, secret text);
    select collecta.attach_module('app.t', 't', exclude_columns => '{secret}')`);
  await subscribe(sql);
  await sql`insert into app.t values (1, repeat('x', 2000000), 's'), (2, 'y', 's')`;
  await sql`update app.t set id = id + 10, big = 'small'`;
  await sql`delete from app.t where id = 11`;
  await sql`truncate app.t`;
  t.strictSame(brief(await route(sql)).sort(), [
    'created 1',
    'created 11',
    'created 12',
    'created 2',
    'deleted 1',
    'deleted 11',
    'deleted 12',
    'deleted 2',
  ]);
  t.strictSame(
    [
      ...(await sql`select distinct proowner::regrole::text as owner from pg_proc
        where pronamespace = 'collecta_modules'::regnamespace`),
    ],
    [{ owner }],
  );
  t.equal((await sql`select * from collecta.unrouted`).length, 0);
  await sql`select done from collecta.maintain()`;
  await sql`select collecta.detach_module('t')`;
}

t.test('installers without superuser can attach modules', async t => {
  const fresh = await startServer();
  t.teardown(() => fresh.stop());
  const own = { admin: connect(fresh.url()), url: fresh.url };
  await own.admin`create database one`;
  const maker = await role(own, 'maker', 'createrole', 'one');
  await own.admin`alter database one owner to maker`;
  await migrate(maker);
  await worksFor(t, connect(maker), 'collecta_capture');
  t.pass('one who may create roles: capture belongs to a role of its own');

  await own.admin`create database two`;
  const plain = await role(own, 'plain', '', 'two');
  await own.admin`alter database two owner to plain`;
  const notices: string[] = [];
  await migrate(plain, { onNotice: notice => notices.push(JSON.stringify(notice)) });
  t.match(notices.join(), /collecta_owner/, 'its notice says what was skipped');
  await worksFor(t, connect(plain), 'plain');
  t.pass('one who may not, in a cluster where the roles are: everything belongs to the installer');

  await own.admin.unsafe('create role app_owner; grant maker to app_owner');
  const installer = connect(maker);
  await own.admin.unsafe('grant create on database one to maker');
  const asAdmin = connect(fresh.url('one'));
  await asAdmin.unsafe(
    'create table public.foreign_owned (id int primary key); grant trigger on public.foreign_owned to maker',
  );
  const denied = await refuses(
    t,
    installer`select collecta.attach_module('public.foreign_owned', 'foreign')`,
    'CW002',
    'who has TRIGGER only cannot let capture read for TRUNCATE',
  );
  t.match(denied?.hint, /grant select on public.foreign_owned to collecta_capture/);
  await installer`select collecta.attach_module('public.foreign_owned', 'foreign', on_truncate => 'ignore')`;
  await asAdmin`grant select on public.foreign_owned to collecta_capture`;
  await installer`select collecta.attach_module('public.foreign_owned', 'foreign', on_truncate => 'records')`;
  await asAdmin`insert into public.foreign_owned values (1)`;
  await asAdmin`truncate public.foreign_owned`;
  t.strictSame(brief(await route(installer)), ['created 1', 'deleted 1'], 'with TRIGGER and the hint taken');
  t.equal(
    (await refusal(installer`select collecta.detach_module('foreign')`))?.code,
    '42501',
    'detaching needs ownership',
  );
});

t.test('an installer who may not create the missing roles can still install', async t => {
  const fresh = await startServer();
  t.teardown(() => fresh.stop());
  const own = { admin: connect(fresh.url()), url: fresh.url };
  await own.admin`create database one`;
  const plain = await role(own, 'plain', '', 'one');
  await own.admin`alter database one owner to plain`;
  await migrate(plain);
  await worksFor(t, connect(plain), 'plain');
  t.equal((await own.admin`select from pg_roles where rolname like 'collecta%'`).length, 0);
});
