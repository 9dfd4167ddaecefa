import fc from 'fast-check';
import t from 'tap';
import { route, routeBodies, subscribe } from '../support/changes.ts';
import { useServer } from '../support/database.ts';

const { database } = await useServer();
const quick = { numRuns: 60, interruptAfterTimeLimit: 30_000 };
/**
 * Text with characters that JSON, our masking of \u escapes, or pattern matching could mishandle. There is no NUL,
 * which text cannot hold.
 */
const nasty = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '\\',
        '\\u',
        '\\u0041',
        '\u007f',
        '\u007fu',
        '\u007fd',
        'u0000',
        '"',
        '\n',
        '\u0001',
        '\u001f',
        '/',
        '%s',
        "'",
        '$1',
        '\u2028',
        'é',
        '😀',
        '\ufffd',
        'null',
      ),
      fc.string({ unit: 'grapheme', maxLength: 4 }),
    ),
  )
  .map(parts => parts.join('').replaceAll('\u0000', ''));

t.test('the body has exactly the documented form', async t => {
  const { sql } = await database();
  await sql.unsafe(`create table "work orders" (id text primary key, qty numeric, status text, custom_data jsonb,
    at timestamptz, touched int);
    select collecta.attach_module('"work orders"', 'work-orders', status_column => 'status',
      custom_data_column => 'custom_data', ignore_columns => '{touched}')`);
  await subscribe(sql);
  const shape = (body: string) =>
    body
      .replace(/evt_[0-9a-f]{32}/, 'evt_X')
      .replace(/"sequence":\d+,"occurred_at":"[^"]{27}"/, '"sequence":1,"occurred_at":"T"');
  await sql`insert into "work orders" values ('rec_1', 1.50, 'open', '{"a": [1, 2]}', '2026-11-24 15:04:05.123456+02',
    1)`;
  t.strictSame((await routeBodies(sql)).map(shape), [
    '{"id":"evt_X","event":"record_created","sequence":1,"occurred_at":"T","module":"work-orders",' +
      '"record_id":"rec_1","record":{"id":"rec_1","qty":1.50,"status":"open","custom_data":{"a": [1, 2]},' +
      '"at":"2026-11-24T13:04:05.123456+00:00","touched":1}}',
  ]);
  await sql.begin(async tx => {
    await tx`set local collecta.context = '{"user": 7}'`;
    await tx`update "work orders" set status = 'done', touched = 2`;
  });
  const record =
    '{"id":"rec_1","qty":1.50,"status":"done","custom_data":{"a": [1, 2]},' +
    '"at":"2026-11-24T13:04:05.123456+00:00","touched":2}';
  t.strictSame((await routeBodies(sql)).map(shape), [
    '{"id":"evt_X","event":"record_updated","sequence":1,"occurred_at":"T","module":"work-orders",' +
      `"record_id":"rec_1","record":${record},"previous":{"status":"open","touched":1},"context":{"user": 7}}`,
    '{"id":"evt_X","event":"status_change","sequence":1,"occurred_at":"T","module":"work-orders",' +
      `"record_id":"rec_1","from":"open","to":"done","record":${record},` +
      '"previous":{"status":"open","touched":1},"context":{"user": 7}}',
  ]);
  await sql`delete from "work orders"`;
  t.strictSame(
    (await routeBodies(sql)).map(shape),
    [
      '{"id":"evt_X","event":"record_deleted","sequence":1,"occurred_at":"T","module":"work-orders",' +
        `"record_id":"rec_1","record":${record}}`,
    ],
    'the last state for a delete, no previous',
  );
});

t.test('occurred_at is the time of the change, not of its routing', async t => {
  const { sql } = await database();
  await sql.unsafe("create table t (id int primary key); select collecta.attach_module('t', 't')");
  await subscribe(sql);
  const before = Date.now();
  await sql`insert into t values (1)`;
  const after = Date.now();
  await new Promise(done => setTimeout(done, 60));
  const at = Date.parse((await route(sql))[0]!.occurred_at);
  t.ok(at >= before - 5 && at <= after + 5);
});

t.test('any text and JSON arrive unchanged: in records, previous, from, key and scope', async t => {
  const { sql } = await database();
  await sql.unsafe(`create table t (k text primary key, other text, status text, custom json, plain jsonb,
      tags text[], secret text);
    select collecta.attach_module('t', 't', status_column => 'status', custom_data_column => 'custom',
      scope_column => 'other', exclude_columns => '{secret}')`);
  const reader = `payload_reader_${process.pid}`;
  await sql.unsafe(`create role ${reader}; grant select (k, other, status, custom, plain, tags) on t to ${reader}`);
  await subscribe(sql);
  const limited = await subscribe(sql, undefined, { payload_role: reader });
  await fc.assert(
    fc.asyncProperty(
      nasty,
      nasty,
      nasty,
      fc.jsonValue(),
      fc.array(nasty, { maxLength: 3 }),
      async (key, text, status, json, tags) => {
        await sql`delete from t`;
        await route(sql);
        await sql`insert into t values (${key}, ${text}, ${status}, ${JSON.stringify(json)}::text::json, '{}',
            ${tags}, 'psst')`;
        await sql`update t set status = ${`${status}!`}, other = ${text} || '!', custom = '1'`;
        const events = await route(sql);
        const [created, updated, changed] = events;
        const record = { k: key, other: text, status, custom: json, plain: {}, tags };
        t.strictSame(JSON.parse(JSON.stringify(created!.record)), JSON.parse(JSON.stringify(record)));
        if (created!.record_id !== key || updated!.record_id !== key) throw new Error('record_id');
        t.strictSame([changed!.event, changed!.from, changed!.to], ['status_change', status, `${status}!`]);
        t.strictSame(updated!.previous!.other, text);
        t.strictSame(
          JSON.stringify(updated!.previous!.custom ?? null),
          JSON.stringify(JSON.stringify(json) === '1' ? null : json),
        );
        const [scope] =
          await sql`select scope from collecta.events where event = 'record_created' order by sequence desc limit 1`;
        t.equal(scope!.scope, text);
        const bodies = await sql`select event, payload_role, body from collecta.events
            where sequence in (select max(sequence) from collecta.events) order by position, payload_role`;
        for (const { event, payload_role, body } of bodies)
          if (payload_role)
            t.strictSame(
              JSON.parse(body),
              JSON.parse(bodies.find(b => b.event === event && !b.payload_role)!.body),
              'a role that may see all sees the same',
            );
      },
    ),
    quick,
  );
  t.equal((await sql`select from collecta.unrouted`).length, 0);
  t.ok(limited);
});

t.test('any digits arrive digit for digit', async t => {
  const { sql } = await database();
  await sql.unsafe(
    "create table t (id int primary key, n numeric, f float8); select collecta.attach_module('t', 't'); " +
      'insert into t values (1, 0, 0)',
  );
  await subscribe(sql);
  const digits = fc
    .tuple(fc.bigInt({ min: -(10n ** 60n), max: 10n ** 60n }), fc.stringMatching(/^[0-9]{0,40}$/))
    .map(([whole, part]) => (part ? `${whole}.${part}` : `${whole}`));
  await fc.assert(
    fc.asyncProperty(digits, fc.double({ noNaN: true, noDefaultInfinity: true }), async (n, f) => {
      await sql`update t set n = ${n}::text::numeric, f = ${f}`;
      const [body] = await routeBodies(sql);
      const [stored] = await sql`select n::text, f from t`;
      if (body === undefined) return;
      if (!body.includes(`"n":${stored!.n},`)) throw new Error(`${n} in ${body}`);
      if (!Object.is(JSON.parse(body).record.f + 0, stored!.f + 0)) throw new Error(`${f} in ${body}`);
    }),
    quick,
  );
  await sql`update t set n = 'NaN', f = '-Infinity'`;
  t.match((await route(sql))[0]!.record, { n: 'NaN', f: '-Infinity' }, 'what JSON has no number for is a string');
});

t.test('event ids are never reused', async t => {
  const { sql } = await database();
  await sql.unsafe("create table t (id int primary key); select collecta.attach_module('t', 't')");
  await subscribe(sql);
  const insert = () => sql`insert into t select g from generate_series(1, 300) g`;
  await insert();
  const first = await route(sql);
  // As in a restored database, the sequence and the tables are back to an earlier state.
  await sql`delete from collecta.events`;
  await sql`alter sequence collecta.outbox_change_id_seq restart`;
  await sql.unsafe('alter table t disable trigger all; delete from t; alter table t enable trigger all');
  await sql`update collecta.endpoints set after_change_id = 0`;
  await sql`update collecta.subscriptions set after_change_id = 0`;
  await insert();
  const again = await route(sql);
  t.equal(again.length, 300);
  t.equal(new Set([...first, ...again].map(({ id }) => id)).size, 600);
});
