import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { brief, refuses, route, routeBodies, subscribe } from '../support/changes.ts';
import { type Sql, startServer, useServer } from '../support/database.ts';

const { database, connect, server } = await useServer();
const workOrders = `create table work_orders (id text primary key default collecta.new_id('rec'), product_code text,
  quantity numeric,
    status text, custom_data jsonb, secret_note text, updated_at timestamptz not null default now());
  select collecta.attach_module('work_orders', 'work-orders', status_column => 'status',
    custom_data_column => 'custom_data',
    exclude_columns => '{secret_note}', ignore_columns => '{updated_at}')`;

/** A database in which this DDL was run, with an endpoint of all events. */
async function prepared(ddl: string): Promise<Sql> {
  const { sql } = await database();
  await sql.unsafe(ddl);
  await subscribe(sql);
  return sql;
}
const version = async (sql: Sql) => Number((await sql`select current_setting('server_version_num') as v`)[0]!.v);
const outbox = (sql: Sql) => sql`select * from collecta.outbox order by change_id`;
/** postgres.js returns an array with extra properties, which strictSame does not take for a plain array. */
const plain = async (result: Promise<Iterable<unknown>>) => [...(await result)];
/** A reserved session without a transaction, so that its settings persist. */
async function session(sql: Sql, settings = ''): Promise<Sql> {
  const alone = connect(server.url(sql.options.database), { max: 1 });
  await alone.unsafe(settings);
  return alone;
}

t.test('single statements produce all five events', async t => {
  const sql = await prepared(workOrders);
  await sql`insert into work_orders (id, product_code, quantity, status, custom_data)
    values ('rec_1', 'A-1', 12.50, 'open', '{"a": 1}')`;
  const [created, ...noMore] = await route(sql);
  t.equal(noMore.length, 0, 'an insert is one event, never a status_change');
  t.match(created, {
    event: 'record_created',
    module: 'work-orders',
    record_id: 'rec_1',
    record: { product_code: 'A-1', quantity: 12.5, status: 'open', custom_data: { a: 1 } },
  });
  t.match(created?.id, /^evt_[0-9a-f]{12}7[0-9a-f]{19}$/, 'UUIDv7 shaped');
  t.match(created?.occurred_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  t.notOk('previous' in created!, 'previous only on updates');

  await sql`update work_orders set status = 'done', custom_data = '{"a": 2}', quantity = 13`;
  const updates = await route(sql);
  t.strictSame(brief(updates), ['updated rec_1', 'status_change rec_1', 'custom_data_updated rec_1']);
  t.strictSame(updates[0]!.previous, { quantity: 12.5, status: 'open', custom_data: { a: 1 } }, 'only what changed');
  t.match(updates[1], { from: 'open', to: 'done' });
  t.notOk('from' in updates[0]! || 'from' in updates[2]!, 'from and to for status_change only');
  t.equal(new Set(updates.map(({ id }) => id)).size, 3, 'each event has its id');

  await sql`update work_orders set status = null`;
  t.match(
    (await route(sql)).find(({ event }) => event === 'status_change'),
    { from: 'done', to: null },
  );
  await sql`delete from work_orders`;
  const [deleted] = await route(sql);
  t.match(deleted, {
    event: 'record_deleted',
    record_id: 'rec_1',
    record: { product_code: 'A-1', quantity: 13, status: null },
  });
});

t.test('bulk statements, COPY, ON CONFLICT, CTEs and MERGE are captured', async t => {
  const sql = await prepared("create table t (id int primary key, n int); select collecta.attach_module('t', 't')");
  await sql`insert into t select g, 0 from generate_series(1, 3) g`;
  t.strictSame(brief(await route(sql)), ['created 1', 'created 2', 'created 3']);
  await sql`update t set n = id where id > 1`;
  t.strictSame(
    (await route(sql)).map(e => [e.record_id, e.previous, e.record?.n]),
    [
      ['2', { n: 0 }, 2],
      ['3', { n: 0 }, 3],
    ],
  );

  const copy = await sql`copy t from stdin`.writable();
  await new Promise<void>((done, failed) => {
    copy.on('error', failed).on('finish', done);
    copy.end('10\t1\n11\t1\n');
  });
  t.strictSame(brief(await route(sql)), ['created 10', 'created 11'], 'COPY');

  await sql`insert into t values (10, 5), (12, 5), (11, 1) on conflict (id) do update set n = excluded.n`;
  t.strictSame(
    brief(await route(sql)).sort(),
    ['created 12', 'updated 10'],
    'ON CONFLICT DO UPDATE: what was equal is no change',
  );
  await sql`insert into t values (10, 6), (13, 6) on conflict do nothing`;
  t.strictSame(brief(await route(sql)), ['created 13'], 'ON CONFLICT DO NOTHING');

  await sql`with gone as (delete from t where id = 1 returning *), more as (update t set n = 100 where id = 2)
    insert into t select id + 100, n from gone`;
  t.strictSame(brief(await route(sql)).sort(), ['created 101', 'deleted 1', 'updated 2'], 'a statement of three');

  if ((await version(sql)) >= 150000) {
    await sql`merge into t using (values (2, 1), (3, 1), (50, 1)) s (id, n) on t.id = s.id
      when matched and t.id = 2 then delete when matched then update set n = s.n when not matched then insert
        values (s.id, s.n)`;
    t.strictSame(brief(await route(sql)).sort(), ['created 50', 'deleted 2', 'updated 3'], 'MERGE');
  }
  await sql`delete from t`;
  t.equal(
    (await route(sql)).every(({ event }) => event === 'record_deleted'),
    true,
  );
});

t.test('a statement that changes nothing emits no event', async t => {
  const sql = await prepared(workOrders);
  await sql`insert into work_orders (id, quantity, secret_note) values ('a', 1, 'psst')`;
  await sql`insert into work_orders (id) select 'none' where false`;
  await route(sql);
  await sql`update work_orders set quantity = quantity, custom_data = custom_data`;
  await sql`update work_orders set quantity = 5 where false`;
  await sql`delete from work_orders where false`;
  t.equal((await outbox(sql)).length, 0, 'not even captured');
  await sql`update work_orders set updated_at = '2020-01-01'`;
  t.strictSame(await route(sql), [], 'ignore_columns alone are no change');
  await sql`update work_orders set updated_at = '2020-01-02', quantity = 2`;
  t.match(
    await route(sql),
    [{ record: { updated_at: '2020-01-02T00:00:00+00:00' }, previous: { quantity: 1 } }],
    'but are in the payload',
  );
  await sql`update work_orders set secret_note = 'hush'`;
  t.strictSame(await route(sql), [], 'a change of excluded columns only is no event either');
});

t.test('excluded columns appear nowhere: whole or thin rows, after a rename, after TRUNCATE', async t => {
  const sql = await prepared(workOrders);
  const kept = async () => {
    const [row] = await sql`select coalesce(string_agg(o::text, ''), '') as everything from collecta.outbox o`;
    const bodies = await routeBodies(sql);
    t.ok(bodies.length, 'something was captured');
    return row!.everything + bodies.join();
  };
  await sql`insert into work_orders (id, secret_note) values ('a', 'psst')`;
  t.notMatch(await kept(), /psst|secret_note/);
  await sql`update work_orders set secret_note = 'psst2', quantity = 3`;
  t.notMatch(await kept(), /psst|secret_note/);
  await sql`alter table work_orders rename secret_note to hidden`;
  await sql`update work_orders set hidden = 'psst3', quantity = 4`;
  t.notMatch(await kept(), /psst|hidden/, 'renamed');
  await sql`update work_orders set quantity = 5, hidden = ${'psst4'.repeat(500_000)}`;
  t.notMatch(await kept(), /psst|hidden/, 'large');
  await sql`alter table work_orders drop quantity`;
  await sql`update work_orders set product_code = 'x'`;
  t.notMatch(await kept(), /psst|hidden/, 'another column dropped');
  await sql`truncate work_orders`;
  t.notMatch(await kept(), /psst|hidden/, 'truncated');
});

t.test('nothing is captured where no endpoint subscribes', async t => {
  const { sql } = await database();
  await sql.unsafe(workOrders);
  const change = () =>
    sql.begin(async tx => {
      await tx`insert into work_orders (id, quantity) values ('a', 1)`;
      await tx`update work_orders set quantity = 2`;
      await tx`update work_orders set id = 'b'`;
      await tx`delete from work_orders`;
      await tx`truncate work_orders`;
    });
  await change();
  t.equal((await outbox(sql)).length, 0, 'no endpoint');
  const [bare] = await sql`select prosrc from pg_proc where proname = 'capture_1_update'`;
  t.notMatch(bare!.prosrc, /current_setting|select/i, 'and the function is an empty one');

  const endpoint = await subscribe(sql, ['record_created']);
  await change();
  t.strictSame(
    (await outbox(sql)).map(o => [o.operation, o.new?.id]),
    [
      ['I', 'a'],
      ['U', 'b'],
    ],
    'record_created: inserts and changed keys',
  );
  t.strictSame(brief(await route(sql)), ['created a', 'created b']);
  await sql`select collecta.update_endpoint(${endpoint}, events => '{status_change}')`;
  await change();
  t.strictSame(
    (await outbox(sql)).map(o => o.operation),
    ['U', 'U'],
  );
  t.strictSame(await route(sql), [], 'and no status changed');
  await sql`select collecta.pause_endpoint(${endpoint})`;
  await change();
  t.equal((await outbox(sql)).length, 2, 'paused: still captured');
  await sql`select collecta.delete_endpoint(${endpoint})`;
  await sql`delete from collecta.outbox`;
  await change();
  t.equal((await outbox(sql)).length, 0, 'deleted: no more');
});

t.test('composite keys and changed keys are captured', async t => {
  const sql = await prepared(`create table stock (region text, shelf int, n int, primary key (shelf, region));
    select collecta.attach_module('stock', 'stock');
    create table t (id int primary key, n int); select collecta.attach_module('t', 't');
    create table u (code text unique not null, n int);
    select collecta.attach_module('u', 'u', key_columns => '{code}')`);
  await sql`insert into stock values ('E"U', 42, 1)`;
  t.equal((await route(sql))[0]!.record_id, '[42,"E\\"U"]', 'compact JSON in key order');
  await sql`update stock set region = 'US'`;
  t.strictSame(
    brief(await route(sql)),
    ['deleted [42,"E\\"U"]', 'created [42,"US"]'],
    'a changed key is a delete and a create',
  );
  await sql`insert into u values ('a', 1)`;
  t.strictSame(brief(await route(sql)), ['created a'], 'a named unique key');

  await sql`insert into t values (2, 20), (3, 30), (4, 40)`;
  await route(sql);
  for (const batch of [500, 1]) {
    await sql`update t set id = id - 1, n = n + 1`;
    t.strictSame(
      brief(await route(sql, batch)),
      batch > 1
        ? ['deleted 2', 'deleted 3', 'deleted 4', 'created 1', 'created 2', 'created 3']
        : ['deleted 1', 'deleted 2', 'deleted 3', 'created 0', 'created 1', 'created 2'],
      `all deletes of the statement first, routed in batches of ${batch}`,
    );
  }
});

t.test('changes made by foreign-key actions are captured', async t => {
  const sql = await prepared(`create table users
    (id int primary key, boss int references users on update cascade on delete set null);
    create table tasks (id int primary key, author int references users on delete set null,
      editor int references users on delete set null, n int);
    create table notes (id int primary key, task int references tasks on delete cascade);
    select collecta.attach_module('users', 'users'), collecta.attach_module('tasks', 'tasks'),
      collecta.attach_module('notes', 'notes');
    insert into users values (1, null), (2, 1), (3, 1); insert into tasks values (10, 3, 3, 0), (11, 3, 2, 0);
    insert into notes values (100, 10), (101, 10)`);
  await route(sql);
  await sql`delete from users where id = 3`;
  const events = await route(sql);
  t.strictSame(
    brief(events).filter(e => e.startsWith('deleted')),
    ['deleted 3'],
  );
  const ten = events.filter(e => e.record_id === '10');
  t.strictSame(
    ten.map(e => e.previous),
    [{ author: 3 }, { editor: 3 }],
    'two columns that reference it: each update once, in order',
  );
  t.match(ten.at(-1)!.record, { author: null, editor: null });
  t.strictSame(
    events.filter(e => e.record_id === '11').map(e => e.previous),
    [{ author: 3 }],
  );

  await sql`update users set id = 9 where id = 1`;
  const renamed = await route(sql);
  t.strictSame(
    brief(renamed).sort(),
    ['created 9', 'deleted 1', 'updated 2'],
    'a self-reference with ON UPDATE CASCADE loses nothing',
  );
  await sql`delete from tasks`;
  t.strictSame(
    brief(await route(sql)).sort(),
    ['deleted 10', 'deleted 100', 'deleted 101', 'deleted 11'],
    'ON DELETE CASCADE',
  );
});

t.test('generated columns, quoted, 63-byte and clashing names are captured', async t => {
  const sql = await prepared('select 1');
  const long = 'n'.repeat(63);
  await sql.unsafe(`create schema "Odd ""schema"; create table "Odd ""schema"."${long}" ("Id ""x'y" int primary key,
    "${'c'.repeat(63)}" int, doubled int generated always as ("${'c'.repeat(63)}" * 2) stored,
      "collecta old" int, "collecta new" text, context text, stamp int, omitted text, r int, o int, n int, position int,
      old text, new text, "%s" int, "''; drop" int)`);
  await sql`select collecta.attach_module(${`"Odd ""schema"."${long}"`}::regclass, 'odd',
    status_column => ${'c'.repeat(63)}, exclude_columns => '{omitted}')`;
  const table = `"Odd ""schema"."${long}"`;
  await sql.unsafe(
    `insert into ${table} ("Id ""x'y", "${'c'.repeat(63)}", "collecta old", context, omitted)
      values (1, 2, 3, 'mine', 'secret')`,
  );
  await sql.unsafe(`update ${table} set "${'c'.repeat(63)}" = 4, "collecta new" = 'x', stamp = 1`);
  await sql.unsafe(`delete from ${table}`);
  await sql.unsafe(`insert into ${table} ("Id ""x'y") values (7)`);
  await sql.unsafe(`truncate ${table}`);
  const events = await route(sql);
  t.strictSame(brief(events), ['created 1', 'updated 1', 'status_change 1', 'deleted 1', 'created 7', 'deleted 7']);
  t.match(events[0]!.record, { doubled: 4, 'collecta old': 3, context: 'mine', '%s': null });
  t.notOk('context' in events[0]!, 'the column is not the context');
  t.match(events[1], {
    previous: { doubled: 4, 'collecta new': null, stamp: null },
    record: { doubled: 8, 'collecta new': 'x' },
  });

  if ((await version(sql)) >= 180000) {
    const notices: string[] = [];
    const loud = connect(server.url(sql.options.database), { onnotice: notice => notices.push(notice.message ?? '') });
    await loud.unsafe(
      'create table v (id int primary key, a int, twice int generated always as (a * 2) virtual); ' +
        "select collecta.attach_module('v', 'v')",
    );
    t.ok(
      notices.some(text => /twice/.test(text)),
      'a notice names the virtual column',
    );
    await loud.unsafe('insert into v values (1, 2); update v set a = 3; truncate v');
    for (const { record } of await route(sql))
      t.notOk('twice' in record!, 'virtual generated columns are left out, never null by accident');
  }
});

t.test('columns of every kind are captured', async t => {
  const sql = await prepared(`create type mood as enum ('sad', 'ok'); create domain posint as int check (value > 0);
    create type pair as (a int, b text);
    create type span as range (subtype = float8);
    create table kinds (id int primary key, j json, jb jsonb, x xml, p point, b bytea, arr int[], texts text[], e mood,
      d posint, c pair, cs pair[], s span, t text, n numeric, secret text);
    select collecta.attach_module('kinds', 'kinds', status_column => 't', custom_data_column => 'j',
      exclude_columns => '{secret}')`);
  await sql`insert into kinds (id, j, jb, x, p, b, arr, texts, e, d, c, cs, s, t, n)
    values (1, ${'{"z":"\\u0000","s":"\\ud800","big":1e200000,"a": 1}'}::text::json, '{"k": 1}', '<a/>', '(1,2)',
      '\\x00ff', '{{1,2},{3,4}}',
    '{a,"b,c",null}', 'ok', 5, '(1,"x y")', '{"(1,a)"}', '[1,2)',
    ${`back\\slash \\u0041 "quotes" é \u007fu0041 \u007fuzz \u007fd`}, 123456789012345678901234567890.12345678900)`;
  const [body] = await routeBodies(sql);
  t.ok(
    body!.includes('"j":{"z":"\\u0000","s":"\\ud800","big":1e200000,"a": 1}'),
    'a json column arrives as it was written',
  );
  t.ok(body!.includes('"n":123456789012345678901234567890.12345678900'), 'digits');
  const text = `back\\slash \\u0041 "quotes" é \u007fu0041 \u007fuzz \u007fd`;
  t.match(JSON.parse(body!.replace('1e200000', '1')), {
    record: {
      jb: { k: 1 },
      x: '<a/>',
      p: '(1,2)',
      b: '\\x00ff',
      arr: [
        [1, 2],
        [3, 4],
      ],
      texts: ['a', 'b,c', null],
      e: 'ok',
      d: 5,
      c: { a: 1, b: 'x y' },
      cs: [{ a: 1, b: 'a' }],
      s: '[1,2)',
      t: text,
    },
  });

  await sql`update kinds set x = x, p = p, j = j, c = c`;
  t.strictSame(await route(sql), [], 'types without an equality operator can be unchanged');
  await sql`update kinds set t = 'plain', j = '{"a": 2}'`;
  const changed = await routeBodies(sql);
  t.equal(changed.length, 3);
  t.ok(
    changed[0]!.includes('"previous":{"j":{"z":"\\u0000","s":"\\ud800","big":1e200000,"a": 1}'),
    'and is in previous as it was',
  );
  t.equal(JSON.parse(changed[1]!.replace('1e200000', '1')).from, text, 'from is the text that it was');
  await sql`update kinds set x = '<b/>', p = '(1,3)', c = '(2,z)', e = 'sad'`;
  t.match((await route(sql))[0]!.previous, { x: '<a/>', p: '(1,2)', c: { a: 1, b: 'x y' }, e: 'ok' });
  await sql`create function shout(mood) returns json language sql as $$ select '{"cast": true}'::json $$`;
  await sql`create cast (mood as json) with function shout(mood)`;
  await sql`update kinds set e = 'ok', n = 1`;
  t.match((await route(sql))[0]!.record, { e: { cast: true } }, 'a user-defined cast to json is used');
});

t.test('keys and scopes with characters that JSON escapes are captured', async t => {
  const sql = await prepared(
    `create table t (a text primary key, tenant text);
      select collecta.attach_module('t', 't', scope_column => 'tenant')`,
  );
  const key = `\u0001 \u007f \\u0041 "q" \n`;
  const endpoint = await subscribe(sql, ['record_created'], { scope: key });
  await sql`insert into t values (${key}, ${key})`;
  t.equal((await route(sql))[0]!.record_id, key);
  t.strictSame(await plain(sql`select endpoint_id from collecta.delivery_queue where endpoint_id = ${endpoint}`), [
    { endpoint_id: endpoint },
  ]);
});

t.test('digits and time zone are exact under any session settings', async t => {
  const sql =
    await prepared(`create table t (id int primary key, at timestamptz, d date, i interval, ii interval[], b bytea,
    f float8, f4 float4, r daterange, tr tstzrange, secret text);
    select collecta.attach_module('t', 't', exclude_columns => '{secret}')`);
  const hostile = await session(
    sql,
    `create schema hostile; create function hostile.clock_timestamp() returns timestamptz
      language sql as 'select null::timestamptz';
    create function hostile.row_to_json(anyelement) returns json language sql as $$select '{"forged":1}'::json$$;
    create function hostile.pg_column_size(anyelement) returns int language sql as 'select 1/0';
    create domain pg_temp.timestamptz as pg_catalog.timestamptz check (false);
    create temp table new_rows (id int); create temp table pg_attribute (attname name);
    set search_path = pg_temp, hostile, pg_catalog, public; set timezone = 'Asia/Kolkata'; set intervalstyle = iso_8601;
    set datestyle = 'SQL, DMY'; set bytea_output = escape;
    set extra_float_digits = -15; set standard_conforming_strings = off; set escape_string_warning = off;
    set row_security = off; set transform_null_equals = on; set xmloption = document`,
  );
  await hostile`insert into t values (1, '2026-07-01 12:00:00.123456+00'::pg_catalog.timestamptz, '2026-07-13'::date,
    '1 day 2 hours', array['1 day 2 hours'::interval], decode('00ff', 'hex'), 0.1::float8 + 0.2, 0.1,
    daterange('2026-07-13'::date, '2026-07-20'::date),
    tstzrange('2026-07-01 12:00:00+00'::pg_catalog.timestamptz, null), 's')`;
  await hostile`update t set f = 1.0::float8 / 3`;
  const bodies = await routeBodies(sql);
  t.ok(bodies[0]!.includes('"f":0.30000000000000004'), 'float8');
  t.ok(bodies[1]!.includes('"f":0.3333333333333333') && bodies[1]!.includes('"previous":{"f":0.30000000000000004}'));
  t.match(JSON.parse(bodies[0]!).record, {
    at: '2026-07-01T12:00:00.123456+00:00',
    d: '2026-07-13',
    i: '1 day 02:00:00',
    ii: ['1 day 02:00:00'],
    b: '\\x00ff',
    f4: 0.1,
    r: '[2026-07-13,2026-07-20)',
    tr: '["2026-07-01 12:00:00+00",)',
  });
  t.match(JSON.parse(bodies[0]!).occurred_at, /Z$/);
  t.ok(Math.abs(Date.parse(JSON.parse(bodies[0]!).occurred_at) - Date.now()) < 60_000, 'in UTC');
  await hostile`truncate t`;
  t.strictSame(brief(await route(sql)), ['deleted 1'], 'TRUNCATE too');
});

t.test('only the settings that the columns need are pinned, and new columns need others at once', async t => {
  const sql = await prepared(`create table t (id int primary key, at timestamptz);
    select collecta.attach_module('t', 't')`);
  const pinned = async () =>
    (await sql`select proconfig from pg_proc where proname = 'capture_1_update'`)[0]!.proconfig.length;
  t.equal(await pinned(), 2, 'search_path and TimeZone');
  const writer = await session(
    sql,
    `set intervalstyle = iso_8601; set datestyle = 'SQL, DMY'; set bytea_output = escape; set extra_float_digits = -15`,
  );
  await writer`insert into t values (1), (2)`; // It has its plans.
  await route(sql);
  await sql.unsafe(`alter table t add i interval default '1 day 2 hours', add b bytea default '\\x00ff',
    add f float8 default 0.1::float8 + 0.2, add r daterange default '[2026-07-13,2026-07-20)'`);
  const record = { i: '1 day 02:00:00', b: '\\x00ff', f: 0.30000000000000004, r: '[2026-07-13,2026-07-20)' };
  for (const written of [false, true]) {
    if (written) await sql`select * from collecta.maintain()`;
    await writer`insert into t (id) values (3)`;
    await writer`update t set at = now() where id = 3`;
    await writer`update t set at = now()`;
    await writer`delete from t where id = 3`;
    const events = await route(sql);
    t.equal(events.length, 6);
    for (const event of events) t.match(event.record, record, event.event);
    t.match(
      await writer`select current_setting('intervalstyle') as i, current_setting('datestyle') as d,
        current_setting('bytea_output') as b, current_setting('extra_float_digits') as f`,
      [{ i: 'iso_8601', d: 'SQL, DMY', b: 'escape', f: '-15' }],
      'and the session keeps its own',
    );
  }
  t.ok((await pinned()) > 2);
  await writer.begin(async tx => {
    await tx`insert into t (id) values (3)`;
    t.match(await tx`select current_setting('intervalstyle') as i`, [{ i: 'iso_8601' }], 'inside a transaction too');
  });
});

t.test('a partition of a partition that is detached: a session that has its plans captures it no more', async t => {
  const sql = await prepared(`create table t (id int primary key) partition by range (id);
    create table half partition of t for values from (0) to (100) partition by range (id);
    create table leaf partition of half for values from (0) to (50);
    create table other partition of half for values from (50) to (100);
    select collecta.attach_module('t', 't')`);
  const writer = await session(sql);
  for (let id = 1; id <= 7; id++) await writer`insert into leaf values (${id})`;
  t.equal((await route(sql)).length, 7, 'written directly');
  await sql`alter table half detach partition leaf`;
  await writer`insert into leaf values (8)`;
  await writer`insert into other values (51)`;
  t.strictSame(brief(await route(sql)), ['created 51']);
});

t.test("a writer's temporary types run nothing with the capturing role's rights", async t => {
  const sql = await prepared(`create table t (id int primary key); select collecta.attach_module('t', 't');
    create role mallory_${process.pid}; grant all on t to mallory_${process.pid};
    create table seen (who name); grant insert on seen to public;
    create function public.spy() returns boolean language plpgsql as $$begin insert into public.seen
      values (current_user); return true; end$$`);
  const mallory = await session(
    sql,
    `set role mallory_${process.pid}; create domain pg_temp.timestamptz as pg_catalog.timestamptz check (public.spy());
      create domain pg_temp.text as pg_catalog.text check (public.spy())`,
  );
  await mallory`insert into t values (1)`;
  await mallory`update t set id = 2`;
  await mallory`delete from t`;
  t.strictSame(await plain(sql`select distinct who from seen where who::text not like 'mallory%'`), []);
  t.equal((await outbox(sql)).length, 3);
});

t.test('rows above the size limit are captured without their large columns', async t => {
  const sql =
    await prepared(`create table t (id int primary key, big text, bin bytea, status text, tenant text, data jsonb);
    alter table t alter bin set storage external;
    select collecta.attach_module('t', 't', status_column => 'status', custom_data_column => 'data',
      scope_column => 'tenant')`);
  await sql`insert into t values (1, repeat('x', 900000), null, 'open', 'acme', '{}')`;
  t.equal(String((await route(sql))[0]!.record!.big).length, 900_000, 'below the limit: whole');
  await sql`update t set big = repeat('x', 2000000), status = 'done'`;
  const events = await route(sql);
  t.strictSame(brief(events), ['updated 1', 'status_change 1']);
  t.match(events[1], {
    record: { id: 1, status: 'done', tenant: 'acme' },
    from: 'open',
    to: 'done',
    truncated: true,
    previous: { status: 'open' },
  });
  t.strictSame(Object.keys(events[0]!.record!).sort(), ['id', 'status', 'tenant'], 'key, scope and status only');
  await sql`update t set data = '{"a": 1}'`;
  t.strictSame(brief(await route(sql)), ['updated 1', 'custom_data_updated 1'], 'whether custom_data changed');
  await sql`update t set big = big || 'y'`;
  t.strictSame(brief(await route(sql)), ['updated 1']);
  await sql`update t set id = 2`;
  t.strictSame(brief(await route(sql)), ['deleted 1', 'created 2']);
  await sql`update t set big = 'small again'`;
  t.match(await route(sql), [{ truncated: true, record_id: '2' }], 'from large to small');
  await sql`update t set big = 'small'`;
  t.match(await route(sql), [{ truncated: undefined, record: { big: 'small' }, previous: { big: 'small again' } }]);
  await sql`update t set big = (select string_agg(md5(g::text), '') from generate_series(1, 40000) g)`;
  await sql`truncate t`;
  t.match(
    await route(sql),
    [
      { event: 'record_updated', truncated: true },
      { event: 'record_deleted', truncated: true, record: { id: 2 } },
    ],
    'incompressible; TRUNCATE',
  );

  await sql`update collecta.settings set max_record_bytes = 10000`;
  await sql`insert into t values (3, repeat('x', 11000), null, 'open', 'acme', '{}'),
    (4, repeat('x', 9000), null, 'open', 'acme', '{}')`;
  t.strictSame(
    (await route(sql)).map(e => !!e.truncated),
    [true, false],
    'the limit is read when used',
  );

  await sql`insert into t values (5, repeat('a', 280000000), null, 'open', 'acme', '{}')`;
  await sql`insert into t values (6, null, decode(repeat('00', 140000000), 'hex'), 'open', 'acme', '{}')`;
  await sql`update t set status = 'done' where id = 5`;
  t.strictSame(
    brief((await route(sql)).filter(e => e.truncated)),
    ['created 5', 'created 6', 'updated 5', 'status_change 5'],
    '280 MB of text that compresses well, 140 MB of bytea',
  );
});

t.test('TRUNCATE emits a delete for each row or a count, is ignored, or is refused', async t => {
  const sql =
    await prepared(`create table a (id int primary key, n int); create table b (id int primary key, a int references a);
    select collecta.attach_module('a', 'a'), collecta.attach_module('b', 'b');
    insert into a values (1, 1), (2, 2); insert into b values (5, 1)`);
  await route(sql);
  await sql`truncate a cascade`;
  t.strictSame(brief(await route(sql)).sort(), ['deleted 1', 'deleted 2', 'deleted 5'], 'of both tables');
  await sql`truncate a cascade`;
  t.strictSame(await route(sql), [], 'a TRUNCATE of empty tables sends nothing');

  await sql`insert into a select g, g from generate_series(1, 4) g`;
  await sql`update collecta.settings set max_truncate_records = 3`;
  await route(sql);
  await sql`truncate a cascade`;
  t.match(
    await route(sql),
    [{ event: 'record_deleted', record_id: null, record: null, count: 4 }],
    'above the limit one with the count',
  );

  await sql`select collecta.attach_module('b', 'b', on_truncate => 'ignore')`;
  await sql`insert into b values (1, null)`;
  await route(sql);
  await sql`truncate b`;
  t.strictSame(await route(sql), [], 'ignore');
  await sql`select collecta.attach_module('b', 'b', on_truncate => 'refuse')`;
  const refused = await sql`truncate b`.catch(error => error);
  t.equal(refused.code, 'CW030', 'refuse');
  t.ok(refused.detail && refused.hint);
});

t.test('TRUNCATE by a role with no other privilege, in another schema, with row security', async t => {
  const role = `truncator_${process.pid}`;
  const { sql } = await database();
  await subscribe(sql);
  await sql.unsafe(`create role ${role}; create schema private; create table private.t (id int primary key);
    grant usage on schema private to ${role}; grant truncate on private.t to ${role};
    select collecta.attach_module('private.t', 't'); insert into private.t values (1), (2);
    alter table private.t enable row level security`);
  await route(sql);
  const error = await refuses(
    t,
    sql`select collecta.attach_module('private.t', 't')`,
    'CW002',
    'row security that hides rows from the capturing role',
  );
  t.match(error?.hint, /create policy .* using \(true\)/);
  await sql.unsafe(error!.hint!.split(';')[0]!);
  await sql`select collecta.attach_module('private.t', 't')`;
  const truncator = await session(sql, `set role ${role}; set row_security = off`);
  await truncator`truncate private.t`;
  t.strictSame(brief(await route(sql)).sort(), ['deleted 1', 'deleted 2'], 'after the hint: every record');
});

t.test('partitioned tables are captured', async t => {
  const sql = await prepared(`create table p (id int, region text, n int, secret text,
    primary key (id, region)) partition by list (region);
    create table p_eu partition of p for values in ('eu');
    create table p_us (n int, gone int, secret text, region text not null, id int not null);
    alter table p_us drop column gone; alter table p attach partition p_us for values in ('us');
    create table p_rest partition of p default partition by hash (id);
    create table p_rest_0 partition of p_rest for values with (modulus 1, remainder 0);
    select collecta.attach_module('p', 'p', status_column => 'n', exclude_columns => '{secret}')`);
  t.strictSame(await plain(sql`select subject from collecta.health where subject = 'p'`), []);
  await sql`insert into p values (1, 'eu', 1, 'psst'), (2, 'us', 2, 'psst'), (3, 'xx', 3, 'psst')`;
  const created = await route(sql);
  t.strictSame(
    brief(created).sort(),
    ['created [1,"eu"]', 'created [2,"us"]', 'created [3,"xx"]'],
    'through the parent: once each',
  );
  t.notMatch(JSON.stringify(created), 'psst');

  await sql`insert into p_us (id, region, n, secret) values (9, 'us', 9, 'psst')`;
  await sql`update p_us set n = 10 where id = 9`;
  await sql`delete from p_us where id = 9`;
  await sql`insert into p_rest_0 values (8, 'yy', 1, 'psst')`;
  await sql`insert into p_rest values (7, 'yy', 1, 'psst')`;
  const direct = await route(sql);
  t.strictSame(
    brief(direct),
    [
      'created [9,"us"]',
      'updated [9,"us"]',
      'status_change [9,"us"]',
      'deleted [9,"us"]',
      'created [8,"yy"]',
      'created [7,"yy"]',
    ],
    'directly to a leaf and to a middle one',
  );
  t.notMatch(JSON.stringify(direct), 'psst', 'excluded there too, where columns stand in another order');

  await sql`update p set region = case region when 'eu' then 'us' when 'us' then 'eu' else region end, n = n + 100`;
  const moved = await route(sql);
  t.strictSame(brief(moved).sort(), [
    'created [1,"us"]',
    'created [2,"eu"]',
    'deleted [1,"eu"]',
    'deleted [2,"us"]',
    'status_change [3,"xx"]',
    'status_change [7,"yy"]',
    'status_change [8,"yy"]',
    'updated [3,"xx"]',
    'updated [7,"yy"]',
    'updated [8,"yy"]',
  ]);
  t.match(
    moved.find(e => e.record_id === '[1,"us"]'),
    { record: { id: 1, n: 101, region: 'us' } },
    'rows moved between partitions are paired right',
  );

  await sql.unsafe(`create function drop_it() returns trigger
    language plpgsql as $$begin if new.id = 1 then return null; end if; return new; end$$;
    create trigger drop_it before insert on p_eu for each row execute function drop_it()`);
  await sql`update p set region = 'eu', n = n + 1 where region = 'us' or id in (2, 3)`;
  const dropped = await route(sql);
  t.strictSame(
    brief(dropped).sort(),
    ['created [3,"eu"]', 'deleted [1,"us"]', 'deleted [3,"xx"]', 'status_change [2,"eu"]', 'updated [2,"eu"]'],
    "a moved row that a partition's trigger drops is a delete, its neighbours are themselves",
  );
  t.match(
    dropped.find(e => e.event === 'record_updated'),
    { record: { id: 2, n: 103 }, previous: { n: 102 } },
  );

  await sql`create table p_asia partition of p for values in ('asia')`;
  t.match(
    [...(await sql`select severity, detail, hint from collecta.health where subject = 'p'`)],
    [{ severity: 'warning', detail: /p_asia/, hint: "select collecta.attach_partitions('p');" }],
    'health reports a new partition',
  );
  t.equal((await sql`select collecta.attach_partitions('p') as made`)[0]!.made, 4);
  t.strictSame(await plain(sql`select * from collecta.health where subject = 'p'`), []);
  await sql`insert into p_asia values (50, 'asia', 1, 'psst')`;
  await route(sql);
  await sql`truncate p`;
  t.strictSame(
    brief(await route(sql)).sort(),
    ['deleted [2,"eu"]', 'deleted [3,"eu"]', 'deleted [50,"asia"]', 'deleted [7,"yy"]', 'deleted [8,"yy"]'],
    'TRUNCATE of the parent: each record once',
  );
  await sql`insert into p_eu values (60, 'eu', 1, 'psst')`;
  await route(sql);
  await sql`truncate p_eu`;
  t.strictSame(brief(await route(sql)), ['deleted [60,"eu"]'], 'TRUNCATE of a leaf');
});

t.test('columns may be added, renamed and dropped while a table is attached', async t => {
  const sql = await prepared(workOrders);
  const writer = await session(sql);
  await writer`insert into work_orders (id, status) values ('a', 'open')`;
  await writer`update work_orders set quantity = 1`;
  await route(sql);
  await sql`alter table work_orders add column added int default 7`;
  await writer`update work_orders set quantity = 2`;
  t.match(
    (await route(sql))[0]!.record,
    { added: 7, quantity: 2 },
    'an added column is captured, by a session that had its plans',
  );
  await sql`alter table work_orders rename product_code to code`;
  await sql`alter table work_orders drop quantity`;
  await sql`alter table work_orders alter added type text`;
  await writer`update work_orders set code = 'x', added = 'seven'`;
  t.match((await route(sql))[0], { record: { code: 'x', added: 'seven' }, previous: { code: null, added: '7' } });

  t.strictSame(await plain(sql`select * from collecta.health where subject = 'work-orders'`), []);
  await sql`alter table work_orders rename status to state`;
  t.match(
    await sql`select severity, problem, hint from collecta.health where subject = 'work-orders'`,
    [{ severity: 'error', problem: 'configured column is gone', hint: /attach_module/ }],
    'health says so before anything is lost',
  );
  await writer`update work_orders set state = 'done'`;
  await writer`insert into work_orders (id, state, custom_data) values ('b', 'new', '{"null":"\\u0001"}')`;
  await writer`update work_orders set custom_data = '{}' where id = 'b'`;
  t.strictSame(await route(sql), [], 'a configured column that was renamed: set aside');
  t.match(await sql`select module, record_id, reason from collecta.unrouted order by change_id`, [
    { module: 'work-orders', record_id: 'a', reason: /status/ },
    { record_id: 'b' },
    { record_id: 'b' },
  ]);
  t.match(await sql`select severity from collecta.health where problem = 'changes are set aside'`, [
    { severity: 'warning' },
  ]);
  t.equal((await sql`select collecta.route_again() as n`)[0]!.n, 3);
  await route(sql);
  t.equal((await sql`select * from collecta.unrouted`).length, 3, 'again, without the cause mended: still there');
  await sql`select collecta.attach_module('work_orders', 'work-orders', status_column => 'state',
    custom_data_column => 'custom_data', exclude_columns => '{secret_note}')`;
  t.strictSame(await plain(sql`select * from collecta.health where problem = 'configured column is gone'`), []);
  const [{ before }] = (await sql`select clock_timestamp()::text as before`) as unknown as [{ before: string }];
  await sql`select collecta.route_again()`;
  await route(sql);
  const events =
    await sql`select event, record_id, body::json from collecta.events where routed_at > ${before}::text::timestamptz
    order by sequence, position`;
  t.strictSame(
    events.map(e => `${e.event} ${e.record_id}`),
    ['record_updated a', 'status_change a', 'record_created b', 'record_updated b', 'custom_data_updated b'],
    'attached again: all of it is delivered',
  );
  t.match(events[1]!.body, { from: 'open', to: 'done' });
  t.equal((await sql`select * from collecta.unrouted`).length, 0);

  await sql`alter table work_orders drop column state`;
  await writer`update work_orders set code = 'y'`;
  t.pass("a dropped configured column does not fail the user's statement");
});

t.test('a change that was set aside with JSON that jsonb refuses is routed unchanged later', async t => {
  const sql = await prepared(
    `create table t (id int primary key, status text, j json);
      select collecta.attach_module('t', 't', status_column => 'status')`,
  );
  await sql`alter table t rename status to state`;
  const json = '{"z": "\\u0000\\ud800", "n": 1e200000}';
  await (await session(sql))`begin; set local collecta.context = '{"by": "\\u0000"}';
    insert into t values (1, 'a', '{"z": "\\u0000\\ud800", "n": 1e200000}'); commit`.simple();
  await route(sql);
  await sql`select collecta.attach_module('t', 't', status_column => 'state')`;
  t.equal((await sql`select collecta.route_again() as n`)[0]!.n, 1);
  await route(sql);
  const [event] = await sql`select body from collecta.events`;
  t.ok(event!.body.includes(json) && event!.body.includes('"context":{"by": "\\u0000"}'));
});

t.test('collecta.context is captured, and collecta.muted suppresses capture', async t => {
  const sql = await prepared(workOrders);
  const writer = await session(sql);
  await writer.unsafe(`begin; set local collecta.context = '{"user": 7}'; insert into work_orders (id) values ('a');
    commit; insert into work_orders (id) values ('b');
    begin; set local collecta.context = 'no "json'; insert into work_orders (id) values ('c'); commit`);
  t.strictSame(
    (await route(sql)).map(e => e.context),
    [{ user: 7 }, undefined, 'no "json'],
  );

  await writer.unsafe(
    "begin; set local collecta.muted = 'on'; insert into work_orders (id) values ('d'), ('e'); " +
      "update work_orders set quantity = 1; delete from work_orders where id = 'a'; " +
      "delete from work_orders where false; commit; insert into work_orders (id) values ('f')",
  );
  t.strictSame(brief(await route(sql)), ['created f']);
  t.strictSame(
    await plain(sql`select module, operation, records::int from collecta.muted_changes order by change_id`),
    [
      { module: 'work-orders', operation: 'insert', records: 2 },
      { module: 'work-orders', operation: 'update', records: 5 },
      { module: 'work-orders', operation: 'delete', records: 1 },
    ],
    'the mute can be seen',
  );
  t.match(await sql`select severity from collecta.health where problem = 'changes were muted'`, [{ severity: 'info' }]);
});

t.test('changes of a trigger that updates its own row again are captured in order', async t => {
  const sql = await prepared(`create table orders (id int primary key, total numeric, touched int default 0);
    select collecta.attach_module('orders', 'orders', status_column => 'touched');
    create function fill() returns trigger language plpgsql as $$begin update orders set total = 50 where id = new.id;
    return null; end$$;
    create trigger a_fill after insert on orders for each row execute function fill();
    create function revert() returns trigger language plpgsql as $$begin update orders set total = old.total
      where id = new.id; return null; end$$;
    create trigger a_revert after update on orders for each row when (new.total = 99) execute function revert()`);
  for (const batch of [500, 1]) {
    await sql`delete from orders`;
    await route(sql);
    await sql`insert into orders values (1), (2)`;
    const events = await route(sql, batch);
    for (const id of ['1', '2']) {
      const own = events.filter(e => e.record_id === id);
      t.strictSame(
        own.map(e => e.event),
        ['record_created', 'record_updated'],
        `created before updated, batch ${batch}`,
      );
      t.strictSame(
        own.map(e => e.record!.total),
        [null, 50],
      );
    }
  }
  await sql`update orders set total = 99 where id = 1`;
  t.strictSame(
    (await route(sql)).map(e => [e.previous!.total, e.record!.total]),
    [
      [50, 99],
      [99, 50],
    ],
    'a trigger reverts the change: the last event has the final state',
  );
  await sql`update orders set total = 99, touched = touched + 1 where id = 1`;
  t.strictSame(
    (await route(sql)).map(e => [e.event, e.previous!.total, e.record!.total]),
    [
      ['record_updated', 50, 99],
      ['status_change', 50, 99],
      ['record_updated', 99, 50],
    ],
  );
  await sql.begin(async tx => {
    await tx`update orders set total = 99 where id = 1`;
    await tx`update orders set total = 7 where id = 1`;
    await tx`update orders set total = 99 where id = 1`;
    await tx`update orders set total = 8 where id = 1`;
  });
  t.strictSame(
    (await route(sql, 2)).map(e => e.record!.total),
    [99, 50, 7, 99, 7, 8],
    'in one transaction, over several batches',
  );

  await sql`insert into orders select g from generate_series(100, 5099) g`;
  const started = performance.now();
  const many = await route(sql);
  t.equal(many.length, 10_000);
  t.ok(performance.now() - started < 20_000, 'and thousands of them do not take minutes');
  const state = new Map<string, string[]>();
  for (const e of many) state.set(e.record_id!, [...(state.get(e.record_id!) ?? []), e.event]);
  t.ok([...state.values()].every(list => list.join() === 'record_created,record_updated'));
});

t.test('a rollback leaves no captured change', async t => {
  const sql = await prepared(workOrders);
  await sql
    .begin(async tx => {
      await tx`insert into work_orders (id) values ('a')`;
      throw new Error('undo');
    })
    .catch(() => {});
  t.equal((await outbox(sql)).length, 0);
  await sql.begin(async tx => {
    await tx`insert into work_orders (id) values ('b')`;
    await tx.savepoint(sp => sp`insert into work_orders (id) values ('c'), ('b')`).catch(() => {});
    await tx
      .savepoint(async sp => {
        await sp`update work_orders set quantity = 4`;
        throw new Error('undo');
      })
      .catch(() => {});
  });
  t.strictSame(brief(await route(sql)), ['created b']);
});

t.test('a bulk update after small ones in the same session still has a fast plan', async t => {
  const sql = await prepared(
    "create table t (id int primary key, n int, filler text default 'xxxxxxxxxx'); " +
      "select collecta.attach_module('t', 't'); insert into t select g, 0 from generate_series(1, 10000) g",
  );
  const bulk = async (on: Sql) => {
    const started = performance.now();
    await on`update t set n = n + 1`;
    return performance.now() - started;
  };
  const used = await session(sql);
  for (let i = 0; i < 1000; i++) await used`update t set n = n + 1 where id = ${i + 1}`;
  const after = Math.min(await bulk(used), await bulk(used));
  const fresh = await session(sql);
  const alone = Math.min(await bulk(fresh), await bulk(await session(sql)));
  t.ok(
    after < alone * 3 + 100,
    `${Math.round(after)} ms after one-row updates, ${Math.round(alone)} ms in a fresh session`,
  );
});

t.test('another role can own the capture functions', async t => {
  const { sql } = await database();
  const [owner] = await sql`select proowner::regrole::text as owner from pg_proc where proname = 'capturing_role'`;
  t.equal(owner!.owner, 'collecta_owner');
  await sql.unsafe(workOrders);
  await subscribe(sql);
  t.strictSame(
    await plain(
      sql`select distinct proowner::regrole::text as owner, has_function_privilege('public', oid, 'execute') as anybody
        from pg_proc where proname like 'capture\\_1\\_%'`,
    ),
    [{ owner: 'collecta_capture', anybody: false }],
  );
});

t.test('changes of a prepared transaction are captured', async t => {
  const two = await startServer(['-c', 'max_prepared_transactions=5']);
  t.teardown(() => two.stop());
  await migrate(two.url());
  const sql = connect(two.url());
  await sql.unsafe(workOrders);
  await subscribe(sql);
  /** Another session holds the lock that a sleeping runner holds, so that writers notify. */
  const sleeper = connect(two.url(), { max: 1 });
  await sleeper`select pg_advisory_lock(1668246636, 1)`;
  const heard: string[] = [];
  await sql.listen('collecta_wake', payload => heard.push(payload));
  const writer = connect(two.url(), { max: 1 });
  await writer.unsafe("begin; insert into work_orders (id) values ('a'); prepare transaction 'one'");
  await sql.unsafe("commit prepared 'one'");
  t.strictSame(
    brief(await route(sql)),
    ['created a'],
    'where prepared transactions are possible, writers do not notify by default',
  );

  const on = connect(two.url(), { max: 1 });
  await on`set collecta.notify = 'on'`;
  await on`insert into work_orders (id) values ('b')`;
  await sql`select pg_notify('collecta_wake', 'end')`;
  while (!heard.includes('end')) await new Promise(done => setTimeout(done, 5));
  t.strictSame(heard, ['', 'end'], 'only a session that turns it on notifies');
  await sql`update collecta.settings set notify = true`;
  await sql`select collecta.write_capture_functions(module_id) from collecta.modules`;
  const failed = await writer
    .unsafe("begin; insert into work_orders (id) values ('c'); prepare transaction 'two'")
    .catch(error => error);
  t.equal(failed.code, '0A000', 'turned on for all: PostgreSQL refuses to prepare');
  await writer.unsafe(
    "begin; set local collecta.notify = 'off'; insert into work_orders (id) values ('d'); prepare transaction 'three'",
  );
  await sql.unsafe("commit prepared 'three'");
  t.strictSame(brief(await route(sql)), ['created b', 'created d'], "collecta.notify = 'off' in the transaction");
});
