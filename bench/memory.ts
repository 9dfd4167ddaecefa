import { readFileSync } from 'node:fs';
import { prepare } from './drain.ts';
import {
  insertMany,
  progress,
  save,
  startBenchServer,
  startReceiver,
  startRunner,
  stop,
  Table,
  until,
} from './support.ts';

const residentMiB = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

/** One statement of a million rows, routed and delivered: the runner's resident set by tenths. */
export async function memory({ jobs = 1_000_000 } = {}): Promise<void> {
  const server = await startBenchServer(['synchronous_commit=off']);
  const receiver = await startReceiver();
  const { url, sql } = await server.database();
  await prepare(sql, receiver.url);
  await sql.unsafe(insertMany('work_orders', jobs));
  progress('captured');
  const started = performance.timeOrigin + performance.now();
  const child = startRunner('node', url, { COLLECTA_CONCURRENCY: '50' });
  const resident = new Table(
    `Resident set while ${jobs.toLocaleString('en')} changes of one statement are routed and delivered`,
    'MiB',
    'tenth 1',
  );
  let reached = 0;
  await until(
    'the drain',
    async () => {
      const { count } = await receiver.count();
      const tenths = Math.floor((count / jobs) * 10);
      const used = residentMiB(child.pid as number);
      if (count > 0) resident.add(`tenth ${Math.min(10, tenths + 1)}`, used);
      if (tenths > reached) progress(`${tenths} tenths, ${Math.round(used)} MiB`);
      reached = tenths;
      return count >= jobs;
    },
    1_200_000,
    500,
  );
  const { first, last, distinct } = await receiver.count();
  if (distinct !== jobs) throw new Error(`${distinct} events of ${jobs}`);

  await stop(child);
  await sql.end();
  receiver.stop();
  await server.stop();
  save(
    'memory',
    [resident],
    [
      `${Math.round(jobs / ((last - first) / 1000))} changes routed and delivered a second; the first ${Math.round(first - started)} ms after the runner was started.`,
    ],
  );
}
