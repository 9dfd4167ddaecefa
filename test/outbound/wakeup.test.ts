import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { createLog } from '../../src/log.ts';
import { createWakeup } from '../../src/outbound/wakeup.ts';
import { freePort, type Sql, useServer } from '../support/database.ts';
import { createEndpoint, type LogLine, startReceiver, startRunner, until } from '../support/runner.ts';

const { connect, database } = await useServer();
const receiver = await startReceiver();
const wakeLock = [1668246636, 1] as const;

/** A database with a table t and an endpoint that receives its changes. */
async function prepared(path: string, options: Record<string, unknown> = {}) {
  const { sql, url } = await database();
  await sql`create table t (id int generated always as identity primary key, n int not null default 0)`;
  await sql`select collecta.attach_module('t', 't')`;
  const endpoint = await createEndpoint(sql, receiver, path, { events: ['record_created'], ...options });
  return { sql, url, endpoint };
}

/** A separate session for a writer. */
const session = (url: string): Sql => connect(url, { max: 1 });

/** Every session that listens for the notifications of writers hears these notifications too. */
async function countNotifications(url: string) {
  const counted = { number: 0 };
  await connect(url).listen('collecta_wake', () => void counted.number++);
  return counted;
}

const holders = (sql: Sql) => sql<{ pid: number; mode: string }[]>`
  select pid, mode from pg_locks
  where locktype = 'advisory' and classid = ${wakeLock[0]} and objid = ${wakeLock[1]} and granted
    and database = (select oid from pg_database where datname = current_database())`;
const heldExclusively = async (sql: Sql) => (await holders(sql)).find(({ mode }) => mode === 'ExclusiveLock')?.pid;

/** The runner's side of the handshake without a runner, and how often it was woken. */
async function wakeupOn(t: Test, url: string) {
  const log: LogLine[] = [];
  const calls = { number: 0 };
  const wakeup = createWakeup(
    url,
    createLog('debug', line => log.push(JSON.parse(line))),
    { onWake: () => void calls.number++ },
  );
  t.teardown(() => wakeup.close());
  return { wakeup, calls, log, logged: (event: string) => until(event, () => log.find(line => line.event === event)) };
}

const percentile = (values: number[], p: number) =>
  values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * p)]!;

/** Milliseconds from after the commit of an INSERT to the arrival of its request. */
async function arrival(path: string, change: () => Promise<unknown>): Promise<number> {
  const before = receiver.to(path).length;
  await change();
  const committed = Date.now();
  const [request] = await until(
    'it arrives',
    () => {
      const requests = receiver.to(path).slice(before);
      return requests.length > 0 && requests;
    },
    20_000,
    1,
  );
  return request!.at - committed;
}

t.test('an idle runner is notified of a single change within milliseconds', async t => {
  const { sql, url, endpoint } = await prepared('/single');
  const runner = await startRunner(url, { env: { COLLECTA_POLL_INTERVAL_MS: '10000' } });
  await runner.logged('listening');
  await until('the runner sleeps', () => heldExclusively(sql));
  const times: number[] = [];
  for (let i = 0; i < 20; i++) {
    times.push(await arrival(endpoint.path, () => sql`insert into t default values`));
    await pause(30);
  }
  t.comment(`commit to arrival: p50 ${percentile(times, 0.5)} ms, all ${times}`);
  t.ok(percentile(times, 0.5) < 50, 'half of the changes arrive at once');
  t.ok(Math.max(...times) < 1_000, 'and none waits for the poll, which is 10 s away');

  const others: [string, () => Promise<unknown>][] = [
    ['send_test_event', () => sql`select collecta.send_test_event(${endpoint.id})`],
    ['replay_delivery', () => sql`select collecta.replay_delivery(id) from collecta.webhook_deliveries limit 1`],
    [
      'resume_endpoint',
      async () => {
        await sql`select collecta.pause_endpoint(${endpoint.id})`;
        await sql`insert into t default values`;
        await until('it is queued', async () => (await sql`select from collecta.delivery_queue`).length > 0);
        await sql`select collecta.resume_endpoint(${endpoint.id})`;
      },
    ],
  ];
  for (const [name, change] of others) {
    await pause(100);
    const ms = await arrival(endpoint.path, change);
    t.ok(ms < 1_000, `${name} wakes it too: ${ms} ms`);
  }
});

t.test('an idle runner runs one statement a second and writes nothing', async t => {
  const { sql, url } = await prepared('/idle');
  const runner = await startRunner(url);
  await runner.logged('listening');
  await until('the runner sleeps', () => heldExclusively(sql));
  await pause(1_500);
  const look = async () => {
    const [row] = await sql`
      select (select sum(xact_commit + xact_rollback)::int from pg_stat_database
        where datname = current_database()) as transactions,
        pg_snapshot_xmax(pg_current_snapshot())::text as next_transaction`;
    return row!;
  };
  // Backends report their statistics when they become idle, at most once a second.
  await sql`select pg_stat_force_next_flush()`.catch(() => {});
  const before = await look();
  await pause(6_000);
  const after = await look();
  const statements = after.transactions - before.transactions;
  t.comment(`${statements} transactions in 6 s, this test's two included`);
  t.ok(statements >= 4, 'it does poll');
  t.ok(statements <= 6 + 4, 'but once a second');
  t.equal(after.next_transaction, before.next_transaction, 'no transaction wrote anything');
});

t.test('a busy runner causes no NOTIFY', async t => {
  const { sql, url, endpoint } = await prepared('/busy');
  const counted = await countNotifications(url);
  const runner = await startRunner(url);
  await runner.logged('listening');
  await until('the runner sleeps', () => heldExclusively(sql));
  await sql`insert into t default values`;
  await until('a sleeping runner’s writer notifies', () => counted.number > 0);

  let stop = false;
  let commits = 0;
  const writers = Promise.all(
    Array.from({ length: 8 }, async () => {
      const own = session(url);
      while (!stop) {
        await own`insert into t select from generate_series(1, 5)`;
        commits++;
      }
      await own.end();
    }),
  );
  await pause(1_500);
  const [notified, committed] = [counted.number, commits];
  await pause(3_000);
  const share = (counted.number - notified) / (commits - committed);
  stop = true;
  await writers;
  t.comment(`${counted.number - notified} notifications, ${commits - committed} commits`);
  t.ok(commits - committed > 100);
  t.ok(share < 0.05, 'almost no writer notifies');
  await until('all have arrived', () => receiver.to(endpoint.path).length === commits * 5 + 1, 40_000);
  await until('it sleeps again', () => heldExclusively(sql));
  const ms = await arrival(endpoint.path, () => sql`insert into t default values`);
  t.ok(ms < 500, `and hears again: ${ms} ms`);
});

t.test('an open writer delays no other change, nor its own after the commit', async t => {
  const { sql, url, endpoint } = await prepared('/open');
  const runner = await startRunner(url, { env: { COLLECTA_POLL_INTERVAL_MS: '10000' } });
  await runner.logged('listening');
  await until('the runner sleeps', () => heldExclusively(sql));
  await sql`insert into t default values`;
  await until('it has arrived', () => receiver.to(endpoint.path).length > 0);
  // The runner is kept busy until it releases the lock, so that the open writer gets it and the runner cannot sleep.
  const open = session(url);
  await until('a writer finds the runner awake', async () => {
    await sql`insert into t select from generate_series(1, 300)`;
    await open`begin`;
    await open`insert into t (n) values (77)`;
    if ((await holders(sql)).some(({ mode }) => mode === 'ShareLock')) return true;
    await open`rollback`;
    return false;
  });
  const rows = async () => Number((await sql`select count(*) from t`)[0]!.count);
  await until('the rest has arrived', async () => receiver.to(endpoint.path).length === (await rows()), 30_000);
  await pause(300);
  t.equal(await heldExclusively(sql), undefined, 'the runner may not sleep');
  const times: number[] = [];
  for (let i = 0; i < 15; i++) {
    times.push(await arrival(endpoint.path, () => sql`insert into t default values`));
    await pause(100);
  }
  t.comment(`commit to arrival beside an open writer: p50 ${percentile(times, 0.5)} ms, all ${times}`);
  t.ok(percentile(times, 0.5) <= 100, 'within 100 ms');
  t.ok(Math.max(...times) < 1_000, 'none waits for the poll');
  const own = await arrival(endpoint.path, () => open`commit`);
  t.ok(own < 500, `its own after the commit: ${own} ms`);
  t.ok(receiver.to(endpoint.path).at(-1)!.body.includes('"n":77'));
});

t.test('no change is missed when a writer commits at any point of the handshake', async t => {
  const { sql, url } = await prepared('/interleaved');
  const counted = await countNotifications(url);
  const { wakeup, calls, logged } = await wakeupOn(t, url);
  t.equal(await wakeup.trySleep(), 'refused', 'no runner sleeps before notifications are known to arrive');
  await logged('listening');
  await until('the full poll after connecting', () => calls.number === 1);
  const writer = session(url);
  const seen = async () => (await sql`select from collecta.outbox`).length;
  let expected = { calls: 1, notified: 0 };
  const heard = async (more: number) => {
    expected = { calls: expected.calls + more, notified: expected.notified + more };
    if (more > 0)
      await until(
        'the notification is heard',
        () => calls.number >= expected.calls && counted.number >= expected.notified,
      );
    else await pause(100);
    t.strictSame(
      { calls: calls.number, notified: counted.number },
      expected,
      more > 0 ? 'the writer notifies' : 'the writer does not notify',
    );
  };

  t.comment('before the runner tries: the writer thinks it awake');
  await writer`begin`;
  await writer`insert into t default values`;
  t.equal(await wakeup.trySleep(), 'refused', 'an open writer saw the runner awake');
  await writer`commit`;
  await heard(0);
  t.equal(await seen(), 1, 'it is there for the next claim');

  t.comment('between the refusal and the grant');
  await writer`insert into t default values`;
  await heard(0);
  t.equal(await wakeup.trySleep(), 'held');
  t.equal(await seen(), 2, 'what came before the grant is seen by the claim after it');

  t.comment('between the grant and the last claim, and asleep');
  await writer`insert into t default values`;
  await heard(1);
  await writer`begin`;
  await writer`insert into t default values`;
  await writer`savepoint s`;
  await writer`insert into t default values`;
  await writer`rollback to s`;
  await writer`commit`;
  await heard(1);
  t.equal(await wakeup.trySleep(), 'held', 'trying again changes nothing');

  t.comment('letting go against a writer that has tried before');
  await writer`begin`;
  await writer`insert into t default values`;
  await wakeup.letGo();
  t.equal(wakeup.holds, false);
  t.equal(await heldExclusively(sql), undefined);
  await until('others that slept because of it are told', () => counted.number === expected.notified + 1);
  expected = { calls: calls.number, notified: counted.number };
  await writer`commit`;
  await heard(1);

  t.comment('a writer that tries twice in one transaction, the runner falling asleep in between');
  await writer`begin`;
  await writer`savepoint s`;
  await writer`insert into t default values`;
  t.equal(await wakeup.trySleep(), 'refused');
  await writer`rollback to s`;
  t.equal(await wakeup.trySleep(), 'held', 'ROLLBACK TO takes the writer’s lock back with its change');
  await writer`insert into t default values`;
  await writer`commit`;
  await heard(1);

  t.comment('a writer that rolls back');
  await writer`begin`;
  await writer`insert into t default values`;
  await writer`rollback`;
  await heard(0);
});

t.test('no change is missed in many short sleeps against many writers', async t => {
  const { sql, url } = await prepared('/race');
  const { wakeup, calls, logged } = await wakeupOn(t, url);
  await logged('listening');
  let stop = false;
  const writers = Promise.all(
    Array.from({ length: 3 }, async () => {
      const own = session(url);
      while (!stop) {
        await own`insert into t default values`;
        await pause(Math.random() * 8);
      }
      await own.end();
    }),
  );
  // A minimal runner: it sleeps only if the lock was granted and its check afterwards found nothing. A change must then
  // wake it.
  let missed = 0;
  let sleeps = 0;
  const end = performance.now() + 3_000;
  while (performance.now() < end) {
    const take = async () => (await sql`delete from collecta.outbox returning 1`).length;
    if ((await take()) > 0 || (await wakeup.trySleep()) !== 'held') continue;
    const before = calls.number;
    if ((await take()) > 0) {
      await wakeup.letGo();
      continue;
    }
    sleeps++;
    await until('a change is committed', async () => (await sql`select from collecta.outbox limit 1`).length > 0);
    await until('it is called', () => calls.number > before, 500, 1).catch(() => missed++);
    await wakeup.letGo();
  }
  stop = true;
  await writers;
  t.ok(sleeps > 20, `${sleeps} sleeps`);
  t.equal(missed, 0);
});

t.test('one of several idle runners holds the lock; when it is killed another takes over', async t => {
  const { sql, url, endpoint } = await prepared('/replicas');
  const names = ['one', 'two', 'three'];
  const env = { COLLECTA_POLL_INTERVAL_MS: '500' };
  const runners = await Promise.all(names.map(name => startRunner(`${url}?application_name=${name}`, { env })));
  for (const runner of runners) await runner.logged('listening');
  await until('one sleeps holding the lock', () => heldExclusively(sql));
  await pause(600);
  t.equal((await holders(sql)).length, 1, 'one only');
  const ms = await arrival(endpoint.path, () => sql`insert into t default values`);
  t.ok(ms < 400, `a change is heard: ${ms} ms`);
  await pause(100);
  t.equal(receiver.to(endpoint.path).length, 1, 'and sent once');
  for (let gone = 0; gone < 2; gone++) {
    const before = await until('one holds it', () => heldExclusively(sql));
    const [session] =
      await sql`select split_part(application_name, ' ', 1) as name from pg_stat_activity where pid = ${before}`;
    const holder = runners.splice(names.indexOf(session!.name), 1)[0]!;
    names.splice(names.indexOf(session!.name), 1);
    holder.kill('SIGKILL');
    await holder.ended;
    await until('another holds it', async () => {
      const pid = await heldExclusively(sql);
      return pid && pid !== before;
    });
    const again = await arrival(endpoint.path, () => sql`insert into t default values`);
    t.ok(again < 600, `and hears: ${again} ms`);
  }
});

t.test('the lock session and the listening session return after they are terminated', async t => {
  const { sql, url, endpoint } = await prepared('/terminated');
  const runner = await startRunner(url, { env: { COLLECTA_POLL_INTERVAL_MS: '300' } });
  await runner.logged('listening');
  const holder = await until('the runner sleeps', () => heldExclusively(sql));
  await sql`select pg_terminate_backend(${holder})`;
  await until('it sleeps anew', async () => {
    const pid = await heldExclusively(sql);
    return pid && pid !== holder;
  });
  t.ok((await arrival(endpoint.path, () => sql`insert into t default values`)) < 1_000);
  await sql`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'collecta-webhooks listen'`;
  t.ok(
    (await arrival(endpoint.path, () => sql`insert into t default values`)) < 2_000,
    'polling finds the change meanwhile',
  );
  await runner.logged('listening', 1);
  await until('the runner sleeps', () => heldExclusively(sql));
  await sql`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()`;
  await runner.logged('listening', 2);
  await until('the runner sleeps', () => heldExclusively(sql));
  const ms = await arrival(endpoint.path, () => sql`insert into t default values`);
  t.ok(ms < 1_000, `${ms} ms`);
  t.equal((await runner.stop()).status, 0);
});

t.test('polling finds changes when no notification arrives', async t => {
  const { sql, url, endpoint } = await prepared('/deaf');
  const elsewhere = await database();
  // It listens in another database: it connects and hears only its own notifications. What a pooler does is tested
  // below.
  const deaf = await startRunner(url, {
    env: { COLLECTA_LISTEN_URL: elsewhere.url, COLLECTA_POLL_INTERVAL_MS: '200' },
  });
  await deaf.logged('listening');
  for (let i = 0; i < 3; i++)
    t.ok((await arrival(endpoint.path, () => sql`insert into t default values`)) < 1_500, 'within the poll interval');
  t.equal(await heldExclusively(sql), undefined, 'no writer is slower because of it');
  t.equal((await deaf.stop()).status, 0);

  const operationsPort = await freePort();
  const refused = await startRunner(url, {
    env: {
      COLLECTA_LISTEN_URL: `postgres://postgres@127.0.0.1:${await freePort()}/nowhere`,
      COLLECTA_POLL_INTERVAL_MS: '200',
      COLLECTA_OPERATIONS_PORT: String(operationsPort),
    },
  });
  t.match(await refused.logged('cannot listen yet, polling'), { level: 'warn', message: /ECONNREFUSED/ });
  t.ok(
    (await arrival(endpoint.path, () => sql`insert into t default values`)) < 1_500,
    'an unreachable COLLECTA_LISTEN_URL stops nothing',
  );
  const operations = async (path: string) => (await fetch(`http://127.0.0.1:${operationsPort}${path}`)).text();
  t.match(await operations('/readyz'), /^ok\nno notification comes through: polling$/m, 'its health says so');
  t.match(await operations('/metrics'), /^collecta_listening 0$/m, 'and its metrics');
  const { status, ms } = await refused.stop();
  t.equal(status, 0);
  t.ok(ms < 5_000, `${ms} ms`);
});

t.test('with notify off nobody notifies, and polling finds changes', async t => {
  const { sql, url, endpoint } = await prepared('/off');
  await sql`update collecta.settings set notify = false`;
  await sql`select collecta.attach_module('t', 't')`;
  const counted = await countNotifications(url);
  const runner = await startRunner(url, { env: { COLLECTA_POLL_INTERVAL_MS: '300' } });
  await runner.logged('listening');
  await until('the runner sleeps', () => heldExclusively(sql));
  for (let i = 0; i < 3; i++) t.ok((await arrival(endpoint.path, () => sql`insert into t default values`)) < 1_500);
  t.equal(counted.number, 0);
  const own = session(url);
  await own`set collecta.notify = 'off'`;
  await sql`update collecta.settings set notify = null`;
  await sql`select collecta.attach_module('t', 't')`;
  await own`insert into t default values`;
  await pause(100);
  t.equal(counted.number, 0, 'nor does a session that turned it off');
  await until('it has arrived', () => receiver.to(endpoint.path).length === 4);
  await until('the runner sleeps', () => heldExclusively(sql));
  await sql`insert into t default values`;
  await until('others do', () => counted.number === 1);
});
