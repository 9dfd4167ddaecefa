import t from 'tap';
import { maskedHeaders } from '../../src/outbound/echo.ts';
import { claimBySql, record, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';

const { connect, database } = await useServer();
const receiver = await startReceiver();

/** A database with a table t attached, and a runner. */
async function prepared() {
  const made = await database();
  await made.sql`create table t (id int primary key, n int)`;
  await made.sql`select collecta.attach_module('t', 't')`;
  return made;
}
const insert = (sql: Sql, from: number, to: number) =>
  sql`insert into t select generate_series(${from}::int, ${to}::int)`;
const queued = async (sql: Sql, endpoint: string) =>
  (await sql`select from collecta.delivery_queue where endpoint_id = ${endpoint}`).length;
const attempts = (sql: Sql, endpoint: string) => sql`
  select event_id, attempt, outcome, response_headers, error from collecta.delivery_attempts
  where endpoint_id = ${endpoint} order by id`;
const asideOf = (sql: Sql, endpoint: string) =>
  sql`select reason from collecta.unrouted where endpoint_id = ${endpoint} order by change_id`;

t.test('the runner and the database mask the same headers', async t => {
  const { sql } = await prepared();
  const words = ['auth', 'cookie', 'token', 'secret', 'passw', 'key', 'session', 'signature', 'credential'];
  const names = [...words, 'accept', 'x-tenant', 'cook', 'sess-ion', 'se_cret', 'k-ey'].flatMap(word => [
    word,
    word.toUpperCase(),
    `X-${word[0]!.toUpperCase()}${word.slice(1)}s`,
  ]);
  const values = [
    'basic a',
    'Bearer b',
    'DIGEST c',
    'token d',
    'ApiKey e',
    'basic',
    'bearer:f',
    ' token g',
    'x basic h',
    '',
  ];
  const headers = Object.fromEntries([
    ...names.map(name => [name, 'plain']),
    ...values.map((value, index) => [`x-${index}`, value]),
  ]) as Record<string, string>;
  const [row] = await sql`select collecta.mask_headers(${JSON.stringify(headers)}::text::jsonb) as masked`;
  t.same(row!.masked, maskedHeaders(headers));
  const masked = Object.values(row!.masked).filter(value => value === '***').length;
  t.equal(masked, words.length * 3 + 5, 'those that may carry credentials, and no others');
});

t.test('an answer with a % in a header name is recorded, and so is its neighbour', async t => {
  const { sql, url } = await prepared();
  const odd = await createEndpoint(sql, receiver, '/percent', {
    events: ['record_created'],
    answers: [{ status: 200, headers: { 'x-100%': '%s', "x-'quoted'": '%1$I %L' } }],
  });
  const healthy = await createEndpoint(sql, receiver, '/beside', { events: ['record_created'] });
  const runner = await startRunner(url);
  await runner.logged('dispatching');
  await insert(sql, 1, 20);
  for (const { id, path } of [odd, healthy]) {
    await until(`${path} is delivered`, async () => (await attempts(sql, id)).length === 20);
    t.ok((await attempts(sql, id)).every(row => row.outcome === 'delivered'));
    t.equal(receiver.to(path).length, 20, `${path}: nothing is sent twice`);
  }
  t.match((await attempts(sql, odd.id))[0]!.response_headers, { 'x-100%': '%s', "x-'quoted'": '%1$I %L' });
  t.equal((await runner.stop()).status, 0);
});

t.test('queued rows of a partition that was dropped by hand block no other delivery', async t => {
  const { sql, url } = await prepared();
  const lost = await createEndpoint(sql, receiver, '/without-event', { events: ['record_created'] });
  const unwritten = await createEndpoint(sql, receiver, '/without-history', { events: ['record_created'] });
  const refused = await createEndpoint(sql, receiver, '/refused', {
    events: ['record_created'],
    answers: [500],
    retry_max: 0,
  });
  const healthy = await createEndpoint(sql, receiver, '/healthy', { events: ['record_created'] });
  const old = [lost, unwritten, refused];
  for (const { id } of old) await sql`select collecta.pause_endpoint(${id})`;
  await insert(sql, 1, 3);
  await sql`select collecta.route_changes()`;
  // Their events are from two days ago and from yesterday; both days have partitions.
  const at = (days: number) => `now() - interval '${days} days'`;
  const day = async (days: number) =>
    (await sql.unsafe(`select to_char((${at(days)}) at time zone 'UTC', '_YYYYMMDD') as day`))[0]!.day as string;
  for (const days of [1, 2])
    for (const table of ['events', 'delivery_attempts'])
      await sql.unsafe(`
        set timezone = 'UTC';
        do $$ begin execute format('create table collecta.${table}${await day(days)} partition of collecta.${table}
          for values from (%L) to (%L)', date_trunc('day', ${at(days)}),
          date_trunc('day', ${at(days)}) + interval '1 day'); end $$;
        reset timezone`);
  await sql.unsafe(`
    insert into collecta.events
    select (jsonb_populate_record(e, jsonb_build_object('routed_at', ${at(1)}))).* from collecta.events e;
    insert into collecta.events
    select (jsonb_populate_record(e, jsonb_build_object('routed_at', ${at(2)}))).* from collecta.events e
      where e.routed_at > ${at(0.5)};
    update collecta.delivery_queue q set routed_at = case when q.endpoint_id = '${lost.id}'
      then (select min(routed_at) from collecta.events) else (select e.routed_at from collecta.events e
        where e.event_id = q.event_id and e.routed_at between ${at(1.5)} and ${at(0.5)}) end
    where q.endpoint_id <> '${healthy.id}';
    drop table collecta.events${await day(2)}, collecta.delivery_attempts${await day(2)},
    collecta.delivery_attempts${await day(1)}`);
  for (const { id } of old) await sql`select collecta.resume_endpoint(${id})`;
  const runner = await startRunner(url);
  await runner.logged('dispatching');
  await insert(sql, 4, 20);
  await until('the healthy one has everything', async () => (await attempts(sql, healthy.id)).length === 20, 5_000);
  for (const { id, path } of old) {
    await until(`${path} is settled`, async () => (await attempts(sql, id)).length === 17, 20_000);
    await until(`nothing of ${path} is queued`, async () => (await queued(sql, id)) === 0, 20_000);
  }
  t.match(
    [...(await asideOf(sql, lost.id))],
    Array.from({ length: 3 }, () => ({ reason: /its event is gone/ })),
    'without an event there is nothing to send',
  );
  t.equal(receiver.to(lost.path).length, 17);
  t.equal(
    receiver.to(unwritten.path).length,
    20,
    'without a partition for the history it is sent all the same, and once',
  );
  t.strictSame([...(await asideOf(sql, unwritten.id))], []);
  t.equal(receiver.to(refused.path).length, 20);
  t.match(
    [...(await asideOf(sql, refused.id))],
    Array.from({ length: 3 }, () => ({ reason: /given up; history could not be written/ })),
    'what was given up without a history is set aside with its reason',
  );
  t.equal(receiver.to(healthy.path).length, 20);
  t.equal((await runner.stop()).status, 0);
});

t.test('an expired lease in a dropped partition is released without an attempt', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created']);
  await insert(sql, 1, 2);
  t.equal((await claimBySql(sql)).deliveries.length, 2);
  const [today] = await sql`select to_char(now() at time zone 'UTC', 'YYYYMMDD') as day`;
  await sql.unsafe(`drop table collecta.delivery_attempts_${today!.day}`);
  await sql`update collecta.delivery_queue set leased_until = now() - interval '1 s'`;
  const { deliveries } = await claimBySql(sql);
  t.equal(deliveries.length, 2);
  await sql`select collecta.maintain()`;
  t.equal(await record(sql, deliveries), 2);
});

/** Creates the history of `count` deliveries that were given up. */
async function giveUp(sql: Sql, endpoint: string, count: number): Promise<void> {
  await sql`
    with event as (
      insert into collecta.events (event_id, routed_at, sequence, position, module, event, record_id, occurred_at, body)
      select 'evt_' || lpad(to_hex(g), 32, '0'), now(), g, 0, 't', 'record_created', g::text, now(), '{}'
      from generate_series(1, ${count}::int) g returning event_id, routed_at)
    insert into collecta.delivery_attempts (id, event_id, routed_at, endpoint_id, attempt, outcome, url, started_at,
      finished_at)
    select 'dlv_' || right(event_id, 32), event_id, routed_at, ${endpoint}, 6, 'exhausted', 'https://example.com',
      now(), now()
    from event`;
}

t.test('replay_undelivered queues 20,000 in seconds, and a second call sends nothing twice', async t => {
  const { sql, url } = await prepared();
  const id = await subscribe(sql, ['record_created']);
  await giveUp(sql, id, 20_000);
  await sql`analyze collecta.delivery_attempts`;
  const replay = async (by = sql) => Number((await by`select collecta.replay_undelivered() as queued`)[0]!.queued);
  const begun = performance.now();
  const others = [connect(url, { max: 1 }), connect(url, { max: 1 })];
  const counts = await Promise.all([replay(), ...others.map(replay)]);
  const seconds = (performance.now() - begun) / 1000;
  t.comment(`20,000 in ${seconds.toFixed(1)} s, by one of three at once`);
  t.strictSame(counts.sort(), [0, 0, 20_000], 'three at once queue each delivery once');
  t.ok(seconds < 20, `${seconds} s`);
  t.equal(await queued(sql, id), 20_000);
  t.equal(await replay(), 0, 'what is queued is not queued twice');

  const { deliveries } = await claimBySql(sql, { batch: 50 });
  await record(sql, deliveries.slice(0, 40));
  await record(sql, deliveries.slice(40), 'failed', { status: 500 });
  t.equal(await replay(), 0, 'delivered attempts and failed ones that are retried are not in it either');
  await sql`update collecta.endpoints set retry_max = 0`;
  await sql`update collecta.delivery_queue set due_at = '-infinity' where attempt > 0`;
  const again = (await claimBySql(sql, { batch: 10 })).deliveries;
  await record(sql, again, 'failed', { status: 500 });
  t.equal(
    (await sql`select from collecta.undelivered`).length,
    10,
    'a delivery that is given up again is still one row',
  );
  t.equal(await replay(), 10, 'and is replayed');
});

t.test('an operator’s open transaction delays no other endpoint', async t => {
  const { sql, url } = await prepared();
  const failing = await createEndpoint(sql, receiver, '/locked', {
    events: ['record_created'],
    answers: [{ status: 503, headers: { 'retry-after': '1' } }],
    retry_base: '0.2 s',
    retry_max: 20,
  });
  const ordered = await createEndpoint(sql, receiver, '/locked-ordered', {
    events: ['record_created', 'record_updated'],
    ordered: true,
  });
  const healthy = await createEndpoint(sql, receiver, '/not-locked', { events: ['record_created'] });
  const runner = await startRunner(url);
  await runner.logged('dispatching');
  await insert(sql, 1, 5);
  await until('the first are delivered', async () => (await attempts(sql, healthy.id)).length === 5);
  await until('and failed', async () => (await attempts(sql, failing.id)).length > 0);
  await until('ordered ones too', async () => (await attempts(sql, ordered.id)).length === 5);
  const [replayable] = await sql`select id from collecta.delivery_attempts where endpoint_id = ${ordered.id} limit 1`;

  const statements = {
    update_endpoint: `select collecta.update_endpoint('${failing.id}', retry_max => 19)`,
    rotate_secret: `select collecta.rotate_secret('${failing.id}')`,
    'select … for update': `select from collecta.endpoints where endpoint_id = '${failing.id}' for update`,
    'select … for update of all': 'select from collecta.endpoints for update',
    pause_endpoint: `select collecta.pause_endpoint('${failing.id}')`,
    'replay_delivery of an ordered endpoint': `select collecta.replay_delivery('${replayable!.id}')`,
    replay_undelivered: `select collecta.replay_undelivered()`,
    route_again: `select collecta.route_again()`,
    'its flow, locked': 'select from collecta.endpoint_flow for update',
    'its queue, locked': `select from collecta.delivery_queue where endpoint_id = '${failing.id}' for update`,
  };
  let last = 5;
  for (const [name, statement] of Object.entries(statements)) {
    const operator = connect(url, { max: 1 });
    await operator.unsafe('begin');
    await operator.unsafe(statement);
    for (let round = 0; round < 2; round++) {
      await insert(sql, last + 1, last + 10);
      last += 10;
      await until(
        `with ${name} open, others are recorded`,
        async () => (await attempts(sql, healthy.id)).length === last,
        5_000,
      );
      // The replayed record may have to wait; all other records of the ordered endpoint go on.
      await until(
        `with ${name} open, ordered ones are recorded`,
        async () => (await attempts(sql, ordered.id)).length >= last,
        5_000,
      );
    }
    t.equal(receiver.to(healthy.path).length, last, `${name}: nothing is sent twice`);
    t.equal((await sql`select from collecta.unrouted`).length, 0, `${name}: nothing is set aside`);
    await operator.unsafe('rollback');
    await operator.end();
  }
  t.notOk(
    (await sql`select outcome from collecta.delivery_attempts where endpoint_id <> ${failing.id}`).some(
      row => row.outcome !== 'delivered',
    ),
  );
  await receiver.script(failing.path, [200]);
  await until('the failing one goes on', async () => (await queued(sql, failing.id)) === 0, 30_000, 100);
  t.equal((await runner.stop()).status, 0);
});

t.test('a request that a stopping runner abandons uses no attempt and is no receiver failure', async t => {
  const { sql } = await prepared();
  const id = await subscribe(sql, ['record_created'], { retry_max: 0 });
  await insert(sql, 1, 1);
  const { deliveries } = await claimBySql(sql);
  t.equal(await record(sql, deliveries, 'lost', { error: 'stopped while waiting for the response' }), 1);
  t.match([...(await attempts(sql, id))], [{ attempt: 1, outcome: 'lost' }]);
  t.match([...(await sql`select from collecta.endpoint_flow where failing_since is not null`)], []);
  const again = (await claimBySql(sql)).deliveries;
  t.equal(again.length, 1, 'it is due at once');
  const { id: delivery, lease } = again[0]!;
  await sql`select collecta.record_outcome(${delivery}, ${lease}, 'lost', 'no partition')`;
  t.equal((await sql`select from collecta.unrouted`).length, 0, 'nor where history cannot be written');
  await record(sql, (await claimBySql(sql)).deliveries);
  t.match(
    [...(await attempts(sql, id))],
    [
      { attempt: 1, outcome: 'lost' },
      { attempt: 1, outcome: 'delivered' },
    ],
  );
});
