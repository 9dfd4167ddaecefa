/** Capture never makes a writer's statement fail because of a value, or because capture has lost a privilege. */
import { existsSync } from 'node:fs';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { brief, route, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';

const { connect, database, server } = await useServer();

/** Values of the types that extensions provide, with unusual ones among them. */
const extensions: Record<string, Record<string, string[]>> = {
  citext: { citext: [`'ABC'`, `''`, `E'\\u0001"\\\\'`] },
  hstore: { hstore: [`'a=>1,b=>NULL'`, `''`, `'"q\\"uote"=>"\\\\back"'`] },
  cube: { cube: [`'(1,2,3)'`, `'(1,2),(3,4)'`, `'(NaN)'`] },
  isn: {
    isbn: [`'978-0-393-04002-9'`],
    ean13: [`'978-0-393-04002-9'`],
    issn: [`'1436-4522'`],
    upc: [`'220356483481'`],
  },
  ltree: { ltree: [`'a.b.c'`, `''`], lquery: [`'a.*{2}.b'`], ltxtquery: [`'a & b*'`] },
  seg: { seg: [`'1.5 .. 2.5'`, `'~7'`, `'<5'`] },
  intarray: { query_int: [`'1&(2|3)'`] },
  lo: { lo: ['12345'] },
  earthdistance: { earth: [`ll_to_earth(48, 11)`] },
  postgis: {
    geometry: [
      `'POINT(1 2)'`,
      `'POINT(NaN 1)'`,
      `'POINT EMPTY'`,
      `'CIRCULARSTRING(0 0, 1 1, 1 0)'`,
      `'COMPOUNDCURVE(CIRCULARSTRING(0 0, 1 1, 1 0),(1 0, 0 1))'`,
      `'POLYHEDRALSURFACE(((0 0 0, 0 0 1, 0 1 1, 0 1 0, 0 0 0)))'`,
      `'TIN(((0 0 0, 0 0 1, 0 1 0, 0 0 0)))'`,
      `'GEOMETRYCOLLECTION(POINT(NaN 0),MULTICURVE((0 0,1 1)))'`,
    ],
    geography: [`'POINT(1 2)'`, `'POINT EMPTY'`],
    box2d: [`'BOX(1 2,3 4)'`],
    box3d: [`'BOX3D(1 2 3,4 5 6)'`],
  },
};

const debianServer = existsSync('/usr/lib/postgresql/15/bin/postgres');
/** Imports another instance of the module, which reads TEST_SERVER again. */
const serverOfDebian: string = '../support/server.ts?debian';

async function fresh(debian: boolean): Promise<Sql> {
  if (!debian) return (await database()).sql;
  const chosen = process.env.TEST_SERVER;
  process.env.TEST_SERVER = 'debian15';
  const { startServer } = await import(serverOfDebian);
  const other = await startServer();
  if (chosen === undefined) delete process.env.TEST_SERVER;
  t.teardown(() => other.stop());
  await migrate(other.url());
  return connect(other.url());
}

/** Texts of which each ordinary type accepts some. */
const texts = [
  ...['true', '-0', 'infinity', '2026-01-02', '10:00:00+02', '1 day -2 hours', '127.0.0.1/8', '08:00:2b:01:02:03'],
  ...['08:00:2b:ff:fe:01:02:03', '<a/>', '(1,2),(3,4)', '[(1,2),(3,4)]', '{1,2,3}', '<(1,2),3>', '[2026-01-02,)'],
  ...['{[1,2]}', '550e8400-e29b-41d4-a716-446655440000', 'postgres=r/postgres', '0/0', '1:1:', 'pg_class', '{"a":1}'],
  ...['', '0', '1', 'a', '{}', '()', '(,)', '(1,2)', '(,,)', '(,,,)', '(,,,,)', '(,,,,,)', '[1,2]'],
  `(${','.repeat(15)})`,
  ...[
    'NaN',
    'POINT(1 2)',
    '978-0-393-04002-9',
    '979-0-2600-0043-8',
    '1436-4522',
    'SPHEROID["WGS 84",6378137,298.257223563]',
  ],
  // An empty raster of 2 × 2 pixels.
  `0100000000${'000000000000f03f'.repeat(2)}${'0'.repeat(64)}000000000200${'0200'}`,
];

for (const debian of debianServer ? [false, true] : [false])
  t.test(debian ? "types of Debian's contrib and PostGIS are captured" : 'types of contrib are captured', async t => {
    const sql = await fresh(debian);
    // On this schema and its functions nobody has a privilege. PostGIS and hstore may be installed like this.
    await sql`create schema extra`;
    let tables = 0;

    async function check(name: string, type: string, values: string[]): Promise<void> {
      const table = `t${tables++}`;
      await sql.begin(async tx => {
        await tx`set local search_path = public, extra`;
        const array = `array[${values.map(value => `${value}::${type}`).join(', ')}]::${type}[]`;
        await tx.unsafe(`create table ${table} (id int primary key generated always as identity, v ${type},
          many ${type}[], n int default 0);
          select collecta.attach_module('${table}', '${table}')`);
        if (tables === 1)
          await tx`select collecta.create_endpoint('https://example.com/',
            '{record_created,record_updated,record_deleted}')`;
        for (const value of values)
          await tx.unsafe(`insert into ${table} (v, many) values (${value}::${type}, ${array}), (null, null)`);
        if (values.length === 0) await tx.unsafe(`insert into ${table} (n) values (0), (0)`);
        await tx.unsafe(
          `update ${table} set n = 1; update ${table} set n = 2 where id = 1; delete from ${table} where id = 2;
            truncate ${table}`,
        );
      });
      const rows = await sql`select operation, coalesce(new, old) ->> 'v' as v, coalesce(new, old) ->> 'id' as id,
          coalesce(new, old)::text::json is not null as valid from collecta.outbox order by change_id`;
      t.equal(rows.length, 6 * Math.max(1, values.length) + 1, `${name}, ${values.length} values`);
      t.ok(
        rows.every(row => row.valid && row.id),
        'JSON, with its key',
      );
      if (values.length > 0)
        t.ok(
          rows.filter(row => row.operation === 'I' && row.id % 2).every(row => row.v !== null),
          'with the value',
        );
      t.equal((await route(sql)).length, rows.length);
    }

    // Languages need programs that may be missing, and postgis_topology needs PostGIS in the search path of everybody.
    const available = await sql`
      select name, coalesce(
        (select max(v.schema) from pg_available_extension_versions v where v.name = e.name), 'extra') as schema
      from pg_available_extensions e
      where name !~ '^pl|_pl(perl|python)|topology|tiger|data_us|-3$' order by name`;
    for (const { name, schema } of available) {
      const [made] = await sql`select from pg_extension where extname = ${name}`;
      if (!made) await sql.unsafe(`create extension "${name}" schema ${schema} cascade`);
    }
    await sql`revoke all on all functions in schema extra from public`;
    for (const [extension, types] of Object.entries(extensions))
      if (available.some(({ name }) => name === extension))
        for (const [type, values] of Object.entries(types)) await check(`${extension}: ${type}`, type, values);
    const listed = Object.values(extensions).flatMap(types => Object.keys(types));
    t.ok(tables >= 14, `${tables} types with chosen values`);

    // All types of PostgreSQL and all other types of these extensions, with whatever values they accept. A few that
    // only indexes use accept none.
    const others = await sql`
      select coalesce(e.extname, 'PostgreSQL') as extname, format_type(t.oid, null) as type from pg_type t
      left join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
      left join pg_extension e on e.oid = d.refobjid
      left join pg_class c on c.oid = t.typrelid
      where (e.oid is not null or t.typnamespace = 'pg_catalog'::regnamespace)
        and t.typtype <> 'p' and t.typarray <> 0 and coalesce(c.relkind, 'c') = 'c'
        and t.typname <> all (${listed}) order by 1, 2`;
    let accepting = 0;
    for (const { extname, type } of others) {
      const values: string[] = [];
      for (const text of texts) {
        const value = `'${text}'`;
        if (
          await sql.unsafe(`select ${value}::${type}::text`).then(
            () => true,
            () => false,
          )
        )
          values.push(value);
      }
      if (values.length > 0) accepting++;
      await check(`${extname}: ${type}`, type, values);
    }
    t.ok(accepting >= (debian ? 85 : 70), `${accepting} of ${others.length} types accept a value`);
    t.equal((await sql`select from collecta.unrouted`).length, 0);
    t.strictSame([...(await sql`select problem from collecta.health where severity <> 'info'`)], []);
  });

t.test('a superuser’s cast to json that raises, returns no JSON or is slow does not stop capture', async t => {
  const { sql } = await database();
  await sql.unsafe(`create type mood as enum ('fine', 'raises', 'nonsense', 'slow');
    create function to_json(m mood) returns json language plpgsql as $$
      begin
        if m = 'raises' then raise exception 'no'; end if;
        if m = 'slow' then perform pg_sleep(30); end if;
        return (case m when 'nonsense' then '{"a": NaN}' else '{"mood": true}' end)::json;
      end $$;
    create cast (mood as json) with function to_json(mood);
    create table t (id int primary key, m mood, n int default 0); select collecta.attach_module('t', 't')`);
  await subscribe(sql);
  await sql.unsafe(
    `insert into t values (1, 'fine'), (2, 'raises'), (3, 'nonsense'); update t set n = n + 1;
      delete from t where id = 2; truncate t`,
  );
  const seen = (await route(sql)).map(
    ({ event, record_id, record }) => `${event} ${record_id} ${JSON.stringify(record?.m)}`,
  );
  t.ok(seen.includes('record_created 1 {"mood":true}'));
  for (const event of ['record_created', 'record_updated'])
    for (const id of [2, 3])
      t.ok(seen.includes(`${event} ${id} ${id === 2 ? '"raises"' : '"nonsense"'}`), `${event} ${id}`);
  t.match(
    [...(await sql`select severity, problem from collecta.health`)],
    [{ severity: 'info', problem: 'values may be captured as text' }],
  );

  const hurried = connect(server.url(sql.options.database as string), { max: 1 });
  await hurried`set statement_timeout = '300ms'`;
  await hurried`insert into t values (4, 'slow')`;
  t.match(await route(sql), [{ record_id: '4' }], "a writer's statement_timeout does not fail what is written already");
  const patient = connect(server.url(sql.options.database as string), { max: 1 });
  const [{ pid }] = (await patient`select pg_backend_pid() as pid`) as unknown as [{ pid: number }];
  const cancelled = patient`insert into t values (5, 'slow')`.catch(error => error.code);
  await new Promise(done => setTimeout(done, 300));
  await sql`select pg_cancel_backend(${pid})`;
  t.equal(await cancelled, '57014', 'but somebody who cancels it does');
});

t.test('with any grant revoked, writers go on, and health says what to grant again', async t => {
  const { sql, name } = await database();
  await sql.unsafe(`create role writer_${process.pid} login password 'x'; create schema app;
    create type app.mood as enum ('ok');
    create table app.plain (id int primary key, secret text, big text);
    create table app.typed (id int primary key, m app.mood, big text);
    grant usage on schema app to writer_${process.pid}; grant all on all tables in schema app to writer_${process.pid};
    select collecta.attach_module('app.plain', 'plain', exclude_columns => '{secret}'),
      collecta.attach_module('app.typed', 'typed')`);
  await subscribe(sql);
  const url = server.url(name).replace('postgres:postgres@', `writer_${process.pid}:x@`);
  const write = async () => {
    const writer = connect(url, { max: 1 });
    await writer.unsafe(`insert into app.plain values (1, 'psst', null), (2, 'psst', repeat('x', 100000));
      update app.plain set big = 'y';
      delete from app.plain where id = 1; truncate app.plain;
      insert into app.typed values (1, 'ok', null), (2, 'ok', repeat('x', 100000)); update app.typed set big = 'y';
      delete from app.typed where id = 1; truncate app.typed`);
    await writer.end();
  };
  await write();
  const complete = brief(await route(sql)).length;
  // An old session with cached plans is affected by grants and revokes as a new one is.
  const old = connect(url, { max: 1 });
  const writeSmall = (session: Sql) =>
    session.unsafe(`insert into app.plain values (7, 'psst', null); update app.plain set big = 'z' where id = 7;
      delete from app.plain where id = 7; insert into app.typed values (7, 'ok', null); update app.typed set big = 'z';
      delete from app.typed`);
  await writeSmall(old);
  const grants = await sql`
    select format('%s on %s from %I', a.privilege_type, o.target, 'collecta_capture') as revoke,
      format('%s on %s to %I', a.privilege_type, o.target, 'collecta_capture') as again
    from (
      select 'schema ' || nspname as target, nspacl as acl from pg_namespace
      union all select 'table ' || oid::regclass, relacl from pg_class
      union all select 'function ' || oid::regprocedure, proacl from pg_proc) o
    cross join lateral aclexplode(o.acl) a
    where a.grantee = 'collecta_capture'::regrole and o.target !~ 'collecta_modules'`;
  t.ok(grants.length > 10, `${grants.length} grants`);
  for (const { revoke, again } of grants) {
    await sql.unsafe(`revoke ${revoke}`);
    await writeSmall(old);
    await write();
    const problems = await sql`select problem from collecta.health where severity = 'error'`;
    t.ok(problems.length, `health speaks after: revoke ${revoke}`);
    if (/ on (table|schema) app/.test(revoke)) {
      await sql.unsafe(`grant ${again}`);
    } else {
      const [lacks] = await sql`select hint from collecta.health where problem = 'capture lacks rights'`;
      t.ok(lacks, `health says what is lost after: revoke ${revoke}`);
      await sql.unsafe(lacks!.hint);
    }
    await route(sql);
    t.notMatch(JSON.stringify(await sql`select body from collecta.events`), 'psst');
  }
  await write();
  t.equal(brief(await route(sql)).length, complete, 'and all is captured again');
  await writeSmall(old);
  t.equal(brief(await route(sql)).length, 6, 'also in the session that was there all the time');

  // The privileges of all other roles in our schemas, the owners included. Without any of them a writer still goes on.
  const all = await sql`
    select format('%s on %s from %s', a.privilege_type, o.target, a.grantee::regrole) as revoke,
      format('%s on %s to %s', a.privilege_type, o.target, a.grantee::regrole) as again
    from (
      select 'schema ' || nspname as target, nspacl as acl from pg_namespace where nspname ~ '^collecta'
      union all select 'table ' || oid::regclass, relacl from pg_class
        where relnamespace = 'collecta'::regnamespace and relname in ('outbox', 'settings', 'module_versions',
          'modules')
      union all select 'function ' || oid::regprocedure, proacl from pg_proc
        where pronamespace::regnamespace::text ~ '^collecta' and prosrc !~ 'collecta_check_sender'
          and (proname ~ '^(capture|row|truncate|type|column|element|module|writer|can|sees|table)_'
            or pronamespace <> 'collecta'::regnamespace)
      ) o
    cross join lateral aclexplode(o.acl) a
    where a.grantee not in (0, 'collecta_capture'::regrole)`;
  t.ok(all.length > 40, `${all.length} grants of others`);
  for (const { revoke, again } of all) {
    await sql.unsafe(`revoke ${revoke}`);
    await t.resolves(writeSmall(old), `a writer goes on after: revoke ${revoke}`);
    await sql.unsafe(`grant ${again}`);
  }
  await old.end();
});

t.test('a statement_timeout that expires in capture leaves reduced rows and cancels nothing', async t => {
  const { sql } = await database();
  // The user's own trigger fires before ours. It waits until only `test.left_ms` milliseconds are left before the
  // timeout.
  await sql.unsafe(`create table wide (id int primary key, a text, b text);
    select collecta.attach_module('wide', 'wide');
    create function wait() returns trigger language plpgsql as $$ begin
      perform pg_sleep(extract(epoch from statement_timestamp() + interval '2 s' - clock_timestamp())
        - current_setting('test.left_ms')::float8 / 1000);
      return null;
    end $$;
    create trigger a_wait after insert or update or delete on wide execute function wait()`);
  await subscribe(sql);
  const writer = await sql.reserve();
  /**
   * Whether all rows were captured without their columns: the timeout expired during capture, but the writer's
   * statement succeeded.
   */
  async function survives(statement: string, leftMs: number): Promise<boolean> {
    await writer.unsafe(`set statement_timeout = 0; set test.left_ms = ${leftMs}; set statement_timeout = '2s'`);
    const code = await writer.unsafe(statement).then(
      () => undefined,
      error => error.code as string,
    );
    await writer`set statement_timeout = 0`;
    // On a busy machine the timeout may expire before capture begins; then the statement is cancelled, which is
    // correct.
    t.ok(code === undefined || code === '57014', `${statement}: ${code}`);
    const [captured] = await sql`select count(*)::int as n, bool_and(coalesce(new, old) ? '$truncated') as thin
      from (select old::jsonb as old, new::jsonb as new from collecta.outbox) o`;
    t.equal(captured!.n, code === undefined ? 30_000 : 0, 'all or nothing');
    await sql`delete from collecta.outbox`;
    return captured!.thin === true;
  }
  const fill = `insert into wide select n, repeat('a', 100), repeat('b', 100) from generate_series(1, 30000) n`;
  const statements = [
    [fill, 'delete from wide'],
    ['update wide set a = md5(a || random())', 'select'],
    ['delete from wide', `${fill} on conflict do nothing`],
  ] as const;
  for (const [statement, restore] of statements) {
    let survived = false;
    for (const leftMs of [20, 60, 120, 250, 500]) {
      if (await survives(statement, leftMs)) survived = true;
      if (survived) break;
      await sql.unsafe(`alter table wide disable trigger user; ${restore}; alter table wide enable trigger user`);
    }
    t.ok(survived, statement);
  }
  writer.release();
});

t.test('TRUNCATE is captured after SET SCHEMA and with row security enabled later', async t => {
  const { sql } = await database();
  await sql.unsafe(`create schema one; create schema two; create table one.t (id int primary key);
    create table one.u (id int primary key);
    select collecta.attach_module('one.t', 't'), collecta.attach_module('one.u', 'u')`);
  await subscribe(sql);
  await sql.unsafe(`alter table one.t set schema two; alter table one.u enable row level security;
    insert into two.t values (1), (2); insert into one.u values (1), (2)`);
  await route(sql);
  await sql.unsafe('truncate two.t, one.u');
  t.match(
    (await route(sql)).map(({ module, record_id }) => [module, record_id]).sort(),
    [
      ['t', null],
      ['u', null],
    ],
    'there is one event without a record',
  );
  const problems = await sql`select hint from collecta.health where problem = 'truncate is captured as one'`;
  t.equal(problems.length, 2);
  for (const { hint } of problems) await sql.unsafe(hint);
  t.strictSame([...(await sql`select * from collecta.health`)], []);
  await sql.unsafe('insert into two.t values (1); insert into one.u values (1)');
  await route(sql);
  await sql.unsafe('truncate two.t, one.u');
  t.strictSame(brief(await route(sql)), ['deleted 1', 'deleted 1'], 'after the hints: each record');
});

t.test('an unknown operation is refused', async t => {
  const { sql } = await database();
  await t.rejects(sql`insert into collecta.outbox (version, operation, captured_at) values (1, 'i', now())`, {
    code: '22P02',
  });
});
