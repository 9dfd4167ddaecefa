import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { useServer } from '../support/database.ts';
import { createEndpoint, type Runner, startReceiver, startRunner, until } from '../support/runner.ts';

// By default there are a few kills; a release runs with TEST_KILLS=20.
const kills = Number(process.env.TEST_KILLS ?? 3);
const longestMs = 10_000;

const { database } = await useServer();
const receiver = await startReceiver();

t.test(`no endpoint stands still for 10 seconds when one of two runners is killed ${kills} times`, async t => {
  const { sql, url } = await database();
  await sql`create table t (id int primary key, n int not null default 0)`;
  await sql`insert into t values (1)`;
  await sql`select collecta.attach_module('t', 't')`;
  const events = ['record_updated'];
  const endpoints = {
    plain: await createEndpoint(sql, receiver, '/plain', { events }),
    // All events are of one record, so its next change waits for the one that the killed runner was sending.
    ordered: await createEndpoint(sql, receiver, '/ordered', { events, ordered: true, answers: [{ delayMs: 20 }] }),
    // As many requests as allowed are in flight all the time.
    saturated: await createEndpoint(sql, receiver, '/saturated', {
      events,
      max_in_flight: 2,
      answers: [{ delayMs: 90 }],
    }),
  };
  let next = 0;
  const start = async (): Promise<Runner> => {
    const runner = await startRunner(`${url}?application_name=runner_${++next}`);
    await runner.logged('lifeline held');
    return runner;
  };
  const runners = [await start(), await start()];
  let writing = true;
  const writer = (async () => {
    while (writing) {
      await sql`update t set n = n + 1 where id = 1`;
      await pause(40);
    }
  })();
  const begun = Date.now();
  for (let kill = 0; kill < kills; kill++) {
    await pause(1_500 + Math.random() * 1_000);
    const [victim] = runners.splice(kill % 2, 1);
    victim!.kill('SIGKILL');
    const killed = Date.now();
    await victim!.ended;
    // This is longer than the other runner may need, so that the new runner does not help it.
    for (const { path } of Object.values(endpoints))
      await until(`${path} goes on`, () => receiver.to(path).some(({ at }) => at > killed + 1_000), 60_000, 50);
    await pause(500);
    runners.push(await start());
  }
  writing = false;
  await writer;
  const ended = Date.now();
  for (const [name, { path }] of Object.entries(endpoints)) {
    const times = [begun, ...receiver.to(path).map(({ at }) => at), ended].filter(at => at >= begun && at <= ended);
    const gaps = times.toSorted((a, b) => a - b).map((at, i, all) => at - (all[i - 1] ?? at));
    const longest = Math.max(...gaps);
    t.comment(
      `${name}: longest standstill ${longest} ms in ${Math.round((ended - begun) / 1000)} s with ${kills} kills`,
    );
    t.ok(longest < longestMs, `${name}: ${longest} ms`);
  }
  // The backlog at the slow receivers is delivered faster from here on.
  for (const { path } of Object.values(endpoints)) await receiver.script(path, [200]);
  await until(
    'everything is delivered',
    async () =>
      (await sql`select from collecta.outbox limit 1`).length +
        (await sql`select from collecta.delivery_queue limit 1`).length ===
      0,
    60_000 + kills * 20_000,
    50,
  );
  const [updates] = await sql`select n from t`;
  const history = await sql`
    select endpoint_id, count(*) filter (where outcome = 'delivered')::int as delivered,
      count(*) filter (where outcome = 'exhausted')::int as exhausted
    from collecta.webhook_deliveries group by endpoint_id`;
  for (const [name, { id }] of Object.entries(endpoints))
    t.match(
      history.find(row => row.endpoint_id === id),
      { delivered: updates!.n, exhausted: 0 },
      `${name}: each event was delivered, and recorded once`,
    );
  for (const runner of runners) t.equal((await runner.stop()).status, 0);
});
