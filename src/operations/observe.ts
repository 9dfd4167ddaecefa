import { setTimeout as pause } from 'node:timers/promises';
import type { Config } from '../config.ts';
import { openPool } from '../database/pool.ts';
import type { Rest } from '../database/rest.ts';
import { waitUntilInstalled } from '../install/wait.ts';
import type { Log } from '../log.ts';

const everyMs = 60_000;
const firstWithinMs = 5_000;
const patienceMs = 60_000;

/**
 * Calls collecta.observe(), which counts attempts for the console and sends alerts, once a minute until `signal`
 * aborts. If several processes do this, one at a time does the work and the others find nothing to do. It waits while
 * `rest` lasts.
 */
export async function observe(config: Config, log: Log, signal: AbortSignal, rest?: Rest): Promise<void> {
  // The dispatcher in this process logs what both wait for, so warnings are not logged twice.
  await waitUntilInstalled(config.databaseUrl, { ...log, warn: () => {} }, signal);
  const sql = openPool(config.databaseUrl, {
    purpose: 'observe',
    max: 1,
    idle_timeout: 2,
    prepare: false,
    patienceMs,
  });
  // The pause is random, so that a process with many databases does not query all of them at the same moment.
  await pause(Math.random() * firstWithinMs, undefined, { signal }).catch(() => {});
  while (!signal.aborted) {
    await rest?.over(signal);
    try {
      const [row] = await sql`select collecta.observe() as more`;
      if (row?.more) continue;
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      log.warn('attempts could not be counted, it is tried again', { code, message });
    }
    await pause(everyMs, undefined, { signal }).catch(() => {});
  }
  await sql.end({ timeout: 1 });
}
