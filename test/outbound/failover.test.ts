import { setTimeout as pause } from 'node:timers/promises';
import postgres from 'postgres';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { type Sql, startServer } from '../support/database.ts';
import { startProxy } from '../support/proxy.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';
import { startStandby } from '../support/standby.ts';

const receiver = await startReceiver();

/** A primary with collecta and a table t, and its standby. */
async function pair(path: string) {
  const primary = await startServer();
  t.teardown(() => primary.stop());
  await migrate(primary.url());
  const sql = postgres(primary.url(), { onnotice: () => {}, max: 2 }) as unknown as Sql;
  t.teardown(() => sql.end({ timeout: 1 }));
  await sql`create table t (id int generated always as identity primary key)`;
  await sql`select collecta.attach_module('t', 't')`;
  await createEndpoint(sql, receiver, path, { events: ['record_created'] });
  const standby = await startStandby(t, primary.url());
  await standby.catchUp(sql as unknown as postgres.Sql);
  return { primary, sql, standby };
}

/** The slowest of a few latencies from commit to arrival, in milliseconds. */
async function latency(sql: Sql, path: string): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 5; i++) {
    const before = receiver.to(path).length;
    await pause(300);
    await sql`insert into t default values`;
    const committed = Date.now();
    await until('it arrives', () => receiver.to(path).length > before, 20_000, 1);
    times.push(receiver.to(path).at(-1)!.at - committed);
  }
  return Math.max(...times);
}

t.test('a runner whose address leads to a standby starts to listen when it is promoted', async t => {
  const { primary, sql, standby } = await pair('/address');
  const proxy = await startProxy(t, primary.port);
  const runner = await startRunner(proxy.through(primary.url()), { env: { COLLECTA_POLL_INTERVAL_MS: '5000' } });
  await runner.logged('listening');
  const before = await latency(sql, '/address');
  await standby.catchUp(sql as unknown as postgres.Sql);
  proxy.lead(standby.port);
  await primary.stop();
  const refused = await until('LISTEN is refused', () =>
    runner.log.find(({ event, message }) => /listen/.test(event) && /during recovery/.test(String(message))),
  );
  t.equal(refused.level, 'warn');
  await pause(1_000);
  await standby.promote();
  await runner.logged('listening', 1);
  const promoted = postgres(standby.url('postgres'), { onnotice: () => {}, max: 2 }) as unknown as Sql;
  t.teardown(() => promoted.end({ timeout: 1 }));
  const after = await latency(promoted, '/address');
  t.comment(`slowest of five: ${before} ms before, ${after} ms after`);
  t.ok(after < 1_000, `${after} ms, and not the poll interval of 5 s`);
  t.equal((await runner.stop()).status, 0);
});

t.test('migrate, doctor and the runner recognize a standby, and the runner waits', async t => {
  const { standby } = await pair('/standby');
  const url = standby.url('postgres');
  for (const command of ['migrate', 'doctor']) {
    const runner = await startRunner(url, { command });
    t.equal((await runner.ended).status, 1, command);
    t.match(runner.output(), /the server is read-only: a standby/, command);
    t.notMatch(runner.output(), /^ +at /m, 'no stack trace');
  }
  const runner = await startRunner(url);
  t.match((await runner.logged('waiting for the database')).reason, /^the server is read-only: a standby/);
  await standby.promote();
  await runner.logged('listening');
  t.equal((await runner.stop()).status, 0);
});

t.test('with several hosts, both drivers of a runner follow the primary', async t => {
  const { primary, sql, standby } = await pair('/hosts');
  const hosts = `127.0.0.1:${primary.port},127.0.0.1:${standby.port}`;
  const url = `postgres://postgres:postgres@${hosts}/postgres?target_session_attrs=read-write`;
  const runner = await startRunner(url, { env: { COLLECTA_POLL_INTERVAL_MS: '5000' } });
  await runner.logged('listening');
  t.ok((await latency(sql, '/hosts')) < 1_000);
  await standby.catchUp(sql as unknown as postgres.Sql);
  await primary.stop();
  await standby.promote();
  await runner.logged('listening', 1);
  const promoted = postgres(standby.url('postgres'), { onnotice: () => {}, max: 2 }) as unknown as Sql;
  t.teardown(() => promoted.end({ timeout: 1 }));
  const after = await latency(promoted, '/hosts');
  t.ok(after < 1_000, `${after} ms`);
  t.equal((await runner.stop()).status, 0);
});
