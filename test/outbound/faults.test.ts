import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import postgres from 'postgres';
import t, { type Test } from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { type Sql, startServer, useServer } from '../support/database.ts';
import { createEndpoint, type Endpoint, type Received, startReceiver, startRunner, until } from '../support/runner.ts';

const { database } = await useServer();
const receiver = await startReceiver();
const env = { COLLECTA_POLL_INTERVAL_MS: '200' };

/** A database with a table t and an endpoint that receives its inserts. */
async function prepared(path: string, options: Record<string, unknown> = {}) {
  const { sql, url } = await database();
  await sql`create table t (id int primary key, data json)`;
  await sql`select collecta.attach_module('t', 't')`;
  const endpoint = await createEndpoint(sql, receiver, path, { events: ['record_created'], ...options });
  return { sql, url, endpoint };
}
const insert = (sql: Sql, from: number, to: number) =>
  sql`insert into t select generate_series(${from}::int, ${to}::int)`;
const number = async (rows: PromiseLike<unknown>) => Number(((await rows) as { count: string }[])[0]!.count);
const queued = (sql: Sql) =>
  number(sql`select (select count(*) from collecta.outbox) + (select count(*) from collecta.delivery_queue) as count`);
const drained = (sql: Sql, timeoutMs = 40_000) =>
  until('everything is delivered', async () => (await queued(sql)) === 0, timeoutMs, 50);
/** Counts the sessions of runners. Those of a killed runner stay until their statement ends. */
const sessions = (sql: Sql) =>
  number(
    sql`select count(*) from pg_stat_activity where datname = current_database()
      and application_name like 'collecta-webhooks%'`,
  );
/** Ends the leases of runners that are gone now, instead of waiting a minute. */
const endLeases = (sql: Sql) =>
  sql`update collecta.delivery_queue set leased_until = now() - interval '1 s' where leased_until is not null`;

/**
 * Asserts what must hold after any fault: every event of records 1 to `records` has arrived, equal ids have equal
 * bodies, every signature verifies, at most `inFlight` events came twice, and the history explains every request:
 * attempts without gaps, none recorded twice.
 */
async function explained(t: Test, sql: Sql, endpoint: Endpoint, records: number, inFlight: number): Promise<void> {
  const requests = receiver.to(endpoint.path);
  const byId = new Map<string, Received[]>();
  for (const request of requests)
    byId.set(request.headers['webhook-id']!, [...(byId.get(request.headers['webhook-id']!) ?? []), request]);
  const arrived = new Set(requests.map(({ body }) => Number(JSON.parse(body).record_id)));
  t.strictSame(
    [...arrived].sort((a, b) => a - b),
    Array.from({ length: records }, (_, i) => i + 1),
    'every event has arrived, and nothing else',
  );
  t.equal(byId.size, records, 'each under one id');
  t.ok(
    [...byId.values()].every(same => new Set(same.map(({ body }) => body)).size === 1),
    'with the same bytes each time',
  );
  t.ok(
    requests.every(({ verified }) => verified.every(each => each.hex && each.standard && each.package)),
    'every signature verifies',
  );
  const twice = requests.length - byId.size;
  t.ok(twice <= inFlight, `${twice} of ${records} came twice, ${inFlight} may`);
  const history = await sql`
    select event_id, count(*)::int as rows, count(*) filter (where outcome <> 'lost')::int as attempts,
      count(distinct attempt) filter (where outcome <> 'lost')::int as different, max(attempt)::int as last,
      count(*) filter (where outcome = 'delivered')::int as delivered
    from collecta.webhook_deliveries where endpoint_id = ${endpoint.id} group by event_id`;
  t.equal(history.length, records);
  t.ok(
    history.every(row => row.attempts === row.different && row.attempts === row.last),
    'attempts without a gap, none recorded twice; a lost one gives its number back',
  );
  t.ok(
    history.every(row => row.delivered === 1),
    'one delivery of each was successful and recorded',
  );
  t.ok(
    history.every(row => (byId.get(row.event_id)?.length ?? 0) <= row.rows),
    'no request that the history does not know',
  );
  t.equal(await queued(sql), 0);
}

t.test('a second runner finishes 1,000 deliveries after the first is killed with kill -9', async t => {
  const { sql, url, endpoint } = await prepared('/killed', { answers: [{ delayMs: 20 }], max_in_flight: 500 });
  await insert(sql, 1, 1_000);
  const first = await startRunner(url, { env });
  await until('it is in the middle', () => receiver.to('/killed').length > 300);
  first.kill('SIGKILL');
  await first.ended;
  await until('its last statement is over', async () => (await sessions(sql)) === 0);
  const leased = await number(sql`select count(*) from collecta.delivery_queue where leased_until is not null`);
  const attempted = receiver.to('/killed').length;
  t.ok(leased > 0 && attempted < 1_000, `killed after ${attempted} requests, ${leased} leased`);
  await startRunner(url, { env });
  await until('the rest is delivered', async () => (await queued(sql)) === leased, 30_000);
  t.equal(
    await number(sql`select count(*) from collecta.delivery_queue where leased_until > now()`),
    leased,
    'nobody takes what is leased',
  );
  await endLeases(sql);
  await drained(sql);
  await explained(t, sql, endpoint, 1_000, leased);
  t.equal(
    await number(sql`select count(*) from collecta.webhook_deliveries where outcome = 'lost'`),
    leased,
    'the lost attempts are in the history',
  );
});

t.test('a runner that resumes after its lease ended changes nothing that its successor did', async t => {
  const { sql, url, endpoint } = await prepared('/frozen', { answers: [{ hang: true }] });
  await insert(sql, 1, 20);
  const frozen = await startRunner(url, { env: { ...env, COLLECTA_CONCURRENCY: '100' } });
  await until('all are in flight', () => receiver.to('/frozen').length === 20);
  frozen.kill('SIGSTOP');
  await receiver.script('/frozen', [200]);
  await receiver.release('/frozen');
  await endLeases(sql);
  const successor = await startRunner(url, { env });
  await drained(sql);
  const look = async () =>
    JSON.stringify([
      await sql`select * from collecta.delivery_attempts order by id`,
      await sql`select * from collecta.delivery_queue`,
    ]);
  const before = await look();
  frozen.kill('SIGCONT');
  t.match(await frozen.logged('results came too late: their deliveries were claimed again'), { level: 'warn' });
  await until(
    'all its results came',
    () => frozen.log.reduce((sum, line) => sum + (Number(line.stale) || 0), 0) === 20,
  );
  t.equal(await look(), before, 'the late results change nothing');
  await explained(t, sql, endpoint, 20, 20);
  await insert(sql, 21, 30);
  await drained(sql);
  t.equal((await frozen.stop()).status, 0, 'and it goes on working');
  t.equal((await successor.stop()).status, 0);
});

t.test('two runners share 5,000 deliveries without duplicates, within max_in_flight', async t => {
  const { sql, url, endpoint } = await prepared('/shared', { max_in_flight: 20, answers: [{ delayMs: 3 }] });
  const runners = await Promise.all(
    ['one', 'two'].map(name => startRunner(`${url}?application_name=${name}`, { env })),
  );
  for (const runner of runners) await runner.logged('listening');
  const flights = await createEndpoint(sql, receiver, '/shared/too', { events: ['record_created'] });
  await insert(sql, 1, 5_000);
  await drained(sql, 60_000);
  await explained(t, sql, endpoint, 5_000, 0);
  await explained(t, sql, flights, 5_000, 0);
  const most = Math.max(...receiver.to('/shared').map(({ inFlight }) => inFlight));
  t.ok(most <= 20 && most > 10, `${most} at once`);
  const clients = new Set(receiver.to('/shared/too').map(({ at }) => at));
  t.ok(clients.size > 1);
  for (const runner of runners) {
    const { status } = await runner.stop();
    t.equal(status, 0);
    t.strictSame(
      runner.log.filter(({ level }) => level === 'error' || level === 'warn'),
      [],
    );
  }
});

t.test('1,000 deliveries succeed while all backends are terminated repeatedly', async t => {
  const { sql, url, endpoint } = await prepared('/terminated', { answers: [{ delayMs: 10 }] });
  const runner = await startRunner(url, { env });
  await runner.logged('listening');
  for (let i = 0; i < 4; i++) {
    await insert(sql, i * 250 + 1, i * 250 + 250);
    await until('some are delivered', () => receiver.to('/terminated').length > i * 250 + 50);
    await sql`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and pid <> pg_backend_pid()`;
  }
  await pause(500);
  // Deliveries whose claim was lost on the way stay leased.
  const lost = await until(
    'what is not lost is delivered',
    async () => {
      const rows = await sql`select leased_until is not null as leased from collecta.delivery_queue`;
      return (
        (await number(sql`select count(*) from collecta.outbox`)) === 0 &&
        rows.every(row => row.leased) && { count: rows.length }
      );
    },
    30_000,
    100,
  );
  await pause(1_500);
  await endLeases(sql);
  await drained(sql);
  t.comment(`${lost.count} claims were lost`);
  await explained(t, sql, endpoint, 1_000, 4 * 200);
  t.equal((await runner.stop()).status, 0);
  t.notMatch(runner.output(), /^ +at /m, 'no stack trace');
});

t.test('deliveries continue after fast and immediate restarts and an outage of some seconds', async t => {
  const server = await startServer(['-c', 'fsync=on']);
  t.teardown(() => server.stop());
  await migrate(server.url());
  const sql = postgres(server.url(), { onnotice: () => {}, max: 4 }) as unknown as Sql;
  t.teardown(() => sql.end({ timeout: 1 }));
  await sql`create table t (id int primary key, data json)`;
  await sql`select collecta.attach_module('t', 't')`;
  const endpoint = await createEndpoint(sql, receiver, '/restarted', {
    events: ['record_created'],
    answers: [{ delayMs: 10 }],
  });
  const runner = await startRunner(server.url(), { env });
  await runner.logged('listening');
  for (const [index, mode] of (['fast', 'immediate', 'fast'] as const).entries()) {
    await insert(sql, index * 300 + 1, index * 300 + 300);
    await until('some are delivered', () => receiver.to('/restarted').length > index * 300 + 50);
    await server.restart(mode, index === 2 ? 3_000 : 0);
    await until(
      'the server answers',
      () =>
        sql`select 1`.then(
          () => true,
          () => false,
        ),
      30_000,
      100,
    );
    await runner.logged('listening', index + 1);
  }
  await until(
    'the rest is leased by nobody who lives',
    async () =>
      (await sql`select from collecta.delivery_queue where leased_until is null`).length === 0 &&
      (await number(sql`select count(*) from collecta.outbox`)) === 0,
    30_000,
    100,
  );
  await pause(1_500);
  await endLeases(sql);
  await drained(sql);
  await explained(t, sql, endpoint, 900, 3 * 200);
  t.equal((await runner.stop()).status, 0);
});

t.test('a change that cannot be routed blocks no other', async t => {
  const { sql, url, endpoint } = await prepared('/poisoned');
  await sql`alter table collecta.events add constraint no_poison check (body not like '%poison%')`;
  const runner = await startRunner(url, { env });
  await runner.logged('listening');
  await insert(sql, 1, 20);
  await sql`insert into t values (1000, '"poison"')`;
  await insert(sql, 21, 40);
  await drained(sql);
  t.match(await sql`select record_id, reason from collecta.unrouted`, [{ record_id: '1000', reason: /no_poison/ }]);
  await explained(t, sql, endpoint, 40, 0);
});

t.test('an endpoint may be deleted or changed while a request is in flight', async t => {
  const { sql, url, endpoint } = await prepared('/before', { answers: [{ hang: true }] });
  const doomed = await createEndpoint(sql, receiver, '/doomed', {
    events: ['record_created'],
    answers: [{ hang: true }],
    max_in_flight: 2,
  });
  const runner = await startRunner(url, { env });
  await runner.logged('listening');
  await insert(sql, 1, 5);
  await until('they are in flight', () => receiver.to('/before').length === 5 && receiver.to('/doomed').length === 2);
  await sql`select collecta.delete_endpoint(${doomed.id})`;
  await receiver.script('/doomed', [200]);
  await receiver.release('/doomed');
  await until(
    'what was in flight is recorded',
    async () =>
      (await sql`select from collecta.webhook_deliveries where endpoint_id = ${doomed.id} and outcome = 'delivered'`)
        .length === 2,
  );
  await insert(sql, 6, 6);
  await until('the next change has come', () => receiver.to('/before').length === 6);
  t.equal(receiver.to('/doomed').length, 2, 'the rest of the deleted one is never sent');

  const [{ fresh }] = (await sql`select collecta.rotate_secret(${endpoint.id}, '0') as fresh`) as unknown as [
    { fresh: string },
  ];
  await sql`select collecta.update_endpoint(${endpoint.id}, url => ${`${receiver.origin}/after`})`;
  await receiver.script('/after', [200], [fresh]);
  await receiver.script('/before', [500]);
  await sql`update collecta.endpoints set retry_base = '0.1 s' where endpoint_id = ${endpoint.id}`;
  await receiver.release('/before');
  await until(
    'all are delivered',
    async () =>
      (await sql`select from collecta.webhook_deliveries where endpoint_id = ${endpoint.id} and outcome = 'delivered'`)
        .length === 6,
  );
  const [old] = receiver.to('/before');
  t.ok(old!.verified[0]!.hex, 'what was in flight was signed with the secret of its claim');
  t.ok(
    receiver.to('/after').every(({ verified }) => verified[0]!.hex && verified[0]!.package),
    'what comes after with the new one',
  );
  t.match(
    await sql`select distinct url from collecta.webhook_deliveries where endpoint_id = ${endpoint.id} order by url`,
    [{ url: /after|before/ }],
  );
});

t.test('hanging endpoints with a backlog delay no other', async t => {
  const { sql, url, endpoint } = await prepared('/healthy');
  const runner = await startRunner(url, { env });
  await runner.logged('listening');
  let next = 1;
  /** Milliseconds from the commit to the arrival of 100 single changes. */
  async function latencies(): Promise<number[]> {
    const times: number[] = [];
    for (let i = 0; i < 100; i++) {
      const id = next++;
      await insert(sql, id, id);
      const committed = Date.now();
      const request = await until(
        'it arrives',
        () => receiver.to('/healthy').find(({ body }) => JSON.parse(body).record_id === String(id)),
        20_000,
        2,
      );
      times.push(request.at - committed);
    }
    return times.sort((a, b) => a - b);
  }
  const alone = await latencies();
  for (let i = 0; i < 15; i++) {
    const hanging = await createEndpoint(sql, receiver, `/hanging/${i}`, {
      events: ['record_deleted'],
      answers: [{ hang: true }],
    });
    await sql`
      with event as (
        insert into collecta.events (event_id, routed_at, sequence, position, module, event, occurred_at, body)
        values (collecta.new_id('evt'), clock_timestamp(), 0, 0, 'bulk', 'test', now(), '{}')
          returning event_id, routed_at)
      insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, routed_at, due_at)
      select g, 0, ${hanging.id}, event_id, routed_at, now()
        from event, generate_series(1, ${i === 0 ? 10_000 : 500}) g`;
  }
  await until('they hang', () => receiver.to('/hanging/0').length > 0);
  const beside = await latencies();
  const [before, during] = [alone[98]!, beside[98]!];
  const held = receiver.requests.filter(({ path }) => path.startsWith('/hanging')).length;
  t.comment(`p50 ${alone[49]} and ${beside[49]} ms, p99 ${before} and ${during} ms; ${held} requests hang`);
  t.ok(beside[49]! < Math.max(10 * alone[49]!, 100), 'the median is of the same order');
  t.ok(during < Math.max(10 * before, 1_500), 'so is the 99th percentile');
  await until('they are recorded', async () => {
    return (await number(sql`select count(*) from collecta.delivery_queue where endpoint_id = ${endpoint.id}`)) === 0;
  });
});

t.test('a runner keeps no memory of what it has delivered', async t => {
  // 15,000 bodies of 8 KB are twice the maximum heap. The runner ran out of memory here when it kept the results of
  // claims.
  const { sql, url } = await database();
  await sql`create table t (id int primary key, data text)`;
  await sql`select collecta.attach_module('t', 't')`;
  let received = 0;
  const counting = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      received++;
      response.end();
    });
  });
  await new Promise<void>(done => counting.listen(0, '127.0.0.1', done));
  t.teardown(() => counting.close());
  const { port } = counting.address() as AddressInfo;
  await sql`select collecta.create_endpoint(${`http://127.0.0.1:${port}/`}, '{record_created}', max_in_flight => 1000)`;
  await sql`insert into t select g, repeat('x', 8000) from generate_series(1, 15000) g`;
  const runner = await startRunner(url, {
    env: { ...env, NODE_OPTIONS: '--max-old-space-size=60', COLLECTA_LOG_LEVEL: 'info' },
  });
  await drained(sql, 60_000);
  t.equal(received, 15_000);
  t.equal((await runner.stop()).status, 0);
});
