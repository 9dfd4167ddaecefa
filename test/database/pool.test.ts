import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { openPool, type PoolOptions } from '../../src/database/pool.ts';
import { useServer } from '../support/database.ts';
import { until } from '../support/runner.ts';

const { database } = await useServer();

async function prepared(options: PoolOptions = {}) {
  const { sql, url } = await database('empty');
  const pool = openPool(url, options);
  t.teardown(() => pool.end({ timeout: 1 }));
  return { sql, url, pool };
}

/** The query's rows, or the code or message of its error. */
const outcome = (query: Promise<unknown>) =>
  query.then(
    rows => rows,
    ({ code, message }) => code ?? message,
  );

t.test('every query settles while all sessions are terminated repeatedly, and the pool recovers', async t => {
  // Without our pool, the driver left 6 of 40,000 queries unanswered here, and their connections were unusable.
  const { sql, pool } = await prepared({ max: 4, patienceMs: 3_000, connect_timeout: 30 });
  const until = performance.now() + 4_000;
  let slowest = 0;
  let answered = 0;
  const failures = new Map<string, number>();
  const worker = async () => {
    while (performance.now() < until) {
      const started = performance.now();
      const result = await outcome(pool`select ${['x', 'y']}::text[] as b`);
      slowest = Math.max(slowest, performance.now() - started);
      if (Array.isArray(result)) answered++;
      else failures.set(String(result), (failures.get(String(result)) ?? 0) + 1);
    }
  };
  const ends = (async () => {
    while (performance.now() < until) {
      await pause(Math.random() * 100);
      await sql`select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and application_name = 'collecta-webhooks'`;
    }
  })();
  await Promise.all([ends, ...Array.from({ length: 6 }, worker)]);
  t.comment(`${answered} answered, slowest ${Math.round(slowest)} ms, failures ${JSON.stringify([...failures])}`);
  t.ok(answered > 100);
  t.ok(slowest < 8_500, 'within the time limit and the time to cancel a statement');
  // Queries on sessions that were terminated while they were opened may still fail, so only the second round must
  // succeed.
  await Promise.all(Array.from({ length: 8 }, () => outcome(pool`select pg_sleep(0.1)`)));
  const all = await Promise.all(
    Array.from({ length: 8 }, () => outcome(pool`select pg_sleep(0.1) is not null as slept`)),
  );
  t.ok(
    all.every(rows => Array.isArray(rows) && rows[0].slept === true),
    'every connection works',
  );
});

t.test('a query that takes too long is cancelled, also in a pool of one connection', async t => {
  const { sql, pool } = await prepared({ max: 1, patienceMs: 300 });
  t.equal(await outcome(pool`select pg_sleep(60)`), '57014');
  t.match(await outcome(pool.within(10_000)`select pg_sleep(0.5), 1 as n`), [{ n: 1 }], 'with more patience it is not');
  const running = await sql`select from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active'
    and pid <> pg_backend_pid()`;
  t.equal(running.length, 0, 'nothing runs on');
});

t.test('a session that does not answer is abandoned, and the next query gets another one', async t => {
  let closes = 0;
  const { pool } = await prepared({ max: 1, patienceMs: 200, onclose: () => closes++ });
  const [row] = await pool`select pg_backend_pid() as pid`;
  process.kill(row!.pid, 'SIGSTOP');
  const goOn = () => {
    try {
      process.kill(row!.pid, 'SIGCONT');
    } catch {} // the process has ended
  };
  t.teardown(goOn);
  t.equal(await outcome(pool`select 1`), 'the database did not answer');
  t.equal(closes, 1, 'its owner is told that the session, and its locks, are gone');
  t.match(await outcome(pool`select 2 as n`), [{ n: 2 }]);
  goOn();
});

t.test('after an error anywhere within a result, the next result is complete', async t => {
  // Without our pool, the driver returns the rows of the next query at shifted indexes: length 22, the first undefined.
  const { sql, pool } = await prepared({ max: 1, patienceMs: 10_000 });
  await sql`create table waits (id int)`;
  await sql.unsafe(`
    create function wait_a_while() returns trigger language plpgsql as $$
      begin perform pg_sleep(30); return null; end $$;
    create constraint trigger late after insert on waits deferrable initially deferred
      for each row execute function wait_a_while();
    create function rows_then_wait(n int) returns setof int language plpgsql as $$
    begin return query select generate_series(1, n); perform pg_sleep(30); end $$;`);
  const points: [name: string, query: () => Promise<unknown>][] = [
    ['before the first row', () => pool`select pg_sleep(30), g from generate_series(1, 9) g`],
    ...Array.from({ length: 8 }, (_, i): [string, () => Promise<unknown>] => [
      `after ${i + 1} rows`,
      () => pool`select g, case when g > ${i + 1} then pg_sleep(30) end from generate_series(1, 9) g`,
    ]),
    [
      'after many rows',
      () => pool`select repeat('x', 1000), case when g > 5000 then pg_sleep(30) end from generate_series(1, 5001) g`,
    ],
    ['in a function that has rows', () => pool`select * from public.rows_then_wait(1000)`],
    ['while it commits', () => pool`insert into public.waits values (1) returning id`],
  ];
  const whole = Array.from({ length: 30 }, (_, i) => ({ g: i + 1, text: `row ${i + 1}` }));
  const next = () => pool`select g, 'row ' || g as text from generate_series(1, 30) g`;
  const running = async (pid: number) =>
    (await sql`select from pg_stat_activity where pid = ${pid} and wait_event = 'PgSleep'`).length > 0;
  for (const [name, query] of points) {
    const [session] = await pool`select pg_backend_pid() as pid`;
    const result = outcome(query());
    await until(`${name}: it sleeps`, () => running(session!.pid), 5_000, 5);
    await sql`select pg_cancel_backend(${session!.pid}::int)`;
    t.equal(await result, '57014', `cancelled ${name}`);
    t.strictSame([...(await next())], whole, `after a cancel ${name}`);
  }
  for (const index of [1, 2, 5, 30]) {
    t.equal(await outcome(pool`select 1 / (g - ${index}) from generate_series(1, 30) g`), '22012');
    t.strictSame([...(await next())], whole, `after an error in row ${index}`);
  }
});

t.test('a session gets no query while it runs one, nor after a cancel', async t => {
  const { pool } = await prepared({ max: 2, patienceMs: 300 });
  const pidOf = async () => Number((await pool`select pg_backend_pid() as pid`)[0]!.pid);
  const before = new Set(await Promise.all(Array.from({ length: 6 }, pidOf)));
  t.ok(before.size <= 2);
  const [late, ...others] = await Promise.all([
    outcome(pool`select pg_sleep(5)`),
    ...Array.from({ length: 20 }, () => outcome(pool`select pg_sleep(0.01), 1 as n`)),
  ]);
  t.equal(late, '57014');
  t.ok(
    others.every(rows => Array.isArray(rows) && rows[0].n === 1),
    'no query waits behind the cancelled one',
  );
  const after = await Promise.all(Array.from({ length: 6 }, pidOf));
  t.ok(
    after.every(pid => !before.has(pid)),
    'all sessions are new ones',
  );
});

t.test('a query whose prepared statement is gone is repeated, whatever its parameters', async t => {
  let told = 0;
  const { pool } = await prepared({ max: 1, onpooler: () => told++ });
  const ask = () => pool`
    select ${['x', null, 'NULL', '{"a\\b'] as unknown as string[]}::text[] as texts, ${[1, 2]}::int[] as numbers,
      ${true}::boolean as yes, ${false}::boolean as no,
      ${'{"a": [1]}'}::jsonb as document, ${'text'}::text as text, pg_backend_pid() as pid`;
  const { pid: _, ...expected } = (await ask())[0]!;
  // Another transaction may get a different session of a pooler, in which nothing is prepared.
  await pool`deallocate all`;
  const { pid, ...again } = (await ask())[0]!;
  t.strictSame(again, expected);
  t.equal(told, 1, 'the owner of the pool is told');
  t.ok((await ask())[0]!.pid !== pid, 'by a session without prepared statements');
  await pool`deallocate all`;
  t.strictSame({ ...(await ask())[0]!, pid: 0 }, { ...expected, pid: 0 });
  t.equal(told, 1);
});

t.test('short timeouts set for the login or the database do not end our sessions', async t => {
  const target = await database('empty');
  const [{ newest }] =
    (await target.sql`select current_setting('server_version_num')::int >= 170000 as newest`) as never as [
      { newest: boolean },
    ];
  const timeouts = ['statement_timeout', 'lock_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout'];
  for (const name of newest ? [...timeouts, 'transaction_timeout'] : timeouts)
    await target.sql.unsafe(`alter database ${target.name} set ${name} = '200ms'`);
  const ended: string[] = [];
  const pool = openPool(target.url, { max: 1, onclose: () => ended.push('a session') });
  const pid = async () => (await pool`select pg_catalog.pg_backend_pid() as pid`)[0]!.pid;
  const first = await pid();
  await pool`select pg_catalog.pg_sleep(0.5)`;
  await new Promise(done => setTimeout(done, 500));
  t.equal(await pid(), first, 'the session lives on');
  t.strictSame(ended, []);
  await pool.end({ timeout: 1 });
});
