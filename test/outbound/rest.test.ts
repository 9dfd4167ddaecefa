/**
 * With COLLECTA_IDLE=release no session is open while nothing is due, so that a database that suspends itself when idle
 * can do so.
 */
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { readConfig } from '../../src/config.ts';
import { createRest } from '../../src/database/rest.ts';
import { createLog } from '../../src/log.ts';
import { dispatch } from '../../src/outbound/dispatcher.ts';
import { freePort, useServer } from '../support/database.ts';
import { attachWorkOrders, createEndpoint, runtimes, startReceiver, startRunner, until } from '../support/runner.ts';

const { admin, database } = await useServer();
const receiver = await startReceiver();
const token = '0123456789abcdef';

async function prepared(path: string, options = {}) {
  const target = await database();
  await attachWorkOrders(target.sql);
  const endpoint = await createEndpoint(target.sql, receiver, path, options);
  const write = () => target.sql`insert into work_orders (product_code) values ('A-1')`;
  const sessions = async () =>
    (
      await admin`select count(*)::int as n from pg_stat_activity
        where datname = ${target.name} and application_name like 'collecta-webhooks%'`
    )[0]!.n as number;
  const released = () => until('no session is open', async () => (await sessions()) === 0, 20_000, 50);
  return { ...target, endpoint, write, sessions, released };
}

const received = (path: string, count: number) =>
  until(`${path} has ${count}`, () => receiver.to(path).length >= count, 30_000);

for (const runtime of runtimes)
  t.test(`${runtime}: a resting runner has no session, and POST /wake with the token wakes it`, async t => {
    const path = `/wake-${runtime}`;
    const target = await prepared(path);
    const port = await freePort();
    const runner = await startRunner(target.url, {
      runtime,
      env: {
        COLLECTA_IDLE: 'release',
        COLLECTA_IDLE_AFTER_MS: '300',
        COLLECTA_WAKE_TOKEN: token,
        COLLECTA_OPERATIONS_PORT: `${port}`,
      },
    });
    t.match(await runner.logged('resting: nothing is due and all sessions are closed'), { at_most_ms: 12 * 3_600_000 });
    await target.released();
    const ask = (target: string, options = {}) => fetch(`http://127.0.0.1:${port}${target}`, options);
    const wake = (authorization?: string) =>
      ask('/wake', { method: 'POST', ...(authorization && { headers: { authorization } }) });

    t.match(await (await ask('/readyz')).text(), /^ok\nresting/);
    const metrics = await ask('/metrics');
    t.equal(metrics.status, 200);
    t.notMatch(await metrics.text(), /collecta_outbox_rows/, 'the database is not asked');
    await target.write();
    for (const wrong of [undefined, 'Bearer wrong', `Basic ${token}`, 'Bearer '])
      t.equal((await wake(wrong)).status, 401);
    t.equal((await ask('/wake')).status, 405);
    await pause(500);
    t.equal(await target.sessions(), 0, 'none of these woke it');
    t.equal(receiver.to(path).length, 0);

    t.equal((await wake(`Bearer ${token}`)).status, 204);
    await received(path, 1);
    await runner.logged('resting: nothing is due and all sessions are closed', 1);
    await target.released();
    t.equal((await runner.stop()).status, 0, 'a stop while it rests');
  });

t.test('a resting runner wakes when the next retry is due', async t => {
  const target = await prepared('/retry', { answers: [500, 200], retry_base: '4 s' });
  await target.write();
  const runner = await startRunner(target.url, { env: { COLLECTA_IDLE: 'release', COLLECTA_IDLE_AFTER_MS: '200' } });
  const { at_most_ms } = await runner.logged('resting: nothing is due and all sessions are closed');
  t.ok((at_most_ms as number) <= 4_000, `rests for ${at_most_ms} ms`);
  t.equal(receiver.to('/retry').length, 1);
  await target.released();
  await received('/retry', 2);
  await runner.logged('resting: nothing is due and all sessions are closed', 1);
  const [attempt] = await target.sql`select outcome from collecta.webhook_deliveries order by id desc limit 1`;
  t.equal(attempt!.outcome, 'delivered', 'it is recorded before the sessions are closed');
  await runner.stop();
});

t.test('an inbound request during the rest is answered, and its change is delivered', async t => {
  const target = await prepared('/through');
  const [inbound] = await target.sql`
    select path from collecta.create_inbound_endpoint('work-orders', '{"$.code": "product_code"}')`;
  const port = await freePort();
  const runner = await startRunner(target.url, {
    command: 'run',
    env: { COLLECTA_IDLE: 'release', COLLECTA_IDLE_AFTER_MS: '300', COLLECTA_PORT: `${port}` },
  });
  await runner.logged('resting: nothing is due and all sessions are closed');
  await target.released();
  const answer = await fetch(`http://127.0.0.1:${port}${inbound!.path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"code": "B-2"}',
  });
  t.equal(answer.status, 202);
  await received('/through', 1);
  await target.released();
  t.equal((await runner.stop()).status, 0);
});

t.test('a resting runner checks the database after the longest rest, even if nobody woke it', async t => {
  const target = await prepared('/interval');
  const config = readConfig({
    DATABASE_URL: target.url,
    COLLECTA_IDLE: 'release',
    COLLECTA_IDLE_AFTER_MS: '100',
    COLLECTA_ALLOW_HTTP: 'true',
    COLLECTA_ALLOW_DESTINATIONS: '127.0.0.0/8',
  });
  const stop = new AbortController();
  const events: string[] = [];
  const log = createLog('info', line => events.push(JSON.parse(line).event));
  const rest = createRest(2_000);
  const running = dispatch(config, log, stop.signal, undefined, rest);
  await until('it rests', () => rest.resting);
  await target.write();
  await received('/interval', 1);
  t.ok(events.includes('the rest is over'));
  // If work is noted between the last check and the rest, the rest does not begin.
  await until('it rests again', () => rest.resting);
  stop.abort();
  await running;
  rest.look();
  rest.noteWork();
  await rest.during(60_000, new AbortController().signal);
  t.notOk(rest.resting, 'no rest of a minute');
});

t.test('next_due_in_ms considers held, paused, waiting and leased deliveries', async t => {
  const { sql, write, endpoint } = await prepared('/due');
  const due = async () => (await sql`select collecta.next_due_in_ms()::float8 as ms`)[0]!.ms as number | null;
  t.equal(await due(), null, 'nothing is queued');
  await write();
  t.equal(await due(), 0, 'a change that is not routed');
  await sql`select collecta.claim_deliveries(0)`;
  await sql`select collecta.claim_deliveries(10)`;
  t.equal(await due(), 0, 'another runner has it');
  await sql`update collecta.delivery_queue set leased_until = null, due_at = now() + interval '1 hour'`;
  t.ok(Math.abs((await due())! - 3_600_000) < 60_000);
  await sql`insert into collecta.endpoint_flow (endpoint_id, held_until)
    values (${endpoint.id}, now() + interval '2 hours')
    on conflict on constraint endpoint_flow_pkey do update set held_until = excluded.held_until`;
  t.ok(Math.abs((await due())! - 7_200_000) < 60_000, 'Retry-After');
  await sql`select collecta.pause_endpoint(${endpoint.id})`;
  t.equal(await due(), null, 'paused');
});
