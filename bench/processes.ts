import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type postgres from 'postgres';
import { root } from './results.ts';

type Times = { parent: number; own: number; reaped: number };

function processTimes(pid: string): Times | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ').map(Number);
    return { parent: fields[1]!, own: fields[11]! + fields[12]!, reaped: fields[13]! + fields[14]! };
  } catch {
    return undefined; // it has ended
  }
}

function descendants(pids: number[]): Map<number, Times> {
  const all = new Map<number, Times>();
  for (const name of readdirSync('/proc')) {
    const times = /^\d+$/.test(name) ? processTimes(name) : undefined;
    if (times) all.set(Number(name), times);
  }
  const belongs = (pid: number): boolean => pids.includes(pid) || (all.has(pid) && belongs(all.get(pid)!.parent));
  return new Map([...all].filter(([pid]) => belongs(pid)));
}

/** The CPU seconds so far of these processes and their descendants, including those that have ended. */
export function cpuSeconds(pids: number[]): number {
  // A process that ends while /proc is read may be counted neither there nor in its parent's total. Then it is read
  // again.
  for (let found = descendants(pids); ; ) {
    const again = descendants(pids);
    if (found.size === again.size && [...again.keys()].every(pid => found.has(pid)))
      return [...again.values()].reduce((ticks, { own, reaped }) => ticks + own + reaped, 0) / 100;
    found = again;
  }
}

/** The CPU milliseconds so far of a process with one thread, such as a session of PostgreSQL. */
export const cpuMilliseconds = (pid: number) =>
  Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;

/** The resident set size of a process that is running. */
export const residentMiB = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;

/** The processes of one contender. SIGSTOP stops them between its turns, so that they do not slow down the others. */
export type Senders = {
  pids: number[];
  resume(): void;
  /** Stops them at a moment when they have no statement and no transaction under way in the database of `sql`. */
  freeze(): Promise<void>;
  kill(): Promise<void>;
};

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;

export function senders(children: ChildProcess[], sql: postgres.Sql): Senders {
  const signal = (name: NodeJS.Signals) => {
    for (const child of children) {
      if (hasEnded(child)) throw new Error(`${child.spawnargs.join(' ')} ended with ${child.exitCode}`);
      child.kill(name);
    }
  };
  const busy = async () => {
    const [row] = await sql`
      select count(*)::int as sessions from pg_stat_activity
      where datname = current_database() and application_name <> 'bench' and backend_type = 'client backend'
        and state <> 'idle'`;
    return row!.sessions > 0;
  };
  return {
    pids: children.map(child => child.pid!),
    resume: () => signal('SIGCONT'),
    async freeze() {
      for (;;) {
        signal('SIGSTOP');
        for (let looks = 0; looks < 20; looks++) {
          if (!(await busy())) return;
          await pause(10);
        }
        signal('SIGCONT');
        await pause(50);
      }
    },
    async kill() {
      for (const child of children.filter(child => !hasEnded(child))) {
        const ended = once(child, 'exit');
        child.kill('SIGKILL');
        await ended;
      }
    },
  };
}

/** Starts a script of this folder as a process. */
export function startScript(name: string, ...args: string[]): ChildProcess {
  return spawn(process.execPath, ['--import', 'tsx', `${root}bench/${name}`, ...args], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
}

/** Starts the receiver as a process. It answers 200 at once, or after `delayMs`, and counts the requests. */
export async function startReceiver(delayMs = 0) {
  const child = spawn(process.execPath, [`${root}bench/receiver.js`, String(delayMs)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const url = `http://127.0.0.1:${String(line).trim()}`;
  type Counts = { count: number; first: number; last: number; distinct: number; receipts: [number, number][] };
  const get = async (path: string): Promise<Counts> => (await fetch(url + path)).json() as Promise<Counts>;
  return {
    pid: child.pid!,
    url: `${url}/hook`,
    count: () => get('/count'),
    /** The numbers of the changes that were received, each with the time. */
    receipts: async () => (await get('/receipts')).receipts,
    reset: () => get('/reset'),
    kill: () => void child.kill('SIGKILL'),
  };
}

export type Receiver = Awaited<ReturnType<typeof startReceiver>>;

export async function until(
  what: string,
  condition: () => Promise<boolean>,
  { timeoutMs = 180_000, everyMs = 20 } = {},
): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`gave up waiting for ${what}`);
    await pause(everyMs);
  }
}
