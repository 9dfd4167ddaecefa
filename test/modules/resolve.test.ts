/**
 * References to columns, keys and tables follow DDL and restores, and when they cannot be resolved, nothing is
 * revealed.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { brief, refusal, route, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';

const { connect, database, server } = await useServer();
const run = promisify(execFile);
/** Imports another instance of the module, which reads TEST_SERVER again. */
const serverOfDebian: string = '../support/server.ts?debian';

const people = `create table people (gone int, id int primary key, status text, ssn text, touched int default 0,
  name text);
  alter table people drop column gone;
  select collecta.attach_module('people', 'people', status_column => 'status', exclude_columns => '{ssn}',
    ignore_columns => '{touched}')`;

async function prepared(ddl: string): Promise<Sql> {
  const { sql } = await database();
  await sql.unsafe(ddl);
  await subscribe(sql);
  return sql;
}
const health = async (sql: Sql) =>
  [...(await sql`select severity, problem, subject, detail, hint from collecta.health`)] as unknown as Record<
    string,
    string
  >[];
/** Everything that left the table: the outbox and the events made from it. */
async function leaves(sql: Sql) {
  const [row] = await sql`select coalesce(string_agg(o::text, ' '), '') as text from collecta.outbox o`;
  const events = await route(sql);
  return { events, text: row!.text + JSON.stringify(events) };
}

t.test('an excluded column stays excluded when it is renamed, dropped or created again', async t => {
  for (const mended of [false, true])
    for (const [title, ddl, remains] of [
      ['renamed', 'alter table people rename ssn to hidden', ['id', 'status', 'touched', 'name']],
      ['dropped', 'alter table people drop column ssn', ['id', 'status', 'touched', 'name']],
      [
        'of another type',
        'alter table people add column ssn_new int; alter table people drop column ssn; ' +
          'alter table people rename ssn_new to ssn',
        ['id', 'status', 'touched', 'name'],
      ],
      [
        'renamed, and another takes its name',
        'alter table people rename ssn to hidden; alter table people add column ssn text',
        ['id', 'status', 'touched', 'name'],
      ],
    ] as const) {
      const sql = await prepared(people);
      const old = connect(server.url(sql.options.database as string), { max: 1 });
      await old.unsafe(`insert into people values (1, 'open', 'classified')`);
      await old`begin isolation level repeatable read`;
      await old`select pg_current_snapshot()`;
      await sql.unsafe(ddl);
      if (mended) await sql`select * from collecta.maintain()`;
      const [column] = await sql`
        select coalesce(max(attname) filter (where attname in ('ssn', 'hidden')), 'name') as name
        from pg_attribute where attrelid = 'people'::regclass and attnum > 0 and not attisdropped`;
      const columns = await sql`select attname as name from pg_attribute
        where attrelid = 'people'::regclass and attname in ('ssn', 'hidden')`;
      const list = columns.map(row => row.name).join(', ');
      const secret = columns.map(() => `'123456'`).join(', ');
      const statements = (id: number) =>
        `
        insert into people (id, status${list && `, ${list}`}) values (${id}, 'open'${secret && `, ${secret}`});
        update people set name = 'x', ${column!.name} = ${column!.name === 'name' ? `'y'` : `'123456'`}
          where id = ${id};
        update people set name = repeat('z', 2000000) where id = ${id}`.replace(`name = 'x', name`, 'name');
      await old.unsafe(`${statements(5)}; commit`);
      await sql.unsafe(statements(6));
      await sql`truncate people`;
      const { events, text } = await leaves(sql);
      t.notMatch(text, /123456|classified/, `${title}, ${mended ? 'after' : 'before'} maintain: it stays in its table`);
      const created = events.find(event => event.event === 'record_created' && event.record_id === '6');
      t.strictSame(Object.keys(created?.record ?? {}), [...remains], 'and the rest is sent');
      t.ok(
        events.some(({ record_id }) => record_id === '5'),
        'also from a transaction with an older snapshot',
      );
      t.equal((await sql`select from collecta.unrouted`).length, 0);
      await old.end();
    }
});

t.test('an ignored column stays ignored when it is renamed', async t => {
  const sql = await prepared(people);
  await sql.unsafe(
    `insert into people values (1, 'open'); alter table people rename touched to seen; select from collecta.maintain()`,
  );
  await route(sql);
  await sql`update people set seen = 5`;
  t.strictSame(await route(sql), [], 'is ignored after maintain');
});

t.test('attaching again with null arguments keeps the current options', async t => {
  const { sql, url } = await database();
  await sql.unsafe(people);
  await subscribe(sql);
  const notices: string[] = [];
  const loud = connect(url, { max: 1, onnotice: notice => notices.push(notice.message ?? '') });
  const version = async () =>
    (
      await sql`select status_column, exclude_columns, ignore_columns, on_truncate, key_columns
        from collecta.module_versions where version = (select current_version from collecta.modules)`
    )[0]!;
  const before = await version();
  await loud`select collecta.attach_module('people', 'people')`;
  t.strictSame({ ...(await version()) }, { ...before });
  t.strictSame(
    notices.filter(text => /is sent/.test(text)),
    [],
  );
  await loud`select collecta.attach_module('people', 'people', on_truncate => 'ignore', ignore_columns => '{}')`;
  await loud`select collecta.attach_module('people', 'people')`;
  t.match(await version(), { on_truncate: 'ignore', exclude_columns: ['ssn'] });
  await loud`select collecta.attach_module('people', 'people', status_column => '')`;
  t.match(await version(), { status_column: null, exclude_columns: ['ssn'] });
  t.strictSame(
    notices.filter(text => /is sent/.test(text)),
    [],
  );
  await loud`alter table people rename ssn to hidden`;
  await loud`select collecta.attach_module('people', 'people', exclude_columns => '{}')`;
  t.match(notices.at(-1), /hidden of (public\.)?people is sent/, 'a notice names the column that is sent from now on');
});

t.test('a changed primary key is reported by health and handled by attaching again', async t => {
  const sql = await prepared(
    `create table t (id int primary key, tenant int not null default 7, n int); select collecta.attach_module('t', 't');
     create table u (code text not null unique, other text not null unique);
     select collecta.attach_module('u', 'u', key_columns => '{code}')`,
  );
  await sql.unsafe(
    'insert into t values (1); alter table t drop constraint t_pkey, add primary key (tenant, id); ' +
      'alter table u drop constraint u_code_key',
  );
  const rows = (await health(sql)).sort((a, b) => a.subject!.localeCompare(b.subject!));
  t.match(rows, [
    { severity: 'error', problem: 'key changed', subject: 't' },
    { severity: 'error', problem: 'key changed', subject: 'u' },
  ]);
  for (const { hint } of await health(sql)) await refusal(sql.unsafe(hint!));
  await sql.unsafe('insert into t values (1, 8)');
  t.strictSame(brief(await route(sql)), ['created 1', 'created [8,1]'], 'goes on by the new key after one statement');
  t.match(
    (await health(sql)).map(row => row.subject),
    ['u'],
  );
  await sql`select collecta.attach_module('u', 'u', key_columns => '{other}')`;
  t.strictSame(await health(sql), []);
  await sql`alter table t drop constraint t_pkey`;
  const [none] = await health(sql);
  t.match(none, { problem: 'key changed' });
  await sql.unsafe(none!.hint!);
  t.strictSame(await health(sql), [], 'a table whose key was dropped: the hint makes one');
});

t.test('a table that is replaced by renaming, and a detached partition, are handled', async t => {
  const sql = await prepared(
    `create table t (id int primary key); select collecta.attach_module('t', 't', on_truncate => 'ignore');
     create table p (id int primary key) partition by range (id);
     create table p1 partition of p for values from (0) to (10);
     create table p2 partition of p for values from (10) to (20); select collecta.attach_module('p', 'p')`,
  );
  await sql.unsafe('alter table t rename to t_old; create table t (id int primary key); insert into t values (1)');
  const [replaced] = await health(sql);
  t.match(replaced, { severity: 'error', problem: 'table was replaced', subject: 't' });
  await sql.unsafe(replaced!.hint!);
  await sql`insert into t values (2)`;
  t.strictSame(brief(await route(sql)), ['created 2'], 'the hint attaches the one that has the name now');
  t.strictSame(await health(sql), []);

  const session = connect(server.url(sql.options.database as string), { max: 1 });
  await session`insert into p1 values (1)`;
  await sql`alter table p detach partition p1`;
  await session.unsafe(
    'insert into p1 values (2); update p1 set id = 3 where id = 2; delete from p1; ' +
      'insert into p1 values (4); truncate p1',
  );
  await session`insert into p values (11)`;
  t.strictSame(brief(await route(sql)), ['created 1', 'created 11'], 'a detached partition sends nothing more');
  const [detached] = await health(sql);
  t.match(detached, { problem: 'trigger of another table', hint: /drop trigger/ });
  await sql.unsafe(detached!.hint!);
  t.strictSame(await health(sql), []);

  // pg_partman moves rows out of the default partition like this.
  await sql.unsafe(
    `create table p_default partition of p default; select collecta.attach_partitions('p'); insert into p values (25)`,
  );
  await route(sql);
  await session.unsafe(`set collecta.muted = 'on';
    create table p3 (like p including all);
    with moved as (delete from only p_default where id between 20 and 29 returning *) insert into p3 select *
      from moved;
    alter table p attach partition p3 for values from (20) to (30);
    reset collecta.muted`);
  t.match(await health(sql), [{ severity: 'warning', problem: 'partition is not attached' }]);
  t.equal((await sql`select collecta.attach_partitions('p') as made`)[0]!.made, 4);
  await session`delete from p3`;
  t.strictSame(brief(await route(sql)), ['deleted 25'], 'the recipe of docs/operations.md: nothing but what happens');
});

t.test('every hint of a refusal can be run as it stands', async t => {
  const { sql } = await database();
  await sql.unsafe(`
    create table good (id int primary key, status text, n int, "odd ""name" int);
    create view a_view as select * from good;
    create table no_key (id int, n int); create table deferrable_key (id int primary key deferrable);
    create table unique_only (code text not null unique);
    create table tree (id int primary key) partition by range (id); create table leaf partition of tree default;
    create table keyless_tree (region text) partition by list (region)`);
  for (const call of [
    `collecta.attach_module(null, 'x')`,
    `collecta.attach_module('good', 'Not A Slug', exclude_columns => '{n}')`,
    `collecta.attach_module('a_view', 'x')`,
    `collecta.attach_module('pg_class', 'x')`,
    `collecta.attach_module('leaf', 'x')`,
    `collecta.attach_module('no_key', 'x')`,
    `collecta.attach_module('deferrable_key', 'x')`,
    `collecta.attach_module('unique_only', 'x')`,
    `collecta.attach_module('keyless_tree', 'x')`,
    `collecta.attach_module('good', 'x', key_columns => '{n}')`,
    `collecta.attach_module('good', 'x', status_column => 'state')`,
    `collecta.attach_module('good', 'x', exclude_columns => '{"odd \\"name",nope}', ignore_columns => '{nope}')`,
    `collecta.attach_module('good', 'x', status_column => 'status', exclude_columns => '{status,n}')`,
    `collecta.attach_module('good', 'x', on_truncate => 'maybe')`,
    `collecta.detach_module('nope')`,
    `collecta.attach_partitions('nope')`,
  ]) {
    await sql`create table if not exists work_orders (id int primary key)`;
    const error = await refusal(sql.unsafe(`select ${call}`));
    t.match(error?.code, /^CW00/, call);
    t.ok(error?.detail, 'a detail');
    t.equal((await refusal(sql.unsafe(error?.hint ?? 'no hint')))?.message, undefined, `${call}: ${error?.hint}`);
    for (const { slug } of await sql`select slug from collecta.modules`)
      await sql`select collecta.detach_module(${slug})`;
  }
  await sql`select collecta.attach_module('good', 'good')`;
  const taken = await refusal(sql`select collecta.attach_module('good', 'other')`);
  await sql.unsafe(taken!.hint!);
  await sql`select collecta.attach_module('good', 'other', status_column => 'status', ignore_columns => '{n}',
    exclude_columns => '{"odd \\"name"}')`;
  await sql`alter table good rename status to state`;
  await sql`alter table good rename n to number`;
  for (const { hint } of await health(sql)) await sql.unsafe(hint!);
  t.strictSame(await health(sql), [], 'and of health');
  const [v] = await sql`select * from collecta.module_versions order by version desc limit 1`;
  t.match(v, { status_column: 'state', exclude_columns: ['odd "name'] });
  t.ok(v!.ignore_columns.includes('number'), 'with everything as it was, by the new names');
});

t.test('a restored dump is safe', { skip: !existsSync('/usr/lib/postgresql/15/bin/pg_dump') }, async t => {
  const chosen = process.env.TEST_SERVER;
  process.env.TEST_SERVER = 'debian15';
  const { startServer } = await import(serverOfDebian);
  const debian = await startServer();
  if (chosen === undefined) delete process.env.TEST_SERVER;
  t.teardown(() => debian.stop());
  const admin = connect(debian.url());
  await admin`create database source`;
  await migrate(debian.url('source'));
  const source = connect(debian.url('source'));
  await source.unsafe(people);
  await source.unsafe(`create role payload nologin; grant select (id, name) on people to payload;
    create table stale (id int primary key, ssn text);
    select collecta.attach_module('stale', 'stale', exclude_columns => '{ssn}')`);
  await subscribe(source, undefined, { name: 'all' });
  await subscribe(source, undefined, { name: 'some', payload_role: 'payload' });
  // The column was renamed and dumped before collecta noticed: neither its name nor its number identifies it.
  await source`alter table stale rename ssn to hidden`;
  await source.end();
  await admin`create database copy`;
  await run('sh', [
    '-c',
    `/usr/lib/postgresql/15/bin/pg_dump "${debian.url('source')}" | psql -q "${debian.url('copy')}"`,
  ]);
  const copy = connect(debian.url('copy'));
  const numbers =
    await copy`select attnum::int as n from pg_attribute where attrelid = 'people'::regclass and attname = 'ssn'`;
  t.equal(numbers[0]!.n, 3, 'its columns have other numbers now');
  t.ok((await health(copy)).some(row => row.problem === 'columns are not looked up' && row.subject === 'people'));
  const change = `insert into people values (1, 'open', '123456');
    update people set ssn = '1234567', status = 'done', name = 'x'; truncate people;
    insert into stale values (1, '123456'); update stale set hidden = '1234567'; delete from stale`;
  await copy.unsafe(change);
  t.notMatch(
    JSON.stringify(await copy`select * from collecta.outbox`),
    '123456',
    'before resume_after_restore is called',
  );
  t.match((await copy`select new from collecta.outbox order by change_id limit 1`)[0]!.new, {
    id: 1,
    status: 'open',
    $truncated: true,
  });

  await copy`select collecta.resume_after_restore()`;
  await route(copy);
  const [start] = await copy`select clock_timestamp()::text as at`;
  await copy.unsafe(change);
  t.notMatch(JSON.stringify(await copy`select * from collecta.outbox`), '123456', 'after resume_after_restore()');
  await route(copy);
  const made = await copy`select payload_role as role, event, body::json as body from collecta.events
    where module = 'people' and routed_at > ${start!.at}::text::timestamptz order by sequence, position, payload_role`;
  t.match(
    made.filter(row => row.role === '').map(row => row.body.record),
    [{ id: 1, status: 'open', touched: 0, name: null }, { name: 'x' }, { name: 'x' }, { name: 'x' }],
    'records are whole again',
  );
  t.match(
    made.filter(row => row.role === 'payload').map(row => [row.body.record_id, row.body.record]),
    [
      ['1', { id: 1, name: null }],
      ['1', { id: 1, name: 'x' }],
      ['1', { id: 1, name: 'x' }],
    ],
    'and of a payload_role what it may see',
  );
  const [unknown] = (await health(copy)).filter(row => row.problem === 'excluded column is unknown');
  t.match(unknown, { severity: 'error', subject: 'stale', detail: /ssn/ });
  await copy`select collecta.attach_module('stale', 'stale', exclude_columns => '{hidden}')`;
  t.strictSame(await health(copy), []);
  await copy.unsafe(`insert into stale values (2, '123456')`);
  t.match(await copy`select new from collecta.outbox`, [{ new: { id: 2 } }]);
});
