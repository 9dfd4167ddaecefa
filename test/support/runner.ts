import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, rmdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { Sql } from './database.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
// tap puts its loader into NODE_OPTIONS of every child process. A user’s command runs without it.
const { NODE_OPTIONS: _, ...inherited } = process.env;
const plainEnvironment = Object.fromEntries(
  Object.entries(inherited).filter(([name]) => !/^(DATABASE_URL|COLLECTA_|PG)/.test(name)),
);

export type Runtime = 'node' | 'deno';
export const runtimes: Runtime[] = ['node', 'deno'];

/** Resolves to the result of `condition` as soon as it is truthy. It fails after `timeoutMs`. */
export async function until<T>(
  description: string,
  condition: () => T | Promise<T>,
  timeoutMs = 20_000,
  everyMs = 10,
): Promise<Exclude<T, false | null | undefined>> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value as Exclude<T, false | null | undefined>;
    if (performance.now() > end) throw new Error(`waited ${timeoutMs} ms in vain until ${description}`);
    await pause(everyMs);
  }
}

/** Builds dist/ if a file of src/ is newer, for one test file at a time. `npm run typecheck` checks the types. */
async function build(): Promise<void> {
  const lock = join(tmpdir(), 'collecta-build.lock');
  const locked = () => {
    try {
      mkdirSync(lock);
      return true;
    } catch {
      return false;
    }
  };
  const time = (file: string) => statSync(join(root, file), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const stale = () =>
    readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).some(
      file => file.endsWith('.ts') && time(join('src', file)) > time(join('dist', file.replace(/ts$/, 'js'))),
    );
  if (!stale()) return;
  await until('another build is done', locked, 60_000, 100);
  try {
    if (stale())
      execFileSync(
        process.execPath,
        ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json', '--noCheck', '--declaration', 'false'],
        { cwd: root },
      );
  } finally {
    rmdirSync(lock);
  }
}

function commandLine(runtime: Runtime): string[] {
  if (runtime === 'node') return [process.execPath, 'dist/cli.js'];
  // --allow-env is granted as a whole, because `debug`, which pg-listen uses for logging, lists the environment.
  return [
    'node_modules/.bin/deno',
    'run',
    '--no-prompt',
    '--allow-net=127.0.0.1',
    `--allow-read=${root}`,
    '--allow-env',
    'src/cli.ts',
  ];
}

export type LogLine = { level: string; event: string; [field: string]: unknown };
export type Runner = {
  pid: number;
  log: LogLine[];
  /** Everything that the process wrote to standard error and standard output. */
  output: () => string;
  /** The next line of this event after the first `after` of them. */
  logged(event: string, after?: number): Promise<LogLine>;
  kill(signal: NodeJS.Signals): void;
  ended: Promise<{ status: number | null; signal: NodeJS.Signals | null }>;
  /** Sends SIGTERM. Resolves to the exit status and the milliseconds until the exit. */
  stop(): Promise<{ status: number | null; signal: NodeJS.Signals | null; ms: number }>;
};

/** Starts `collecta-webhooks dispatch` on Node from dist/ or on Deno from src/; it may deliver to 127.0.0.1. */
export async function startRunner(
  url: string,
  {
    runtime = 'node',
    env = {},
    command = 'dispatch',
  }: { runtime?: Runtime; env?: Record<string, string>; command?: string } = {},
): Promise<Runner> {
  if (runtime === 'node') await build();
  const [program, ...args] = commandLine(runtime) as [string, ...string[]];
  const child: ChildProcess = spawn(program, [...args, command], {
    cwd: root,
    env: {
      ...plainEnvironment,
      DATABASE_URL: url,
      COLLECTA_ALLOW_HTTP: 'true',
      COLLECTA_ALLOW_DESTINATIONS: '127.0.0.0/8',
      COLLECTA_LOG_LEVEL: 'debug',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const log: LogLine[] = [];
  let output = '';
  child.stdout?.on('data', chunk => {
    output += chunk;
  });
  createInterface({ input: child.stderr! }).on('line', line => {
    output += `${line}\n`;
    if (line.startsWith('{')) log.push(JSON.parse(line));
  });
  const ended = new Promise<{ status: number | null; signal: NodeJS.Signals | null }>(done =>
    child.on('close', (status, signal) => done({ status, signal })),
  );
  let over = false;
  ended.then(() => {
    over = true;
  });
  t.teardown(() => {
    child.kill('SIGCONT');
    child.kill('SIGKILL');
  });
  return {
    pid: child.pid!,
    log,
    output: () => output,
    logged: (event, after = 0) =>
      until(
        `the runner logs "${event}"`,
        () => {
          const found = log.filter(line => line.event === event)[after];
          if (!found && over) throw new Error(`the runner ended before it logged "${event}":\n${output}`);
          return found;
        },
        30_000,
      ),
    kill: signal => void child.kill(signal),
    ended,
    async stop() {
      const started = performance.now();
      child.kill('SIGTERM');
      return { ...(await ended), ms: performance.now() - started };
    },
  };
}

export type Answer =
  | number
  | { status?: number; headers?: Record<string, string>; body?: string; delayMs?: number; hang?: true; drop?: true };
export type Received = {
  path: string;
  at: number;
  method: string;
  headers: Record<string, string>;
  body: string;
  /** One result for each secret of the path's script. */
  verified: { hex: boolean; standard: boolean; package: boolean }[];
  status: number | null;
  /** The number of open requests to the path, this one included. */
  inFlight: number;
};
export type Receiver = {
  origin: string;
  requests: Received[];
  to(path: string): Received[];
  script(path: string, answers: Answer[], secrets?: string[]): Promise<void>;
  /** Answers the requests that hang. */
  release(path: string): Promise<void>;
};

/** Starts test/support/receiver.js. */
export async function startReceiver(): Promise<Receiver> {
  const child = fork(join(root, 'test/support/receiver.js'), {
    env: plainEnvironment,
    execArgv: [],
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const requests: Received[] = [];
  createInterface({ input: child.stdout! }).on('line', line => requests.push(JSON.parse(line)));
  const answered = new Map<unknown, (message: { port: number }) => void>();
  child.on('message', (message: { id: unknown; port: number }) => answered.get(message.id)?.(message));
  const answer = (id: unknown) => new Promise<{ port: number }>(done => answered.set(id, done));
  let last = 0;
  const tell = async (message: object) => {
    const id = ++last;
    const done = answer(id);
    child.send({ id, ...message });
    await done;
  };
  const { port } = await answer('listening');
  return {
    origin: `http://127.0.0.1:${port}`,
    requests,
    to: path => requests.filter(request => request.path === path),
    script: (path, answers, secrets) => tell({ path, answers, secrets }),
    release: path => tell({ path, release: true }),
  };
}

export type Endpoint = { id: string; secret: string; path: string };

/**
 * Creates an endpoint at the receiver's `path`, of all five events or as `options` (create_endpoint's arguments) say.
 */
export async function createEndpoint(
  sql: Sql,
  receiver: Receiver,
  path: string,
  { answers = [200], ...options }: { answers?: Answer[]; [argument: string]: unknown } = {},
): Promise<Endpoint> {
  const named = Object.entries({
    url: receiver.origin + path,
    events: ['record_created', 'record_updated', 'record_deleted', 'status_change', 'custom_data_updated'],
    ...options,
  });
  const [made] = await sql.unsafe(
    `select * from collecta.create_endpoint(${named.map(([name], index) => `${name} => $${index + 1}`).join(', ')})`,
    named.map(([, value]) => value) as string[],
  );
  await receiver.script(path, answers, [made!.secret]);
  return { id: made!.endpoint_id, secret: made!.secret, path };
}

/** Creates a table work_orders and attaches it as work-orders. */
export async function attachWorkOrders(sql: Sql): Promise<void> {
  await sql.unsafe(`
    create table work_orders (id text primary key default collecta.new_id('rec'), product_code text, quantity numeric,
      work_center text, status text, custom_data jsonb);
    select collecta.attach_module('work_orders', 'work-orders', status_column => 'status',
      custom_data_column => 'custom_data');`);
}
