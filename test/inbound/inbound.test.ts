import { createServer as createHttpServer } from 'node:http';
import { connect as connectTcp, createServer as createTcpServer, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import fc from 'fast-check';
import { Hono } from 'hono';
import t, { type Test } from 'tap';
import { connect } from '../../src/database/connect.ts';
import { createInbound, createInboundHandler } from '../../src/inbound/handler.ts';
import { createReceiver } from '../../src/inbound/receive.ts';
import { createInboundServer } from '../../src/inbound/server.ts';
import { createLog } from '../../src/log.ts';
import { freePort, useServer } from '../support/database.ts';
import { closeAgent, makeEndpoint, makeModule, post, seedMapping, sign, startReceiving } from '../support/inbound.ts';

const { database } = await useServer();
const db = await database();
const { sql } = db;
await makeModule(sql);
await sql.unsafe(`
  create role inbound_process login password 'inbound' in role collecta_inbound;
  select * from collecta.create_endpoint('https://example.com/hook', '{record_created,record_updated}');`);
// As in production, the process may call its functions and has no access to tables.
const asInbound = { ...db, url: db.url.replace('postgres:postgres@', 'inbound_process:inbound@') };
const one = await startReceiving(asInbound);
const two = await startReceiving(asInbound);
t.teardown(async () => {
  await Promise.all([one.stop(), two.stop()]);
  await closeAgent();
});
const quiet = createLog('error', () => {});

const work = (sku: string, more: object = {}) => ({ payload: { sku, ...more } });
const rows = async (sku: string) => [...(await sql`select * from work_orders where product_code = ${sku} order by id`)];
const kept = async (id: string) => [
  ...(await sql`select * from collecta.inbound_requests where inbound_endpoint_id = ${id}
    order by received_at, request_id`),
];
const eventually = async (condition: () => Promise<boolean>, withinMs = 8000) => {
  for (const until = Date.now() + withinMs; Date.now() < until; await pause(25)) if (await condition()) return true;
  return false;
};
const refusal = (statement: Promise<unknown>) =>
  statement.then(
    () => undefined,
    (error: unknown) => error as { code: string; hint: string; message: string; detail: string },
  );

t.test('the example creates a record, then matches and updates it; both changes are captured', async t => {
  const { path, secret } = await makeEndpoint(sql, seedMapping, { match_columns: ['product_code'] });
  t.match(path, /^\/api\/webhooks\/work-orders\/[0-9a-f]{64}$/);
  t.equal(secret, null);
  const first = await post(one.port, path, work('FRAME-7', { qty: 5, station: 'WELD-2' }));
  t.match(first, { status: 202, headers: { 'content-type': 'application/json' } });
  const [row] = await rows('FRAME-7');
  t.strictSame(first.json, { recordId: row!.id });
  t.match(row, {
    id: /^rec_[0-9a-f]{32}$/,
    quantity: 5,
    work_center: 'WELD-2',
    status: 'open',
    created_by: 'collecta_writer',
  });
  const second = await post(two.port, path, work('FRAME-7', { qty: 8 }));
  t.strictSame([second.status, second.json], [202, { recordId: row!.id }]);
  t.match(await rows('FRAME-7'), [{ quantity: 8, work_center: 'WELD-2' }], 'a missing path leaves its column alone');
  const captured = await sql`select operation, new ->> 'id' as id, new ->> 'quantity' as quantity from collecta.outbox
    order by change_id`;
  t.strictSame(
    [...captured],
    [
      { operation: 'I', id: row!.id, quantity: '5' },
      { operation: 'U', id: row!.id, quantity: '8' },
    ],
  );
});

t.test('200 simultaneous requests with one match key create one record, with or without an index', async t => {
  // An INSERT is slow, so that all requests look for the record before the first one has created it.
  await sql.unsafe(`
    create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(0.5); return new; end $$;
    create trigger dawdle before insert on work_orders for each row when (new.product_code in ('INDEXED', 'PLAIN'))
      execute function dawdle();`);
  for (const index of [false, true]) {
    if (index) await sql`create unique index work_orders_product on work_orders (product_code)`;
    const { path, id } = await makeEndpoint(sql, seedMapping, {
      match_columns: ['product_code'],
      rate_limit_per_minute: 1000,
    });
    const sku = index ? 'INDEXED' : 'PLAIN';
    const replies = await Promise.all(
      Array.from({ length: 200 }, (_, n) => post((n % 2 ? one : two).port, path, work(sku, { qty: n }))),
    );
    t.ok(
      replies.every(({ status }) => status === 202),
      'all accepted',
    );
    t.equal((await rows(sku)).length, 1);
    t.equal(new Set(replies.map(({ json }) => json.recordId)).size, 1);
    t.equal((await kept(id)).filter(request => request.operation === 'created').length, 1);
  }
  await sql.unsafe('drop index work_orders_product; drop trigger dawdle on work_orders');
});

t.test('inbound and other writers that race for a unique key create one record', async t => {
  await sql`create unique index work_orders_product on work_orders (product_code)`;
  const { path } = await makeEndpoint(sql, seedMapping, {
    match_columns: ['product_code'],
    rate_limit_per_minute: 1000,
  });
  let open = () => {};
  let inserted = () => {};
  const isInserted = new Promise<void>(resolve => {
    inserted = resolve;
  });
  const holding = sql.begin(async tx => {
    await tx`insert into work_orders (product_code, quantity) values ('RACE', 1)`;
    inserted();
    await new Promise<void>(resolve => {
      open = resolve;
    });
  });
  await isInserted;
  const reply = post(one.port, path, work('RACE', { qty: 2 }));
  t.ok(
    await eventually(
      async () =>
        (await sql`select from pg_stat_activity where wait_event_type = 'Lock' and query like '%receive_inbound%'`)
          .length > 0,
    ),
    'it waits for the other writer',
  );
  open();
  await holding;
  t.equal((await reply).status, 202);
  t.match(await rows('RACE'), [{ quantity: 2 }]);
  await sql`drop index work_orders_product`;
});

t.test('200 simultaneous requests with one idempotency key write once and get one answer', async t => {
  const { path, id } = await makeEndpoint(sql, seedMapping, { rate_limit_per_minute: 1000 });
  const replies = await Promise.all(
    Array.from({ length: 200 }, (_, n) =>
      post((n % 2 ? one : two).port, path, work('ONCE', { qty: 1 }), { 'idempotency-key': 'order-1' }),
    ),
  );
  t.equal((await rows('ONCE')).length, 1);
  t.strictSame(
    new Set(replies.map(({ status, text }) => `${status} ${text}`)),
    new Set([`202 {"recordId":"${(await rows('ONCE'))[0]!.id}"}`]),
  );
  t.equal((await kept(id)).length, 1);
  const other = await makeEndpoint(sql);
  t.equal(
    (await post(one.port, other.path, work('ONCE'), { 'webhook-id': 'order-1' })).status,
    202,
    'another endpoint has keys of its own',
  );
  const changed = await post(one.port, path, work('ONCE', { qty: 2 }), { 'idempotency-key': 'order-1' });
  t.match(changed, { status: 422, json: { detail: 'the idempotency key was used for another body.' } });
  t.equal((await rows('ONCE')).length, 2);
  const failed = await post(one.port, path, work('LATER', { qty: 'x' }), { 'idempotency-key': 'order-2' });
  t.equal(failed.status, 422);
  t.equal(
    (await post(one.port, path, work('LATER', { qty: 1 }), { 'idempotency-key': 'order-2' })).status,
    202,
    'a failed request does not use its key up',
  );
});

t.test('the 61st request in a minute is refused, counted over two replicas', async t => {
  const { path, id } = await makeEndpoint(sql);
  const replies = await Promise.all(
    Array.from({ length: 150 }, (_, n) => post((n % 2 ? one : two).port, path, work('RATE', { qty: n }))),
  );
  const accepted = replies.filter(({ status }) => status === 202);
  t.equal(accepted.length, 60);
  t.equal((await rows('RATE')).length, 60);
  const refused = replies.filter(({ status }) => status === 429);
  t.equal(refused.length, 90);
  const again = await post(one.port, path, work('RATE'));
  t.equal(again.status, 429);
  const {
    'retry-after': after,
    'ratelimit-limit': limit,
    'ratelimit-remaining': remaining,
    'ratelimit-reset': reset,
  } = again.headers;
  t.strictSame([limit, remaining, reset], ['60', '0', after]);
  t.ok(Number(after) >= 50 && Number(after) <= 60, `Retry-After ${after}`);
  t.equal((await kept(id)).length, 60, 'what is refused is not kept');
  t.ok(
    await eventually(
      async () =>
        (
          await sql`select sum(requests)::int as n from collecta.inbound_refusals
            where inbound_endpoint_id = ${id} and status = 429`
        )[0]!.n === 91,
      15_000,
    ),
    'but counted',
  );
});

t.test('the rate limit is exact in any span of 60 seconds', async t => {
  const { id } = await makeEndpoint(sql, seedMapping, { rate_limit_per_minute: 10 });
  const call = async () =>
    (
      await sql`select status, retry_after from collecta.receive_inbound(${id},
        '{"payload": {"sku": "SPAN"}}')`
    )[0]!;
  const pass = (seconds: number) =>
    sql`update collecta.inbound_budgets set taken_at = taken_at - make_interval(secs => ${seconds})
      where inbound_endpoint_id = ${id}`;
  const burst = async (n: number) => {
    let accepted = 0;
    for (let i = 0; i < n; i++) accepted += (await call()).status === 202 ? 1 : 0;
    return accepted;
  };
  t.equal(await burst(4), 4);
  await pass(50);
  t.equal(await burst(10), 6, 'a window that began anew by the clock would allow 10');
  const { retry_after } = await call();
  t.ok(retry_after > 9 && retry_after <= 10, `the first four come free in ${retry_after} s`);
  await pass(10);
  t.equal(await burst(10), 4);
  await pass(49);
  t.equal(await burst(10), 0, '59 s after the six');
  await pass(1.5);
  t.equal(await burst(10), 6);
  await sql`select collecta.update_inbound_endpoint(${id}, rate_limit_per_minute => 5)`;
  await pass(58.6);
  t.equal((await call()).status, 429, 'a smaller budget remembers the latest five');
  await sql`select collecta.update_inbound_endpoint(${id}, rate_limit_per_minute => 7)`;
  t.equal(await burst(3), 2, 'a larger budget has two more');
  // Random arrivals are checked against the definition: no accepted one may be the 11th within 60 s, and none is
  // refused below that.
  const random = await makeEndpoint(sql, seedMapping, { rate_limit_per_minute: 10 });
  let clock = 0;
  const times: number[] = [];
  for (let i = 0; i < 300; i++) {
    const gap = [0, 1, 5, 13, 40][(i * 7919) % 5]!;
    clock += gap;
    await sql`update collecta.inbound_budgets set taken_at = taken_at - make_interval(secs => ${gap})
      where inbound_endpoint_id = ${random.id}`;
    const { status } = (
      await sql`select status from collecta.receive_inbound(${random.id}, '{"payload": {"sku": "SPAN"}}')`
    )[0]!;
    // Real time passes as well, so differences of less than a second are allowed.
    const within = times.filter(time => clock - time < 60).length;
    if (status === 202 && within >= 10 && times.filter(time => clock - time < 58).length >= 10)
      t.fail(`request ${i} is one too many`);
    if (status !== 202 && times.filter(time => clock - time < 62).length < 10)
      t.fail(`request ${i} was refused within the budget`);
    if (status === 202) times.push(clock);
  }
  t.ok(times.length > 50, `${times.length} of 300 accepted`);
});

t.test('any JSON value is stored unchanged in jsonb, text and numeric, or is refused with a 4xx', async t => {
  const { path } = await makeEndpoint(
    sql,
    {
      product_code: { path: '$.id' },
      custom_data: { path: '$.any' },
      work_center: { path: '$.text' },
      amount: { path: '$.number' },
    },
    { rate_limit_per_minute: 60_000 },
  );
  const digits = fc
    .tuple(fc.boolean(), fc.bigInt({ min: 0n, max: 10n ** 30n }), fc.option(fc.stringMatching(/^[0-9]{1,30}$/)))
    .map(
      ([negative, whole, fraction]) =>
        (negative && (whole > 0n || /[1-9]/.test(fraction ?? '')) ? '-' : '') +
        `${whole}${fraction === null ? '' : `.${fraction}`}`,
    );
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: 'grapheme' }), fc.string());
  let seen = 0;
  await fc.assert(
    fc.asyncProperty(fc.jsonValue({ stringUnit: 'binary' }), text, digits, async (any, string, number) => {
      const sku = `any-${seen++}`;
      const body =
        `{"id": "${sku}", "any": ${JSON.stringify(any)}, ` + `"text": ${JSON.stringify(string)}, "number": ${number}}`;
      const { status } = await post(one.port, path, body);
      if (status !== 202) {
        const reason = /\\u0000|\\ud[89a-f]/i.test(body) || /\\u0000/.test(JSON.stringify([any, string]));
        return status === 422 && reason && (await rows(sku)).length === 0;
      }
      const [row] = await sql`select custom_data is not distinct
          from nullif(${JSON.stringify(any)}::text::jsonb, 'null') as same, work_center, amount::text from work_orders
            where product_code = ${sku}`;
      return row!.same && row!.work_center === string && row!.amount === number;
    }),
    { numRuns: 300 },
  );
  t.ok(seen >= 300);
});

const types: [
  column: string,
  type: string,
  good: [json: string, stored: string][],
  bad: [json: string, kind: string][],
][] = [
  [
    'quantity',
    'integer',
    [
      ['5', '5'],
      ['"12"', '12'],
    ],
    [
      ['"x"', 'this string'],
      ['1.5', 'this number'],
      ['2147483648', 'this number'],
      ['true', 'this boolean'],
      ['[1]', 'an array'],
      ['{}', 'an object'],
    ],
  ],
  ['big', 'bigint', [['9007199254740993', '9007199254740993']], [['9223372036854775808', 'this number']]],
  [
    'amount',
    'numeric',
    [
      ['12345678901234567890.10', '12345678901234567890.10'],
      ['1.10', '1.10'],
      ['-0', '0'],
      ['1e20', '100000000000000000000'],
    ],
    [
      ['"12,5"', 'this string'],
      ['[]', 'an array'],
    ],
  ],
  [
    'ratio',
    'double precision',
    [
      ['0.1', '0.1'],
      ['2.5e-308', '2.5e-308'],
    ],
    [['"NaNa"', 'this string']],
  ],
  [
    'due',
    'timestamp with time zone',
    [
      ['"2026-11-24T15:04:05.123456+02:00"', '2026-11-24 13:04:05.123456+00'],
      ['"2026-11-24 15:04:05"', '2026-11-24 15:04:05+00'],
    ],
    [
      ['"2026-02-30"', 'this string'],
      ['1764000000', 'this number'],
    ],
  ],
  ['day', 'date', [['"2026-11-24"', '2026-11-24']], [['"24. November"', 'this string']]],
  [
    'flag',
    'boolean',
    [
      ['true', 'true'],
      ['false', 'false'],
    ],
    [
      ['"maybe"', 'this string'],
      ['{"a":1}', 'an object'],
    ],
  ],
  ['level', 'public.priority', [['"high"', 'high']], [['"urgent"', 'this string']]],
  [
    'tags',
    'text[]',
    [['["a","b,c",null]', '{a,"b,c",NULL}']],
    [
      ['"a"', 'this string'],
      ['{"a":1}', 'an object'],
    ],
  ],
  ['numbers', 'integer[]', [['[1,2]', '{1,2}']], [['["x"]', 'an array']]],
  [
    'ref',
    'uuid',
    [['"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11']],
    [['"nope"', 'this string']],
  ],
  ['plus', 'public.positive', [['3', '3']], [['-3', 'this number']]],
  ['short', 'character varying(5)', [['"12345"', '12345']], [['"123456"', 'this string']]],
  [
    'custom_data',
    'jsonb',
    [
      ['{"a":[1.10,{"b":null}]}', '{"a": [1.10, {"b": null}]}'],
      ['"text"', '"text"'],
      ['5', '5'],
    ],
    [],
  ],
  ['raw', 'json', [['{"a" : 1e2}', '{"a" : 1e2}']], []],
  [
    'work_center',
    'text',
    [
      ['1.10', '1.10'],
      ['true', 'true'],
      ['"\\u2028é\\ud83d\\ude00 \\"<b>; drop table"', '\u2028é😀 "<b>; drop table'],
    ],
    [
      ['{}', 'an object'],
      ['[1]', 'an array'],
    ],
  ],
];

t.test('PostgreSQL casts every type; a failed cast is a 422 with path, column, type and kind', async t => {
  for (const [column, type, good, bad] of types) {
    const { path, id } = await makeEndpoint(
      sql,
      { product_code: { path: '$.id' }, [column]: { path: '$.value' } },
      { rate_limit_per_minute: 1000 },
    );
    for (const [json, stored] of good) {
      const { json: answer, status } = await post(one.port, path, `{"id": "typed", "value": ${json}}`);
      t.equal(status, 202, `${json} into ${type}`);
      const [row] = await sql.unsafe(`select ${column}::text as value from work_orders where id = $1`, [
        answer.recordId as string,
      ]);
      t.equal(row!.value, stored);
    }
    for (const [json, kind] of bad) {
      const before = (await rows('typed')).length;
      const { json: answer, status, headers } = await post(one.port, path, `{"id": "typed", "value": ${json}}`);
      t.equal(status, 422, `${json} into ${type}`);
      t.equal(headers['content-type'], 'application/problem+json');
      t.match(answer, {
        title: 'Unprocessable Content',
        status: 422,
        column,
        path: '$.value',
        detail: `$.value → ${column}: ${kind} cannot be stored as ${type}.`,
      });
      t.equal((await rows('typed')).length, before);
    }
    t.equal((await kept(id)).filter(request => request.state === 'failed').length, bad.length, 'each is kept');
  }
});

t.test('mappings handle null, missing, default, constant and whole values, and constraints', async t => {
  const { path, id } = await makeEndpoint(
    sql,
    {
      product_code: { path: '$.sku', required: true },
      quantity: { path: '$.qty', default: 3 },
      status: { path: '$.status' },
      work_center: { path: '$.station' },
      price: { path: '$.price' },
      tenant_id: { constant: 'acme' },
      custom_data: { whole: true },
    },
    { match_columns: ['product_code'] },
  );
  const answer = (await post(one.port, path, { sku: 'N', station: 'W', extra: [1] })).json;
  t.match(await rows('N'), [
    {
      id: answer.recordId,
      quantity: 3,
      status: 'open',
      work_center: 'W',
      tenant_id: 'acme',
      custom_data: { sku: 'N', station: 'W', extra: [1] },
    },
  ]);
  await post(one.port, path, { sku: 'N', qty: null, station: null });
  t.match(
    await rows('N'),
    [{ quantity: null, status: 'open', work_center: null }],
    'an explicit null is null, not the default',
  );
  const cases: [object | string, RegExp][] = [
    [{ station: 'W' }, /^\$\.sku → product_code: it is required/],
    [{ sku: null }, /^\$\.sku → product_code: records are matched by this column/],
    [{ sku: 'N', status: null }, /^\$\.status → status: it must not be null\.$/],
    [{ sku: 'N', qty: 1_000_000 }, /^constraint quantity_is_sane refuses the record\.$/],
    ['{"sku": "N", "price": 10.005}', /^\$\.price → price: it has more digits than numeric\(10,2\) keeps\.$/],
    [[], /has nothing of what is mapped|it is required/],
  ];
  for (const [body, detail] of cases)
    t.match(await post(one.port, path, body), { status: 422, json: { detail } }, JSON.stringify(body));
  const failed = (await kept(id)).filter(request => request.state === 'failed');
  t.equal(failed.length, cases.length);
  t.match(failed[3], {
    sqlstate: '23514',
    error: /quantity_is_sane/,
    body: '{"sku":"N","qty":1000000}',
    record_id: null,
  });
  t.match(await rows('N'), [{ quantity: null }]);
});

t.test('matching works with several columns, several records, and nothing else to write', async t => {
  const mapping = { '$.sku': 'product_code', '$.station': 'work_center' };
  const { path } = await makeEndpoint(sql, mapping, { match_columns: ['product_code', 'work_center'] });
  const first = await post(one.port, path, { sku: 'M', station: 'A' });
  t.equal((await post(one.port, path, { sku: 'M', station: 'A' })).json.recordId, first.json.recordId);
  t.not((await post(one.port, path, { sku: 'M', station: 'B' })).json.recordId, first.json.recordId);
  const wide = await makeEndpoint(sql, mapping, { match_columns: ['product_code'] });
  t.match(await post(one.port, wide.path, { sku: 'M', station: 'C' }), {
    status: 422,
    json: { detail: 'more than one record has the same product_code.' },
  });
  t.equal((await rows('M')).length, 2);
});

t.test('composite keys, unusual names and a serial key work', async t => {
  await sql.unsafe(`
    create schema "Odd Schema";
    create table "Odd Schema"."Odd ""Table%s" (region text, "Num ber" serial, "va%lue" text, "input" int,
      record_id text, v text, t text, primary key (region, "Num ber"));
    select collecta.attach_module('"Odd Schema"."Odd ""Table%s"', 'odd');`);
  const { path } = await makeEndpoint(
    sql,
    {
      region: { path: '$.r' },
      'va%lue': { path: '$.v' },
      input: { path: '$.i' },
      record_id: { constant: 'x' },
      v: { constant: 'y' },
      t: { path: '$.t' },
    },
    { module: 'odd', match_columns: ['region', 'va%lue'] },
  );
  const complete = await post(one.port, path, { r: 'EU', v: 'a', i: 5, t: 'z' });
  t.strictSame([complete.status, complete.json], [202, { recordId: '["EU",1]' }], complete.text);
  const partial = await post(one.port, path, { r: 'EU', v: 'b' });
  t.strictSame([partial.status, partial.json], [202, { recordId: '["EU",2]' }], partial.text);
  t.strictSame((await post(one.port, path, { r: 'EU', v: 'b', i: 7 })).json, { recordId: '["EU",2]' });
  t.strictSame((await post(one.port, path, { r: 'EU', v: 'b', i: 8, t: 'q' })).json, { recordId: '["EU",2]' });
  t.strictSame(
    [...(await sql`select * from "Odd Schema"."Odd ""Table%s" order by 2`)],
    [
      { region: 'EU', 'Num ber': 1, 'va%lue': 'a', input: 5, record_id: 'x', v: 'y', t: 'z' },
      { region: 'EU', 'Num ber': 2, 'va%lue': 'b', input: 8, record_id: 'x', v: 'y', t: 'q' },
    ],
  );
});

t.test('a request that cannot be written is kept, and can be retried after the mapping is fixed', async t => {
  const { path, id } = await makeEndpoint(
    sql,
    { '$.sku': 'product_code', '$.qty': 'quantity' },
    { rate_limit_per_minute: 1000 },
  );
  const bodies = [
    { sku: 'R1', qty: 'five' },
    { sku: 'R2', qty: 'six' },
    { sku: 'R3', qty: 'seven' },
  ];
  for (const [index, body] of bodies.entries())
    t.equal((await post(one.port, path, body, { 'idempotency-key': `r${index}` })).status, 422);
  const [first, second] = await kept(id);
  await sql`select collecta.retry_inbound(${first!.request_id})`;
  t.ok(await eventually(async () => (await kept(id))[0]!.attempts === 2));
  t.match(
    (await kept(id))[0],
    { state: 'failed', reason: 'this string cannot be stored as integer' },
    'it still cannot be written',
  );
  await sql`select collecta.update_inbound_endpoint(${id}, '{"$.sku": "product_code", "$.qty": "work_center"}')`;
  t.equal(
    (await post(two.port, path, bodies[2], { 'idempotency-key': 'r2' })).status,
    202,
    'the sender tried one again by itself',
  );
  t.equal((await sql`select collecta.retry_inbound(${id}, since => ${second!.received_at}) as queued`)[0]!.queued, '2');
  t.ok(await eventually(async () => (await kept(id)).filter(request => request.state === 'retry').length === 0));
  t.match(await kept(id), [
    { state: 'failed' },
    { state: 'accepted', operation: 'created', reason: null, error: null, sqlstate: null },
    { state: 'duplicate' },
    { state: 'accepted' },
  ]);
  t.match(await rows('R2'), [{ work_center: 'six' }]);
  t.equal((await rows('R3')).length, 1, 'and it is not written twice');
  await sql`select collecta.pause_inbound_endpoint(${id})`;
  await sql`select collecta.retry_inbound(${id})`;
  t.ok(await eventually(async () => (await rows('R1')).length === 1), 'a paused endpoint runs what was kept');
  t.match(await refusal(sql`select collecta.retry_inbound('req_unknown')`), { code: 'CW050' });
});

t.test('several processes that retry run each request once', async t => {
  const { path, id } = await makeEndpoint(
    sql,
    { '$.sku': 'product_code', '$.qty': 'quantity' },
    { rate_limit_per_minute: 1000 },
  );
  await Promise.all(Array.from({ length: 40 }, (_, n) => post(one.port, path, { sku: 'MANY', qty: `x${n}` })));
  await sql`select collecta.update_inbound_endpoint(${id}, '{"$.sku": "product_code", "$.qty": "work_center"}')`;
  await sql`select collecta.retry_inbound(${id})`;
  t.ok(await eventually(async () => (await kept(id)).every(request => request.state === 'accepted')));
  t.equal((await rows('MANY')).length, 40);
});

t.test('requests fail clearly when the table, module, column or type has changed', async t => {
  const { path, id } = await makeEndpoint(
    sql,
    { '$.sku': 'product_code', '$.n': 'short' },
    { rate_limit_per_minute: 1000 },
  );
  await sql`alter table work_orders rename to elsewhere`;
  t.equal((await post(one.port, path, { sku: 'RENAMED' })).status, 202, 'a renamed table is the same table');
  await sql`alter table elsewhere rename to work_orders`;
  await sql`alter table work_orders alter short type varchar(8)`;
  t.equal((await post(one.port, path, { sku: 'T', n: '12345678' })).status, 202, 'a changed type is taken up at once');
  await sql`alter table work_orders rename short to shorter`;
  t.match(await post(one.port, path, { sku: 'T', n: '1' }), {
    status: 422,
    json: { detail: 'the table cannot take the record (SQLSTATE CW053).' },
  });
  t.match((await kept(id)).at(-1), { state: 'failed', sqlstate: 'CW053', error: /renamed or dropped/ });
  await sql`alter table work_orders rename shorter to short`;
  await sql`select collecta.detach_module('work-orders')`;
  t.equal((await post(two.port, path, { sku: 'T', n: '1' })).status, 404);
  await sql.unsafe(
    `create table other_table (id int primary key, product_code text, short text);
      select collecta.attach_module('other_table', 'work-orders')`,
  );
  t.equal(
    (await post(two.port, path, { sku: 'T', n: '1' })).status,
    404,
    'the same slug on another table is another module',
  );
  await sql.unsafe(
    `select collecta.detach_module('work-orders'); select collecta.attach_module('work_orders', 'work-orders', 'status',
      'custom_data', 'tenant_id')`,
  );
  t.equal((await post(two.port, path, { sku: 'BACK', n: '1' })).status, 202);
  await sql`select collecta.retry_inbound(${id})`;
  t.ok(
    await eventually(async () => (await kept(id)).every(request => request.state === 'accepted')),
    'the kept request is run when the column is back',
  );
});

t.test('a deadlock is retried, and then the request is kept', async t => {
  await sql.unsafe(`
    create sequence tries;
    create function stumble() returns trigger language plpgsql as $$ begin
      if new.work_center is not null and nextval('public.tries') < new.work_center::int then raise exception 'deadlock'
        using errcode = '40P01'; end if;
      return new; end $$;
    create trigger stumble before insert on work_orders for each row when (new.product_code = 'STUMBLE')
      execute function stumble();
    grant usage on sequence tries to collecta_writer;`);
  const { path, id } = await makeEndpoint(sql);
  t.equal((await post(one.port, path, work('STUMBLE', { station: '3' }))).status, 202, 'the third try');
  t.equal((await rows('STUMBLE')).length, 1);
  const stuck = await post(one.port, path, work('STUMBLE', { station: '100' }));
  t.match(stuck, { status: 503, headers: { 'retry-after': '5' }, json: { detail: /can be tried again/ } });
  t.match((await kept(id)).at(-1), { state: 'failed', sqlstate: '40P01' });
  t.equal((await kept(id)).length, 2, 'it is kept once');
  await sql.unsafe(`drop trigger stumble on work_orders; select collecta.retry_inbound('${id}')`);
  t.ok(await eventually(async () => (await rows('STUMBLE')).length === 2));
});

t.test('the process has no table privileges; the writer has them on mapped columns only', async t => {
  const process = connect(asInbound.url, { max: 1 });
  for (const relation of [
    'public.work_orders',
    'collecta.inbound_endpoints',
    'collecta.inbound_secrets',
    'collecta.inbound_requests',
    'collecta.inbound_budgets',
    'collecta.endpoint_secrets',
    'collecta.outbox',
  ])
    t.match(await refusal(process.unsafe(`select from ${relation}`)), { code: '42501' }, relation);
  for (const call of [
    `collecta.write_inbound_1('{}', 1)`,
    `collecta.cast_inbound_1('{}', 'a')`,
    `collecta.retry_inbound('x')`,
    `collecta.rotate_inbound_token('x')`,
    `collecta.set_inbound_state('x', 'active')`,
  ])
    t.match(await refusal(process.unsafe(`select ${call}`)), { code: '42501' }, call);
  await process.end();
  await sql.unsafe(
    `create table narrow (id serial primary key, a text, b text, c text);
      select collecta.attach_module('narrow', 'narrow');`,
  );
  const granted = async () =>
    Object.fromEntries(
      (
        await sql`select column_name, string_agg(privilege_type, ',' order by privilege_type) as privileges
          from information_schema.column_privileges
        where grantee = 'collecta_writer' and table_name = 'narrow' group by column_name order by column_name`
      ).map(row => [row.column_name, row.privileges]),
    );
  const all = 'INSERT,SELECT,UPDATE';
  const ab = await makeEndpoint(sql, { '$.a': 'a', '$.b': 'b' }, { module: 'narrow', match_columns: ['a'] });
  t.strictSame(await granted(), { a: all, b: all, id: 'SELECT' });
  t.equal((await post(one.port, ab.path, { a: '1', b: '2' })).status, 202, 'the sequence of the key included');
  const bc = await makeEndpoint(sql, { '$.b': 'b', '$.c': 'c' }, { module: 'narrow' });
  await sql`select collecta.delete_inbound_endpoint(${ab.id})`;
  t.strictSame(await granted(), { b: all, c: all, id: 'SELECT' });
  await sql`select collecta.update_inbound_endpoint(${bc.id}, '{"$.c": "c"}')`;
  t.strictSame(await granted(), { c: all, id: 'SELECT' });
  await sql`select collecta.delete_inbound_endpoint(${bc.id})`;
  t.strictSame(await granted(), {});
  t.equal(
    (await sql`select has_sequence_privilege('collecta_writer', 'narrow_id_seq', 'usage') as may`)[0]!.may,
    false,
  );
  t.strictSame(
    [
      ...(await sql`select proname from pg_proc
        where proname in (select format('write_inbound_%s', function_number) from collecta.inbound_endpoints
          where state = 'deleted')`),
    ],
    [],
  );
  t.strictSame(
    [...(await sql`select from collecta.inbound_secrets where inbound_endpoint_id in (${ab.id}, ${bc.id})`)],
    [],
  );
});

t.test("the table's triggers and defaults run as a role that cannot read secrets", async t => {
  await sql.unsafe(`
    create table spied (id text primary key default collecta.new_id('rec'), a text, seen text);
    create function spy() returns trigger language plpgsql as $$ begin
      begin select secret into new.seen from collecta.inbound_secrets limit 1;
      exception when others then new.seen := sqlstate || ' ' || current_user; end;
      begin execute 'set role postgres'; new.seen := new.seen || ' escaped';
      exception when others then new.seen := new.seen || ' ' || sqlstate; end;
      return new; end $$;
    create trigger spy before insert on spied for each row execute function spy();
    select collecta.attach_module('spied', 'spied');`);
  const { path } = await makeEndpoint(sql, { '$.a': 'a' }, { module: 'spied' });
  t.equal((await post(one.port, path, { a: 'x' })).status, 202);
  t.equal((await sql`select seen from spied`)[0]!.seen, '42501 collecta_writer 42501');
  await sql`create policy none on spied for insert to collecta_writer with check (a <> 'forbidden')`;
  await sql`create policy read on spied for select to collecta_writer using (true)`;
  await sql`alter table spied enable row level security`;
  t.match(await post(one.port, path, { a: 'forbidden' }), {
    status: 422,
    json: { detail: 'the table cannot take the record (SQLSTATE 42501).' },
  });
  t.equal((await post(one.port, path, { a: 'allowed' })).status, 202);
});

/** A refusal that names what it is about: no part of the message is empty, as format() with a null would leave it. */
const saysNothingEmpty = (t: Test, error: Refusal | undefined, name: string) => {
  for (const text of [error?.message, error?.detail, error?.hint])
    t.notMatch(
      text ?? '',
      /\S {2}\S| [,;:)]| \.(?!\.)|\( |''''|""|\bnull\b.*must|(column|table|module|endpoint) (must|is|has|not)\b/i,
      name,
    );
};
type Refusal = { message: string; detail?: string; hint?: string };

t.test('an invalid endpoint is refused when it is saved, with a hint', async t => {
  const create = (mapping: object, more = '') =>
    refusal(
      sql.unsafe(
        `select * from collecta.create_inbound_endpoint('work-orders',
          '${JSON.stringify(mapping).replaceAll("'", "''")}'${more})`,
      ),
    );
  const undone = new Error('undone');
  /** The hint is a statement that runs as it stands. */
  const runs = async (t: Test, error?: Refusal) => {
    const run = sql.begin(async tx => {
      await tx.unsafe(error?.hint ?? '');
      throw undone;
    });
    await t.rejects(run, undone, error?.hint ?? 'no hint');
  };
  const cases: [object, string, string, RegExp][] = [
    [{ '$.a': 'nothing' }, '', 'CW053', /nothing does not exist/],
    [{ '$.a': 'ctid' }, '', 'CW053', /does not exist/],
    [{ '$.a': 'twice' }, '', 'CW053', /is generated/],
    [{ '$.a': 'serial' }, '', 'CW053', /identity/],
    [{ '$.a': 'id' }, '', 'CW053', /key/],
    [{ '$.a': 'tenant_id' }, '', 'CW053', /scope/],
    [{ '$.a': 'created_by' }, '', 'CW053', /who wrote/],
    [{ '$.a': 'quantity', '$.b': 'quantity' }, '', 'CW053', /twice/],
    [{ '$.a': 'quantity', quantity: { constant: 1 } }, '', 'CW053', /twice/],
    [{ '$..a': 'quantity' }, '', 'CW052', /not of the form/],
    [{ '$.a': 'quantity' }, `, '{product_code}'`, 'CW054', /matched by what the payload says/],
    [{ '$.a': 'raw' }, `, '{raw}'`, 'CW054', /no equality operator/],
    [{ '$.a': 'quantity' }, `, match_where => 'quantity > 0'`, 'CW054', /which records can be matched/],
    [{ '$.a': 'quantity' }, `, '{quantity}', match_where => 'nothing > 0'`, 'CW054', /nothing/],
    [{ '$.a': 'quantity' }, `, secret => ''`, 'CW055', /secret/i],
    [{ '$.a': 'quantity' }, `, secret => 'whsec_$$'`, 'CW055', /base64/],
    [{ '$.a': 'quantity' }, ', rate_limit_per_minute => 0', 'CW055', /60000/],
    [{ '$.a': 'quantity' }, ', max_body_bytes => 0', 'CW055', /max_body_bytes/],
  ];
  for (const [mapping, more, code, detail] of cases) {
    const error = await create(mapping, more);
    t.match(error, { code, detail, hint: /\w+/ }, `${JSON.stringify(mapping)}${more}`);
    await runs(t, error);
    saysNothingEmpty(t, error, `${JSON.stringify(mapping)}${more}: ${error?.detail}`);
  }
  t.match(await refusal(sql`select * from collecta.create_inbound_endpoint('nowhere', '{"$.a": "b"}')`), {
    code: 'CW051',
    hint: /attach_module/,
  });
  await sql.unsafe(
    `create table needs (id int primary key, must text not null, may text);
      select collecta.attach_module('needs', 'needs')`,
  );
  t.match(await refusal(sql`select * from collecta.create_inbound_endpoint('needs', '{"$.a": "may"}')`), {
    code: 'CW053',
    detail: /id, must must not be null/,
    hint: /match_columns => '{id}'/,
  });
  // Each part is tested alone, then both, then neither.
  for (const mapping of ['{"$.a": "nothing", "$.b": "must", "$.c": "id"}', '{"$.a": "nothing"}', '{"$.a": "may"}']) {
    const error = await refusal(sql`select * from collecta.create_inbound_endpoint('needs', ${mapping}::text::jsonb)`);
    t.match(error, { code: 'CW053' });
    await runs(t, error);
    saysNothingEmpty(t, error, `${mapping}: ${error?.detail}`);
  }
  t.equal(
    await refusal(
      sql`select * from collecta.create_inbound_endpoint('needs', '{"$.a": "must", "$.id": "id"}', '{id}')`,
    ),
    undefined,
    'a natural key can be matched by',
  );
  for (const call of [
    'pause_inbound_endpoint',
    'resume_inbound_endpoint',
    'delete_inbound_endpoint',
    'update_inbound_endpoint',
    'rotate_inbound_token',
    'rotate_inbound_secret',
  ])
    t.match(await refusal(sql.unsafe(`select collecta.${call}('inb_none')`)), { code: 'CW050', hint: /select/ }, call);
  const { id } = await makeEndpoint(sql);
  t.match(await refusal(sql`select collecta.rotate_inbound_token(${id}, '-1 s')`), { code: 'CW055' });
  await sql.unsafe(`create role stranger; grant collecta_owner to stranger; grant usage on schema public to stranger`);
  t.match(
    await refusal(
      sql.begin(async tx => {
        await tx`set local role stranger`;
        await tx`select * from collecta.create_inbound_endpoint('needs', '{"$.a": "must", "$.id": "id"}')`;
      }),
    ),
    { code: /CW053|CW056/ },
  );
  t.match(
    await refusal(
      sql.begin(async tx => {
        await tx`set local role stranger`;
        await tx`select * from collecta.create_inbound_endpoint('needs', '{"$.a": "must", "$.id": "id", "$.m": "may"}',
          '{id}')`;
      }),
    ),
    { code: 'CW056', hint: /set role postgres/ },
  );
});

t.test('the hint about match columns that are not mapped is a mapping that can be used', async t => {
  await sql`
    create table unmapped (id text primary key default collecta.new_id('rec'), "Sku" text, "it, is" text, n int)`;
  await sql`select collecta.attach_module('unmapped', 'unmapped')`;
  const mapping = { n: { path: "$['n n']", default: "it's" } };
  const refused = (await makeEndpoint(sql, mapping, { module: 'unmapped', match_columns: ['Sku', 'it, is'] }).catch(
    error => error,
  )) as { code: string; hint: string };
  t.equal(refused.code, 'CW054');
  const [made] = await sql.unsafe(refused.hint.replace('select *', 'select inbound_endpoint_id as id'));
  const [row] = await sql`select mapping from collecta.inbound_endpoints where inbound_endpoint_id = ${made!.id}`;
  t.strictSame(row!.mapping, {
    ...mapping,
    Sku: { path: '$.Sku', required: true },
    'it, is': { path: "$['it, is']", required: true },
  });
});

t.test('without a unique index, a notice shows the statement that creates one', async t => {
  const notices: { message?: string; hint?: string }[] = [];
  const noticed = connect(db.url, { max: 1, onnotice: notice => notices.push(notice) });
  await noticed`select * from collecta.create_inbound_endpoint('work-orders', '{"$.a": "product_code"}',
    '{product_code}')`;
  t.match(notices, [
    { message: /no unique index/, hint: 'create unique index concurrently on public.work_orders (product_code);' },
  ]);
  await noticed.end();
});

t.test('test_inbound_mapping shows what would be written without writing it', async t => {
  const { id } = await makeEndpoint(sql, {
    product_code: { path: '$.sku', required: true },
    quantity: { path: '$.qty', default: 1 },
    work_center: { path: '$.w' },
    tenant_id: { constant: 'acme' },
    due: { path: '$.due' },
    custom_data: { whole: true },
  });
  const before = await sql`select count(*) from work_orders`;
  const shown =
    await sql`select * from collecta.test_inbound_mapping(${id}, '{"due": "2026-11-24T15:00:00+02:00", "qty": {}}')`;
  t.strictSame(
    Object.fromEntries(shown.map(row => [row.column_name, [row.source, row.type, row.value, row.problem]])),
    {
      product_code: ['missing', 'text', null, 'it is required'],
      quantity: ['$.qty', 'integer', null, 'an object cannot be stored as integer'],
      work_center: ['missing', 'text', null, null],
      custom_data: ['$', 'jsonb', '{"due": "2026-11-24T15:00:00+02:00", "qty": {}}', null],
      due: ['$.due', 'timestamp with time zone', '2026-11-24 13:00:00+00', null],
      tenant_id: ['constant', 'text', 'acme', null],
    },
  );
  t.strictSame([...(await sql`select count(*) from work_orders`)], [...before]);
  t.strictSame(await kept(id), []);
  // Its paths find what those of a request find: an index is no name, and a name is no index.
  const strict = await makeEndpoint(sql, { '$[0]': 'product_code', "$['0']": 'work_center', "$['-1']": 'short' });
  const found = async (payload: string) =>
    (await sql`select source from collecta.test_inbound_mapping(${strict.id}, ${payload}::text::json)`).map(
      row => row.source,
    );
  t.strictSame(await found('["x", "y"]'), ['$[0]', 'missing', 'missing']);
  t.strictSame(await found('{"0": "x", "-1": "y"}'), ['missing', "$['0']", "$['-1']"]);
  // The problems that only writing finds: digits that the type would round away, and a record that cannot be matched.
  await sql`create table priced (sku text primary key, price numeric(10, 2), tax numeric(10, 2)[])`;
  await sql`select collecta.attach_module('priced', 'priced')`;
  const matching = await makeEndpoint(sql, { '$.sku': 'sku', '$.price': 'price', '$.tax': 'tax' },
    { module: 'priced', match_columns: ['sku'] }); // biome-ignore format: one call
  const problems = async (payload: string) =>
    Object.fromEntries(
      (await sql`select * from collecta.test_inbound_mapping(${matching.id}, ${payload}::text::json)`).map(row => [
        row.column_name,
        row.problem,
      ]),
    );
  t.strictSame(await problems('{"sku": "A", "price": 1.25, "tax": [0.19]}'), { sku: null, price: null, tax: null });
  t.match(await problems('{"sku": null, "price": 10.005, "tax": [0.19, 0.195]}'), {
    sku: /must be there and not null/,
    price: 'it has more digits than numeric(10,2) keeps',
    tax: 'it has more digits than numeric(10,2)[] keeps',
  });
});

t.test('signature, rotation, pause, deletion and a changed mapping take effect at once', async t => {
  const { id, path, secret } = await makeEndpoint(sql, seedMapping, {
    require_signature: true,
    rate_limit_per_minute: 1000,
    digest_window: '0',
  });
  t.match(secret, /^whsec_/);
  const body = JSON.stringify(work('SIGNED'));
  const send = (with_: string | null, to = path) =>
    post(one.port, to, body, with_ ? { 'x-webhook-signature': sign(with_, body) } : {});
  t.equal((await send(secret)).status, 202);
  t.equal((await send(null)).status, 401);
  const next = (await sql`select collecta.rotate_inbound_secret(${id}) as secret`)[0]!.secret;
  t.ok(await eventually(async () => (await send(next)).status === 202));
  t.equal((await send(secret)).status, 202, 'the old secret passes until the overlap ends');
  const last = (await sql`select collecta.rotate_inbound_secret(${id}, '0') as secret`)[0]!.secret;
  t.ok(await eventually(async () => (await send(last)).status === 202));
  t.equal((await send(next)).status, 401);
  const moved = (await sql`select collecta.rotate_inbound_token(${id}) as path`)[0]!.path;
  t.not(moved, path);
  t.equal((await send(last, moved)).status, 202);
  t.equal((await send(last, path)).status, 202, 'the old URL works until the overlap ends');
  await sql`update collecta.inbound_secrets set previous_token_until = now() where inbound_endpoint_id = ${id}`;
  await sql`notify collecta_inbound`;
  t.ok(await eventually(async () => (await send(last, path)).status === 404));
  t.equal((await send(last, moved)).status, 202);
  await sql`select collecta.update_inbound_endpoint(${id}, '{"$.payload.sku": "work_center"}')`;
  const mapped = await send(last, moved);
  t.equal(
    (await sql`select work_center from work_orders where id = ${mapped.json.recordId as string}`)[0]!.work_center,
    'SIGNED',
  );
  await sql`select collecta.pause_inbound_endpoint(${id})`;
  t.equal((await send(last, moved)).status, 404);
  await sql`select collecta.resume_inbound_endpoint(${id})`;
  t.equal((await send(last, moved)).status, 202);
  await sql`select collecta.delete_inbound_endpoint(${id})`;
  t.equal((await send(last, moved)).status, 404);
  const given = await makeEndpoint(sql, seedMapping, { secret: "It's a Secret to Everybody", sender: 'github' });
  t.equal(given.secret, "It's a Secret to Everybody");
  t.equal((await post(one.port, given.path, body, { 'x-hub-signature-256': sign(given.secret!, body) })).status, 202);
});

t.test('while the database is down or stuck, the answer is a timely 503 and nothing is written late', async t => {
  const target = Number(new URL(db.url).port);
  const sockets = new Set<Socket>();
  const proxy = createTcpServer(client => {
    const server = connectTcp(target, '127.0.0.1');
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        client.destroy();
        server.destroy();
        sockets.delete(socket);
      });
    }
    client.pipe(server).pipe(client);
  });
  const port = await freePort();
  const listen = () => new Promise<void>(resolve => proxy.listen(port, '127.0.0.1', resolve));
  await listen();
  const pool = connect(asInbound.url.replace(`:${target}/`, `:${port}/`), { max: 3 });
  const receiver = createReceiver({
    sql: pool,
    log: quiet,
    connections: 3,
    deadlineMs: 3000,
    maxWaiting: 2,
    maxAgeMs: 60_000,
  });
  const server = createInboundServer(createInbound({ receiver, log: quiet }), quiet);
  const at = await new Promise<number>(resolve =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  );
  t.teardown(async () => {
    server.close();
    server.closeAllConnections();
    await pool.end({ timeout: 1 });
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const { path, id } = await makeEndpoint(sql, seedMapping, { rate_limit_per_minute: 1000 });
  t.equal((await post(at, path, work('AWAY'))).status, 202);

  let open = () => {};
  const locked = sql.begin(async tx => {
    await tx`lock table work_orders`;
    await new Promise<void>(resolve => {
      open = resolve;
    });
  });
  await pause(50);
  const patience = (time: string) => sql.unsafe(`alter function collecta.receive_inbound set lock_timeout = '${time}'`);
  t.match(
    (await sql`select proconfig from pg_proc where proname = 'receive_inbound'`)[0]!.proconfig,
    ['search_path=pg_catalog, pg_temp', 'lock_timeout=3s'],
    'shorter than the deadline of 10 s',
  );
  await patience('500ms');
  const started = Date.now();
  const stuck = await Promise.all(Array.from({ length: 8 }, () => post(at, path, work('AWAY'))));
  t.ok(Date.now() - started < 5000, `${Date.now() - started} ms`);
  t.ok(
    stuck.every(({ status, headers }) => status === 503 && headers['retry-after'] === '5'),
    'those that wait, those for which no connection is free, and those beyond the limit',
  );
  open();
  await locked;
  await pause(300);
  t.equal((await rows('AWAY')).length, 1, 'a request that was given up is not written late');
  t.equal((await kept(id)).length, 1);
  await patience('3s');

  proxy.close();
  for (const socket of sockets) socket.destroy();
  const away = Date.now();
  t.equal((await post(at, path, work('AWAY'))).status, 503);
  t.ok(Date.now() - away < 4000, `${Date.now() - away} ms`);
  await listen();
  t.ok(await eventually(async () => (await post(at, path, work('AWAY'))).status === 202));
});

t.test('the fetch-style handler can be mounted in another server (Hono)', async t => {
  const pool = connect(asInbound.url, { max: 3 });
  t.teardown(() => pool.end({ timeout: 1 }));
  const handler = createInboundHandler({ receiver: createReceiver({ sql: pool, log: quiet }), log: quiet });
  const { path, secret } = await makeEndpoint(sql, seedMapping, {
    require_signature: true,
    rate_limit_per_minute: 1000,
  });
  const body = JSON.stringify(work('MOUNTED', { qty: 1 }));
  const headers = { 'content-type': 'application/json', 'x-webhook-signature': sign(secret!, body) };
  const call = (init: RequestInit, at = path) =>
    handler(new Request(`http://localhost${at}`, init), { remoteAddress: '127.0.0.1' });
  const accepted = await call({ method: 'POST', headers, body });
  t.equal(accepted.status, 202);
  t.strictSame(await accepted.json(), { recordId: (await rows('MOUNTED'))[0]!.id });
  t.equal((await call({ method: 'POST', headers, body: `${body} ` })).status, 401);
  t.equal((await call({ method: 'GET' })).status, 405);
  t.equal((await (await call({ method: 'HEAD' })).text()).length, 0);
  t.equal((await call({ method: 'POST', headers, body }, '/api/webhooks/work-orders/x')).status, 404);
  const stream = new ReadableStream({
    pull(controller) {
      controller.enqueue(new Uint8Array(65_536));
    },
  });
  t.equal((await call({ method: 'POST', headers, body: stream, duplex: 'half' } as RequestInit)).status, 413);

  const app = new Hono();
  app.get('/', context => context.text('somebody else’s'));
  app.all('/api/webhooks/*', context => handler(context.req.raw));
  const server = createHttpServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk);
    const { method = 'GET', headers, url } = incoming;
    const response = await app.fetch(
      new Request(`http://${headers.host}${url}`, {
        method,
        headers: headers as Record<string, string>,
        ...(method === 'POST' && { body: Buffer.concat(chunks) }),
      }),
    );
    outgoing.writeHead(response.status, Object.fromEntries(response.headers)).end(await response.text());
  });
  const port = await new Promise<number>(resolve =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  );
  t.equal((await post(port, path, body, headers)).status, 202);
  t.equal((await post(port, path, `${body} `, headers)).status, 401);
  t.equal(await (await fetch(`http://127.0.0.1:${port}/`)).text(), 'somebody else’s');
  server.close();
  server.closeAllConnections();
});

t.test('stopping finishes the requests in progress', async t => {
  const three = await startReceiving(asInbound);
  const { path } = await makeEndpoint(sql);
  let open = () => {};
  const locked = sql.begin(async tx => {
    await tx`lock table work_orders`;
    await new Promise<void>(resolve => {
      open = resolve;
    });
  });
  await pause(50);
  const reply = post(three.port, path, work('STOPPED'));
  await eventually(
    async () =>
      (await sql`select from pg_stat_activity where wait_event_type = 'Lock' and query like '%receive_inbound%'`)
        .length > 0,
  );
  const stopped = three.stop();
  await pause(100);
  open();
  await locked;
  t.equal((await reply).status, 202);
  await stopped;
  t.rejects(post(three.port, path, work('STOPPED')));
});

t.test('retention deletes old requests and counts, but no request that waits for its retry', async t => {
  const { path, id } = await makeEndpoint(sql, { '$.sku': 'product_code', '$.qty': 'quantity' });
  await post(one.port, path, { sku: 'OLD' });
  await post(one.port, path, { sku: 'OLD', qty: 'x' });
  await sql`update collecta.inbound_requests set received_at = received_at - interval '31 days',
    state = case when state = 'failed' then 'retry' else state end where inbound_endpoint_id = ${id}`;
  await sql`select collecta.maintain_inbound('[{"inbound_endpoint_id": "", "status": 404, "requests": 3}]')`;
  t.ok((await kept(id)).every(request => request.state !== 'accepted'));
  t.equal((await kept(id)).length, 1);
  t.ok(
    (await sql`select requests::int from collecta.inbound_refusals where inbound_endpoint_id = '' and status = 404`)[0]!
      .requests >= 3,
  );
});

t.test('the log holds ids and codes, never a token, secret or body', async t => {
  const log = [...one.lines, ...two.lines].join('');
  t.match(log, /"event":"inbound request"/);
  t.notMatch(log, /whsec_|FRAME-7|[0-9a-f]{64}|sha256=/);
  for (const line of [...one.lines, ...two.lines]) JSON.parse(line);
});
