/** What applies to a receiver and not to one event: holds, the pace after them, and rates, over all runners. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { type Claimed, claimBySql, record, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';

const { database } = await useServer();

/** A database with an attached table t. */
async function prepared() {
  const made = await database();
  await made.sql`create table t (id int generated always as identity primary key, n int)`;
  await made.sql`select collecta.attach_module('t', 't')`;
  return made;
}
const insert = (sql: Sql, count: number) => sql`insert into t (n) select generate_series(1, ${count}::int)`;
const flow = async (sql: Sql) => (await sql`select * from collecta.endpoint_flow`)[0];
/** Moves all times in endpoint_flow back, and makes deliveries due that were told to wait. */
const age = (sql: Sql, by: string) => sql`
  update collecta.endpoint_flow set held_until = held_until - ${by}::interval, held_at = held_at - ${by}::interval,
    paced_at = paced_at - ${by}::interval, raised_at = raised_at - ${by}::interval,
    failing_since = failing_since - ${by}::interval,
    next_slot = next_slot - ${by}::interval`;
const makeDue = (sql: Sql) =>
  sql`update collecta.delivery_queue set due_at = now() - interval '1 s' where leased_until is null`;

/** Two runners claim in turn. Returns how many deliveries each got. */
async function claimByTwo(sql: Sql) {
  const runners = [await claimBySql(sql, { runner: 1 }), await claimBySql(sql, { runner: 2 })];
  return { counts: runners.map(each => each.deliveries.length), deliveries: runners.flatMap(each => each.deliveries) };
}

t.test('after a hold the pace rises from 1 to 2, 4 … max_in_flight, over all runners', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created'], { max_in_flight: 10 });
  await insert(sql, 100);
  const { deliveries } = await claimBySql(sql);
  t.equal(deliveries.length, 10);
  await record(sql, deliveries.slice(0, 5));
  await record(sql, deliveries.slice(5), 'failed', { status: 429, retry_after_s: 30 });
  await makeDue(sql);
  t.strictSame((await claimByTwo(sql)).counts, [0, 0], 'nothing during the hold');
  await insert(sql, 1);
  t.strictSame((await claimByTwo(sql)).counts, [0, 0], 'nor is a new change born leased');
  await age(sql, '31 s');
  await sql`update collecta.endpoint_flow set learned_per_second = null`; // a learned rate would be another limit
  for (const expected of [1, 2, 4, 8, 10, 10]) {
    await makeDue(sql);
    const { counts, deliveries } = await claimByTwo(sql);
    t.strictSame(counts, [expected, 0], `${expected} at once`);
    await age(sql, '0.6 s');
    await record(sql, deliveries);
  }
  t.equal((await flow(sql))!.pace, null);
});

t.test('the pace also rises from 1 after an outage, but not after a brief failure', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created'], { max_in_flight: 6, retry_max: 20 });
  await insert(sql, 50);
  const fail = async () => {
    const { deliveries } = await claimByTwo(sql);
    await record(sql, deliveries, 'failed', { error: 'connection refused' });
    await makeDue(sql);
    return deliveries.length;
  };
  t.equal(await fail(), 6);
  t.equal(await fail(), 6, 'a failure of a moment');
  await age(sql, '11 s');
  t.equal(await fail(), 6);
  t.equal(await fail(), 1, 'ten seconds without a success: one at a time');
  t.equal(await fail(), 1);
  for (const expected of [1, 2, 4, 6]) {
    const { counts, deliveries } = await claimByTwo(sql);
    t.strictSame(counts, [expected, 0]);
    await age(sql, '0.6 s');
    await record(sql, deliveries);
  }
  t.match(await flow(sql), { failing_since: null, pace: null });
});

t.test('the rate between two holds becomes the receiver’s rate, and is then raised again', async t => {
  const { sql } = await prepared();
  const endpoint = await subscribe(sql, ['record_created'], { max_in_flight: 50 });
  await insert(sql, 300);
  const hold = async (after: number) => {
    const { deliveries } = await claimBySql(sql, { batch: 100 });
    await record(sql, deliveries.slice(0, after));
    await record(sql, deliveries.slice(after), 'failed', { status: 503, retry_after_s: 1 });
    await makeDue(sql);
  };
  await hold(0);
  t.match(await flow(sql), { pace: 1, learned_per_second: null }, 'one hold does not set a rate');
  await sql`update collecta.endpoint_flow set held_until = now(), held_at = now() - interval '2 s', pace = null`;
  await hold(40);
  const learned = (await flow(sql))!.learned_per_second;
  t.ok(learned > 15 && learned <= 20, `40 in 2 seconds and a bit: ${learned}/s`);

  // In the seconds after the hold, there are only as many slots as the rate allows.
  await sql`update collecta.endpoint_flow set held_until = now(), pace = null, next_slot = now() - interval '1 minute'`;
  const { deliveries } = await claimBySql(sql);
  let begun = deliveries.length;
  t.ok(begun >= 1 && begun <= 2, `${begun} may begin at once, however long there was nothing`);
  const from = performance.now();
  for (let step = 0; step < 50; step++) {
    await age(sql, '0.03 s'); // an unused slot expires after 0.05 s
    begun += (await claimBySql(sql)).deliveries.length;
  }
  const seconds = 50 * 0.03 + (performance.now() - from) / 1000;
  t.ok(begun <= learned * seconds + 2, `${begun} in ${seconds} seconds`);
  t.ok(begun >= (learned / 1.25) * 1.5 - 2, 'and nearly as many as that');

  const rates = [learned];
  await sql`update collecta.delivery_queue set leased_until = null`;
  for (let step = 0; step < 3; step++) {
    await age(sql, '11 s');
    const next = await claimBySql(sql);
    await record(sql, next.deliveries.slice(0, 1));
    rates.push((await flow(sql))!.learned_per_second);
  }
  t.ok(
    rates.every((rate, i) => i === 0 || (rate > rates[i - 1] * 1.09 && rate < rates[i - 1] * 1.11)),
    `a tenth more each ten seconds: ${rates.join(', ')}`,
  );
  await sql`update collecta.endpoint_flow set learned_per_second = 1001`;
  await age(sql, '11 s');
  await sql`update collecta.delivery_queue set leased_until = null`;
  await record(sql, (await claimBySql(sql)).deliveries.slice(0, 1));
  t.equal((await flow(sql))!.learned_per_second, null, 'and it is forgotten when it is no limit any more');
  t.equal((await flow(sql))!.endpoint_id, endpoint);
});

t.test('a hold lowers the rate by a fifth, a minute without one doubles it, low traffic has no effect', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created'], { max_in_flight: 50 });
  const rate = async () => (await flow(sql))!.learned_per_second as number | null;
  const round = async (delivered: number, refused: number) => {
    await makeDue(sql);
    const deliveries: Claimed[] = [];
    // Once a rate is learned, a claim returns only as many deliveries as there are slots.
    for (let claims = 0; deliveries.length < delivered + refused && claims < 60; claims++) {
      await sql`update collecta.endpoint_flow set held_until = now(), pace = null,
          next_slot = now() - interval '1 minute'`;
      deliveries.push(...(await claimBySql(sql)).deliveries);
    }
    await record(sql, deliveries.slice(0, delivered));
    await record(sql, deliveries.slice(delivered, delivered + refused), 'failed', { status: 429, retry_after_s: 1 });
    await sql`update collecta.delivery_queue set leased_until = null`;
  };
  await insert(sql, 3);
  await round(0, 1);
  await age(sql, '8 s');
  await round(2, 1);
  t.equal(await rate(), null, 'two in eight seconds were all that there was to send');
  await insert(sql, 200);
  await round(0, 1);
  await age(sql, '3 s');
  await round(0, 1);
  t.equal(await rate(), null, 'a receiver that accepts nothing is down and gets no rate');
  await age(sql, '3 minutes');
  await round(40, 1);
  t.equal(await rate(), null, 'an old hold does not affect the rate');
  await age(sql, '2 s');
  await round(40, 1);
  const learned = (await rate())!;
  t.ok(learned > 14 && learned <= 20, `40 in 2 seconds and a bit: ${learned}/s`);
  await age(sql, '40 s');
  await round(1, 1);
  const raised = learned * 1.1;
  t.ok(Math.abs((await rate())! - raised * 0.8) < 0.01, `a hold at ${raised}/s leaves ${await rate()}/s`);
  await age(sql, '61 s');
  await round(1, 0);
  t.ok(Math.abs((await rate())! - raised * 1.6) < 0.01, `a minute without one makes it ${await rate()}/s`);
  await sql`update collecta.endpoint_flow set learned_per_second = 1.1`;
  await age(sql, '11 s');
  await round(1, 1);
  t.ok((await rate())! >= 1, `and it never falls below 1: ${await rate()}/s`);
});

t.test('Retry-After: 0 asks for no wait, and the answer counts as an attempt', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created'], { retry_base: '60 s', retry_max: 0 });
  await insert(sql, 2);
  const { deliveries } = await claimBySql(sql);
  await record(sql, deliveries, 'failed', { status: 429, retry_after_s: 0 });
  t.match(
    [...(await sql`select outcome, attempt from collecta.webhook_deliveries`)],
    [
      { outcome: 'exhausted', attempt: 1 },
      { outcome: 'exhausted', attempt: 1 },
    ],
    'or it would be sent again without a pause, for a day',
  );
});

t.test('max_per_second holds in any second over two runners', async t => {
  const { sql, url } = await prepared();
  const receiver = await startReceiver();
  const rate = 25;
  const total = 120;
  const { id, path } = await createEndpoint(sql, receiver, '/limited', {
    events: ['record_created'],
    max_per_second: rate,
  });
  const runners = await Promise.all([1, 2].map(() => startRunner(url, { env: { COLLECTA_POLL_INTERVAL_MS: '100' } })));
  await Promise.all(runners.map(runner => runner.logged('dispatching')));
  const begun = Date.now();
  // Half of the events are a backlog, the rest are inserted one after the other.
  await insert(sql, total / 2);
  for (let i = 0; i < total / 2; i++) {
    await insert(sql, 1);
    await pause(20);
  }
  const history = () => sql`
    select event_id, extract(epoch from started_at)::float8 * 1000 as started from collecta.webhook_deliveries
    where endpoint_id = ${id} and outcome = 'delivered'`;
  await until('all are recorded', async () => (await history()).length === total, 30_000, 100);
  const took = (Date.now() - begun) / 1000;
  // The receiver or the database may note a request late, so the earlier of the two times is used.
  const seen = new Map(receiver.to(path).map(({ at, headers }) => [headers['webhook-id'], at]));
  const times = (await history())
    .map(({ event_id, started }) => Math.min(started, seen.get(event_id)!))
    .sort((a, b) => a - b);
  const most = Math.max(...times.map((from, i) => times.slice(i).filter(at => at < from + 1000).length));
  t.ok(most <= rate, `${most} of ${rate} in the fullest second`);
  t.ok(took < (total / rate) * 1.25 + 6, `${total} took ${took} s: the rate is used`);
  t.equal(receiver.to(path).length, total, 'none came twice');
  for (const runner of runners) t.equal((await runner.stop()).status, 0);
});

// The documented figure is for 1,000 events (TEST_EVENTS=1000), which take a minute.
const events = Number(process.env.TEST_EVENTS ?? 300);
t.test(`a receiver that takes 20 a second and says Retry-After: 1 gets all ${events} events`, async t => {
  const { sql, url } = await prepared();
  const accepted: number[] = [];
  let refused = 0;
  const receiver = createServer((request, response) => {
    request.resume().on('end', () => {
      const now = performance.now();
      while (accepted.length > 0 && accepted[0]! <= now - 1000) accepted.shift();
      if (accepted.length < 20) {
        accepted.push(now);
        response.writeHead(200).end();
      } else {
        refused++;
        response.writeHead(429, { 'retry-after': '1' }).end();
      }
    });
  });
  await new Promise<void>(done => receiver.listen(0, '127.0.0.1', done));
  t.teardown(() => receiver.close());
  const { port } = receiver.address() as AddressInfo;
  const maxInFlight = 50;
  const id = await subscribe(sql, ['record_created'], {
    url: `http://127.0.0.1:${port}/`,
    max_in_flight: maxInFlight,
    retry_max: 0,
  });
  const runners = await Promise.all([1, 2].map(() => startRunner(url)));
  await Promise.all(runners.map(runner => runner.logged('dispatching')));
  const begun = performance.now();
  await insert(sql, events);
  const done = async () =>
    (await sql`select from collecta.webhook_deliveries where outcome = 'delivered'`).length === events;
  await until('all are delivered', done, (events / 20) * 2_500 + 20_000, 250);
  const took = (performance.now() - begun) / 1000;
  const share = refused / (events + refused);
  t.comment(`${events} events in ${took.toFixed(1)} s, ${refused} requests refused (${(share * 100).toFixed(1)} %)`);
  const outcomes = await sql`
    select outcome, count(*)::int as count from collecta.webhook_deliveries where endpoint_id = ${id}
    group by outcome order by outcome`;
  t.match(Object.fromEntries(outcomes.map(row => [row.outcome, row.count])), { delivered: events, failed: refused });
  t.notOk(
    outcomes.some(row => row.outcome === 'exhausted'),
    'none was given up, though retry_max is 0',
  );
  // What is in flight when the first refusal comes is refused too. After that, one in twenty may be refused.
  t.ok(refused <= maxInFlight + events * 0.05, `${refused} requests were refused`);
  for (const runner of runners) t.equal((await runner.stop()).status, 0);
});
