import { setTimeout as pause } from 'node:timers/promises';
import { describeDatabase, whyUnreachable } from '../database/connect.ts';
import type { Log } from '../log.ts';
import { status } from './migrate.ts';

/**
 * Resolves when the database can be reached and collecta is installed in it, or when `signal` aborts. Logs what it
 * waits for. Throws other errors, such as a damaged package or a missing privilege.
 */
export async function waitUntilInstalled(url: string, log: Log, signal: AbortSignal): Promise<void> {
  const database = describeDatabase(url);
  for (let attempt = 0; !signal.aborted; attempt++) {
    const retryInMs = Math.min(500 * 2 ** attempt, 10_000);
    try {
      const { state, pending, readOnly } = await status(url);
      if (readOnly) throw Object.assign(new Error('it cannot be written to'), { code: '25006' });
      if (state === 'up to date') return;
      const hint = 'run collecta-webhooks migrate, or sql/install.psql; this process goes on by itself then';
      log.warn('waiting for the install', { database, state, missing: pending.length, hint, retry_in_ms: retryInMs });
    } catch (error) {
      const reason = whyUnreachable(error);
      if (!reason) throw error;
      log.warn('waiting for the database', { database, reason, retry_in_ms: retryInMs });
    }
    await pause(retryInMs, undefined, { signal }).catch(() => {});
  }
}
