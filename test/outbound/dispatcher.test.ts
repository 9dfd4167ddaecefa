import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { readConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { dispatch } from '../../src/outbound/dispatcher.ts';
import { type Sql, useServer } from '../support/database.ts';
import { startProxy } from '../support/proxy.ts';
import { createEndpoint, type LogLine, startReceiver, until } from '../support/runner.ts';

const { admin, database, server } = await useServer();
const receiver = await startReceiver();

/** A database with a table t and an endpoint that receives its inserts. */
async function prepared(path: string, options: Record<string, unknown> = {}) {
  const { sql, url, name } = await database();
  await sql`create table t (id int primary key)`;
  await sql`select collecta.attach_module('t', 't')`;
  const endpoint = await createEndpoint(sql, receiver, path, { events: ['record_created'], ...options });
  return { sql, url, name, endpoint };
}
const insert = (sql: Sql, from: number, to: number) =>
  sql`insert into t select generate_series(${from}::int, ${to}::int)`;
const delivered = (sql: Sql, count: number) =>
  until(
    `${count} are delivered`,
    async () => (await sql`select from collecta.webhook_deliveries where outcome = 'delivered'`).length === count,
    30_000,
  );

/** The dispatcher in this process. */
function start(t: Test, url: string, env: Record<string, string> = {}) {
  const config = readConfig({
    DATABASE_URL: url,
    COLLECTA_ALLOW_HTTP: 'true',
    COLLECTA_ALLOW_DESTINATIONS: '127.0.0.0/8',
    COLLECTA_POLL_INTERVAL_MS: '200',
    ...env,
  });
  const log: LogLine[] = [];
  const controller = new AbortController();
  const ended = dispatch(
    config,
    createLog('debug', line => log.push(JSON.parse(line))),
    controller.signal,
  );
  t.teardown(() => {
    controller.abort();
    return ended;
  });
  return {
    log,
    logged: (event: string) => until(`the log has "${event}"`, () => log.find(line => line.event === event), 30_000),
    /** Milliseconds until the dispatcher has ended. */
    async stop(): Promise<number> {
      const started = performance.now();
      controller.abort();
      await ended;
      return performance.now() - started;
    },
  };
}

t.test('COLLECTA_CONCURRENCY limits the requests in flight over all endpoints', async t => {
  const { sql, url } = await prepared('/narrow', { answers: [{ delayMs: 40 }] });
  const other = await createEndpoint(sql, receiver, '/narrow/too', {
    events: ['record_created'],
    answers: [{ delayMs: 40 }],
  });
  const runner = start(t, url, { COLLECTA_CONCURRENCY: '6' });
  await insert(sql, 1, 60);
  await delivered(sql, 120);
  const starts = receiver.requests
    .filter(({ path }) => path.startsWith('/narrow'))
    .map(({ at }) => at)
    .sort((a, b) => a - b);
  t.ok(
    starts.every((at, i) => i < 6 || at - starts[i - 6]! >= 30),
    'the seventh begins after the first has its answer',
  );
  const alone = Math.max(...receiver.to(other.path).map(({ inFlight }) => inFlight));
  t.ok(alone >= 2 && alone <= 5, `one endpoint takes ${alone} places of six at most`);
  t.ok((await runner.stop()) < 5_000);
  t.strictSame(
    runner.log.filter(({ level }) => level === 'error' || level === 'warn'),
    [],
  );
});

t.test('a runner continues after the database was unreachable for a while', async t => {
  const { sql, url } = await prepared('/cut');
  const proxy = await startProxy(t, server.port);
  const runner = start(t, proxy.through(url));
  await runner.logged('listening');
  await insert(sql, 1, 10);
  await delivered(sql, 10);
  proxy.set('cut');
  await runner.logged('claiming failed, it is tried again');
  await insert(sql, 11, 20);
  await pause(1_500);
  t.ok(
    runner.log.filter(({ event }) => event === 'claiming failed, it is tried again').length < 15,
    'it waits longer each time',
  );
  proxy.set('open');
  await delivered(sql, 20);
  t.equal(receiver.to('/cut').length, 20);
  await until('it listens again', () => runner.log.filter(({ event }) => event === 'listening').length === 2);
});

t.test('a runner continues after packets were dropped for a while without closed connections', async t => {
  const { sql, url } = await prepared('/silent', { answers: [{ delayMs: 100 }] });
  const proxy = await startProxy(t, server.port);
  const runner = start(t, proxy.through(url), { COLLECTA_STOP_TIMEOUT_MS: '500' });
  await runner.logged('listening');
  await insert(sql, 1, 200);
  await until('some are in flight', () => receiver.to('/silent').length > 20);
  proxy.set('silent');
  await pause(2_000);
  proxy.set('open');
  await delivered(sql, 200);
  t.equal(receiver.to('/silent').length, 200, 'nothing came twice');

  await insert(sql, 201, 300);
  await until('some are in flight', () => receiver.to('/silent').length > 210);
  proxy.set('silent');
  const ms = await runner.stop();
  t.ok(ms < 15_000, `a stop ends all the same: ${Math.round(ms)} ms`);
});

t.test('a login that is a member of collecta_dispatcher is enough for a runner', async t => {
  const { sql, url, name } = await prepared('/humble');
  const role = `runner_${randomBytes(4).toString('hex')}`;
  await admin.unsafe(`create role ${role} login password 'x' in role collecta_dispatcher`);
  t.teardown(() => admin.unsafe(`drop role ${role}`));
  const runner = start(t, url.replace('postgres:postgres@', `${role}:x@`));
  await runner.logged('listening');
  await insert(sql, 1, 100);
  await delivered(sql, 100);
  await runner.stop();
  t.strictSame(
    runner.log.filter(({ level }) => level === 'error' || level === 'warn'),
    [],
    name,
  );
});

t.test('a runner creates partitions when it starts, and pauses endpoints that failed for days', async t => {
  const { sql, url, endpoint } = await prepared('/upkeep');
  const [{ partition }] =
    (await sql`select format('events_%s', to_char(now() at time zone 'UTC' + interval '2 days', 'YYYYMMDD'))
      as partition`) as unknown as [{ partition: string }];
  await sql.unsafe(`drop table collecta.${partition}`);
  await sql`insert into collecta.endpoint_flow (endpoint_id, failing_since)
    select endpoint_id, now() - interval '6 days' from collecta.endpoints`;
  const runner = start(t, url);
  await runner.logged('dispatching');
  t.equal((await sql`select to_regclass(${`collecta.${partition}`}) is not null as there`)[0]!.there, true);
  t.match(await sql`select state, paused_reason from collecta.endpoints where endpoint_id = ${endpoint.id}`, [
    { state: 'paused', paused_reason: /without one success/ },
  ]);
  t.ok(runner.log.filter(({ event }) => event === 'maintained').length >= 2, 'and says so');
});
