import type { ChildProcess } from 'node:child_process';
import { runMigrations } from 'graphile-worker';
import PgBoss from 'pg-boss';
import {
  cpuSeconds,
  insertMany,
  pause,
  progress,
  type Receiver,
  type Sql,
  save,
  startBenchServer,
  startReceiver,
  startRunner,
  startScript,
  stop,
  Table,
  table,
  until,
} from './support.ts';

/** What ideal.ts works on. */
export const idealSchema = `
  create table ideal_queue (id bigint generated always as identity primary key, due_at timestamptz not null default now(), leased_until timestamptz, attempt int not null default 0, body text not null) with (fillfactor = 45);
  create index on ideal_queue (due_at, id);
  create table ideal_history (id bigint, status int, ms real, at timestamptz default now());
  create table ideal_outbox (id bigint generated always as identity primary key, body text not null);
  create table ideal_events (id bigint primary key, body text not null);`;

const body = (n: number) =>
  `jsonb_build_object('event', 'record_created', 'record', jsonb_build_object('id', ${n}, 'product_code', 'A-4711', 'quantity', 12, 'work_center', 'assembly', 'status', 'open', 'custom_data', '{"lot": 7, "tags": ["x", "y"]}'::jsonb, 'note', 'a note of some length, as people write them', 'price', 99.95, 'created_at', now(), 'updated_at', now()))`;

/** The tables of a job queue, and for pg-boss a queue. */
export async function installPeer(peer: string, url: string): Promise<void> {
  if (peer !== 'pg-boss') return runMigrations({ connectionString: url });
  const boss = new PgBoss({ connectionString: url });
  await boss.start();
  await boss.createQueue('post');
  await boss.stop({ graceful: false });
}

/** Makes the product's deliveries: as captured changes, or routed already. */
export async function fill(sql: Sql, jobs: number, routed: boolean): Promise<void> {
  await sql.unsafe(insertMany('work_orders', jobs));
  if (routed)
    for (;;) {
      const [row] = await sql`select routed from collecta.route_changes(250)`;
      if (row?.routed === 0) break;
    }
  await sql`vacuum analyze`;
}

export async function prepare(sql: Sql, target: string, endpoints = 1): Promise<void> {
  await sql.unsafe(table('work_orders'));
  await sql`select collecta.attach_module('work_orders', 'work-orders', status_column => 'status')`;
  for (let i = 0; i < endpoints; i++)
    await sql`select collecta.create_endpoint(${target}, '{record_created,record_updated,record_deleted,status_change}', max_in_flight => 1000)`;
}

/** From the first receipt to the last, and what the database did meanwhile. */
export async function measure(sql: Sql, receiver: Receiver, jobs: number, start: () => ChildProcess) {
  await receiver.reset();
  const database = async () => {
    const [row] =
      await sql`select pg_current_wal_insert_lsn() - '0/0' as wal, (select xact_commit from pg_stat_database where datname = current_database()) as transactions`;
    return { wal: Number(row?.wal), transactions: Number(row?.transactions) };
  };
  await sql`checkpoint`;
  await pause(1100); // the statistics of the connections above
  const before = await database();
  const child = start();
  await until('the drain', async () => (await receiver.count()).count >= jobs, 180_000, 100);
  const { first, last } = await receiver.count();
  await pause(1100);
  const cpu = cpuSeconds(child.pid as number);
  const after = await database();
  await stop(child, 'SIGKILL');
  return {
    rate: jobs / ((last - first) / 1000),
    cpu: (cpu / jobs) * 1e6,
    wal: (after.wal - before.wal) / jobs,
    transactions: ((after.transactions - before.transactions) / jobs) * 100,
  };
}

export async function drain({ jobs = 20_000, repetitions = 3, concurrency = '50', only = '' } = {}): Promise<void> {
  const server = await startBenchServer();
  const receiver = await startReceiver();
  const rate = new Table(`Drain of ${jobs} due deliveries, ${concurrency} at once`, 'deliveries/s', 'ideal loop');
  const cpu = new Table('Runner CPU', 'µs a delivery', 'ideal loop');
  const wal = new Table('WAL while draining', 'bytes a delivery', 'ideal loop');
  const transactions = new Table('Transactions', 'per 100 deliveries', 'ideal loop');
  const contenders: Record<string, () => Promise<void>> = {};
  const note = (name: string, result: Awaited<ReturnType<typeof measure>>) => {
    rate.add(name, result.rate);
    cpu.add(name, result.cpu);
    wal.add(name, result.wal);
    transactions.add(name, result.transactions);
    progress(`${name}: ${Math.round(result.rate)}/s`);
  };
  contenders['ideal loop'] = async () => {
    const { url, sql } = await server.database(false);
    await sql.unsafe(idealSchema);
    await sql.unsafe(`insert into ideal_queue (body) select (${body(1)})::text from generate_series(1, ${jobs})`);
    await sql`vacuum analyze`;
    note(
      'ideal loop',
      await measure(sql, receiver, jobs, () => startScript('ideal.ts', url, receiver.url, concurrency)),
    );
    await sql.end();
  };
  for (const runtime of ['node', 'deno'] as const)
    contenders[`collecta, ${runtime}`] = async () => {
      const { url, sql } = await server.database();
      await prepare(sql, receiver.url);
      await fill(sql, jobs, true);
      note(
        `collecta, ${runtime}`,
        await measure(sql, receiver, jobs, () => startRunner(runtime, url, { COLLECTA_CONCURRENCY: concurrency })),
      );
      await sql.end();
    };
  contenders['collecta, node, routing too'] = async () => {
    const { url, sql } = await server.database();
    await prepare(sql, receiver.url);
    await fill(sql, jobs, false);
    note(
      'collecta, node, routing too',
      await measure(sql, receiver, jobs, () => startRunner('node', url, { COLLECTA_CONCURRENCY: concurrency })),
    );
    await sql.end();
  };
  const jobsOf: Record<string, string> = {
    'graphile-worker': `select graphile_worker.add_jobs(array_agg(('post', (${body(1)})::json, null, now(), 25, null, 0, null)::graphile_worker.job_spec)) from generate_series(1, ${jobs})`,
    'pg-boss': `insert into pgboss.job (name, data) select 'post', ${body(1)} from generate_series(1, ${jobs})`,
  };
  for (const peer of ['graphile-worker', 'graphile-worker as installed', 'pg-boss'])
    contenders[peer] = async () => {
      const { url, sql } = await server.database(false);
      await installPeer(peer, url);
      await sql.unsafe(jobsOf[peer] ?? jobsOf['graphile-worker']!);
      await sql`vacuum analyze`;
      note(
        peer,
        await measure(sql, receiver, jobs, () => startScript('peers.ts', peer, url, receiver.url, concurrency)),
      );
      await sql.end();
    };
  for (let i = 0; i < repetitions; i++)
    for (const [name, run] of Object.entries(contenders))
      if (!only || name === 'ideal loop' || name.includes(only)) await run();
  receiver.stop();
  await server.stop();
  save('drain', [rate, cpu, wal, transactions]);
}
