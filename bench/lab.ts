import { type ChildProcess, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { startServer } from '../test/support/server.ts';
import { senders, startReceiver } from './processes.ts';

export type Sql = postgres.Sql;
export type Database = { url: string; sql: Sql };

/**
 * Starts a PostgreSQL, as durable as in production unless `settings` say otherwise, and calls `work`. Stops the server
 * and every process that was started with it when `work` has ended.
 */
export async function inLab<T>(settings: string[], work: (lab: Lab) => Promise<T>): Promise<T> {
  const lab = await openLab(settings);
  try {
    return await work(lab);
  } finally {
    await lab.close();
  }
}

export type Lab = Awaited<ReturnType<typeof openLab>>;

async function openLab(settings: string[]) {
  const all = [
    'fsync=on',
    'synchronous_commit=on',
    'shared_buffers=1GB',
    'max_wal_size=8GB',
    'checkpoint_timeout=30min',
    'max_connections=1000',
    ...settings,
  ];
  const server = await startServer(all.flatMap(setting => ['-c', setting]));
  const atEnd: (() => unknown)[] = [server.stop];
  const connect = (url: string, max = 4) => {
    const options = { onnotice: () => {}, max, connection: { application_name: 'bench' } };
    const sql = postgres(url, options) as unknown as Sql;
    atEnd.push(() => sql.end({ timeout: 1 }));
    return sql;
  };
  const admin = connect(server.url(), 1);
  const [file] = await admin`select split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int as pid`;
  let made = 0;
  return {
    /** The pid of the postmaster, from which all other processes of the server descend. */
    serverPid: file!.pid as number,
    connect,
    /** Creates an empty database. */
    async database(): Promise<Database> {
      const name = `bench_${++made}`;
      await admin.unsafe(`create database ${name}`);
      return { url: server.url(name), sql: connect(server.url(name)) };
    },
    async receiver(delayMs = 0) {
      const receiver = await startReceiver(delayMs);
      atEnd.push(receiver.kill);
      return receiver;
    },
    senders(children: ChildProcess[], sql: Sql) {
      const started = senders(children, sql);
      atEnd.push(started.kill);
      return started;
    },
    async close() {
      for (const end of atEnd.reverse()) await end();
    },
  };
}

/** Transactions per second: how often `clients` sessions ran the script in `seconds`, divided by `seconds`. */
export function pgbench(url: string, script: string, clients: number, seconds: number): number {
  const folder = mkdtempSync(join(tmpdir(), 'collecta-pgbench-'));
  try {
    writeFileSync(join(folder, 'script.sql'), `${script};\n`);
    const load = ['-c', String(clients), '-j', String(Math.min(clients, 2)), '-T', String(seconds)];
    const out = execFileSync('pgbench', ['-n', '-f', 'script.sql', '-M', 'prepared', ...load, url], {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    return Number(/tps = ([0-9.]+) \(without/.exec(out)?.[1] ?? Number.NaN);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The table of a module, with ten columns as in the sample. */
export const createTable = (name: string) => `
  create table ${name} (
    id bigint generated always as identity primary key, product_code text, quantity numeric, work_center text,
    status text, custom_data jsonb, note text, price numeric, created_at timestamptz default now(),
    updated_at timestamptz default now())`;

/** An INSERT of `rows` rows. */
export const insertRows = (name: string, rows = 1) => `
  insert into ${name} (product_code, quantity, work_center, status, custom_data, note, price)
  select 'A-' || g, 12, 'assembly', 'open', jsonb '{"lot": 7, "tags": ["x", "y"]}',
    'a note of some length, as people write them', 99.95
  from generate_series(1, ${rows}) g`;

/** The INSERT of one row that pgbench repeats. */
export const insertRow = (name: string) => `
  insert into ${name} (product_code, quantity, work_center, status, custom_data, note, price)
  values ('A-4711', 12, 'assembly', 'open', '{"lot": 7, "tags": ["x", "y"]}',
    'a note of some length, as people write them', 99.95)`;

/** Runs one after the other, which `Promise.all` would not do. */
export async function inOrder<T, R>(items: T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}
