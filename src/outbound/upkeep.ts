import { setTimeout as pause } from 'node:timers/promises';
import { whyUnreachable } from '../database/errors.ts';
import type { Pool } from '../database/pool.ts';
import type { Log } from '../log.ts';
import type { Keyring } from '../secrets/keyring.ts';

const maintainEveryMs = 600_000;
const retryKeysMs = 5_000;
const reorderWithinMs = 3_600_000;
const retryReorderMs = 1_000;

/** The work of a runner beside delivering: it maintains the database and waits for the keys of sealed secrets. */
export function createUpkeep(sql: Pool, keyring: Keyring, log: Log, signal: AbortSignal) {
  /**
   * Creates partitions ahead, drops expired ones, and pauses endpoints that failed for days. Runs every ten minutes
   * too.
   */
  async function maintain(): Promise<void> {
    try {
      const rows = await sql.within(maintainEveryMs)`select done, subject from collecta.maintain()`;
      for (const { done, subject } of rows)
        if ((done as string).startsWith('failed')) log.warn('maintenance did not succeed', { done, subject });
        else log.info('maintained', { done, subject });
    } catch (error) {
      log.warn('maintenance failed, it is tried again', { message: (error as Error).message });
    }
  }

  let reordering = false;
  /**
   * Puts the changes of a module in order that one large transaction made. That may take minutes, in which the claims
   * go on. Does nothing while it is under way, here or in another runner.
   */
  async function reorder(): Promise<void> {
    if (reordering) return;
    reordering = true;
    const began = performance.now();
    let module: number | null = null;
    try {
      const [row] = await sql.within(reorderWithinMs)`select collecta.put_module_in_order() as module`;
      module = row!.module as number | null;
      const tookMs = Math.round(performance.now() - began);
      if (module !== null) log.info('a large transaction was put in order', { module_id: module, took_ms: tookMs });
    } catch (error) {
      log.warn('a large transaction was not put in order, it is tried again', { message: (error as Error).message });
    }
    if (module === null) await pause(retryReorderMs, undefined, { signal }).catch(() => {});
    reordering = false;
  }

  /**
   * Resolves when the key of every secret in use is present, or `signal` aborts. Deliveries wait meanwhile, and none
   * fails.
   */
  async function waitForKeys(): Promise<void> {
    while (!signal.aborted) {
      try {
        const [row] = await sql`select collecta.sealing_keys() as keys`;
        const missing = (row!.keys as string[]).filter(keyId => !keyring.has(keyId));
        if (missing.length === 0) return;
        const hint = 'start it with that key in COLLECTA_SECRET_KEY too, or run collecta-webhooks seal where it is';
        log.error('nothing is delivered: the key of sealed secrets is missing', { key_ids: missing.join(','), hint });
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        log.warn('cannot tell which keys are needed', { reason: whyUnreachable(error) ?? message, code });
      }
      await pause(retryKeysMs, undefined, { signal }).catch(() => {});
    }
  }

  const maintenance = setInterval(maintain, maintainEveryMs);
  return { maintain, reorder, waitForKeys, close: (): void => clearInterval(maintenance) };
}
