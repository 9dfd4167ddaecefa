import type { ChildProcess } from 'node:child_process';
import { runMigrations } from 'graphile-worker';
import PgBoss from 'pg-boss';
import type { TransactionSql } from 'postgres';
import type { Database, Lab } from './lab.ts';
import { type Senders, startScript, until } from './processes.ts';
import { isTrue } from './product.ts';

/** Something that the product is compared with: a hand-written ideal loop, or a job queue that people use. */
export type Rival = {
  name: string;
  install(database: Database): Promise<unknown>;
  /** Starts the process that sends each job to `target` as a signed POST, at most 50 at once. */
  start(url: string, target: string): ChildProcess;
  /** The statement that writes `count` jobs that are due. */
  fill(count: number): string;
  /** The statement whose column `done` is true when no job is left. */
  finished: string;
  /** Writes one job in the transaction of the writer. */
  write(tx: TransactionSql, body: string): PromiseLike<unknown>;
};

/** An SQL expression for a payload similar to the product's. */
const body = `jsonb_build_object('event', 'record_created', 'record', jsonb_build_object('id', g,
  'product_code', 'A-4711', 'quantity', 12, 'work_center', 'assembly', 'status', 'open',
  'custom_data', '{"lot": 7, "tags": ["x", "y"]}'::jsonb, 'note', 'a note of some length, as people write them',
  'price', 99.95, 'created_at', now(), 'updated_at', now()))`;

const idealTables = `
  create table ideal_queue (id bigint generated always as identity primary key,
    due_at timestamptz not null default now(), leased_until timestamptz, attempt int not null default 0,
    body text not null) with (fillfactor = 45);
  create index on ideal_queue (due_at, id);
  create table ideal_history (id bigint, status int, ms real, at timestamptz default now());
  create table ideal_outbox (id bigint generated always as identity primary key, body text not null);
  create table ideal_events (id bigint primary key, body text not null);
  create function announce() returns trigger language plpgsql as $$
    begin perform pg_notify('ideal', ''); return null; end $$;
  create trigger announce after insert on ideal_queue for each statement execute function announce();
  create trigger announce after insert on ideal_outbox for each statement execute function announce();`;

const ideal = (name: string, mode: 'drain' | 'route', table: string): Rival => ({
  name,
  install: ({ sql }) => sql.unsafe(idealTables),
  start: (url, target) => startScript('ideal.ts', url, target, mode),
  fill: count => `insert into ${table} (body) select ${body}::text from generate_series(1, ${count}) g`,
  finished: 'select not exists (select from ideal_outbox) and not exists (select from ideal_queue) as done',
  write: (tx, text) => tx`insert into ${tx(table)} (body) values (${text})`,
});

export const idealLoop = ideal('ideal loop', 'drain', 'ideal_queue');
export const idealLoopThatRoutes = ideal('ideal loop that routes', 'route', 'ideal_outbox');

const graphileWorker = (name: string, script: string): Rival => ({
  name,
  install: ({ url }) => runMigrations({ connectionString: url }),
  start: (url, target) => startScript('peers.ts', script, url, target),
  fill: count => `select graphile_worker.add_jobs(array_agg(
      ('post', (${body})::json, null, now(), 25, null, 0, null)::graphile_worker.job_spec))
    from generate_series(1, ${count}) g`,
  finished: 'select not exists (select from graphile_worker.jobs) as done',
  write: (tx, text) => tx`select from graphile_worker.add_job('post', ${text}::text::json)`,
});

const pgBoss: Rival = {
  name: 'pg-boss, fetch and complete in loops',
  async install({ url }) {
    const boss = new PgBoss({ connectionString: url });
    await boss.start();
    await boss.createQueue('post');
    await boss.stop({ graceful: false });
  },
  start: (url, target) => startScript('peers.ts', 'pg-boss', url, target),
  fill: count => `insert into pgboss.job (name, data) select 'post', ${body} from generate_series(1, ${count}) g`,
  finished: `select not exists (select from pgboss.job where name = 'post' and state < 'completed') as done`,
  write: (tx, text) => tx`insert into pgboss.job (name, data) values ('post', ${text}::text::jsonb)`,
};

export const jobQueues = [
  graphileWorker('graphile-worker, tuned', 'graphile-worker tuned'),
  graphileWorker('graphile-worker as installed', 'graphile-worker'),
  pgBoss,
];

/**
 * A rival in its own database. It has done a thousand jobs, so that its code is compiled and its plans are cached, and
 * is frozen.
 */
export async function startRival(lab: Lab, rival: Rival, target: string): Promise<Database & { senders: Senders }> {
  const database = await lab.database();
  const { url, sql } = database;
  await rival.install(database);
  const senders = lab.senders([rival.start(url, target)], sql);
  await sql.unsafe(rival.fill(1_000));
  await until(`the first jobs of ${rival.name}`, () => isTrue(sql, rival.finished));
  await senders.freeze();
  return { ...database, senders };
}
