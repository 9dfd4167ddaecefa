import type postgres from 'postgres';
import { connect, type Sql, whyUnreachable } from './connect.ts';

/** Sends one query, written as a template; what `postgres` itself is, and what `Pool.within` gives. */
export type Query = (
  template: TemplateStringsArray,
  // biome-ignore lint/suspicious/noExplicitAny: the driver's own type for what its serializers take
  ...values: readonly postgres.ParameterOrFragment<any>[]
) => Promise<readonly postgres.Row[]>;

export type Pool = Query & {
  /** The same, with another patience than the pool's. */
  within(patienceMs: number): Query;
  end(options: { timeout: number }): Promise<void>;
};

export type PoolOptions = postgres.Options<Record<string, never>> & {
  /** How long a query may take before it is cancelled. */
  patienceMs?: number;
  /** What a cancelled query may take to end before it is given up. */
  graceMs?: number;
  /** A session of the pool has ended, or may have. */
  onclose?: () => void;
};

/**
 * Connections for services that run for months: every query settles, and none meets a connection that an earlier failure
 * broke. The driver (3.4.9) leaves a query whose session ended while it was written unanswered for ever, and the connection
 * unable to write any more (github.com/porsager/postgres issues 1208 and 1216, pull requests 1209 and 1215). So a query that
 * takes longer than `patienceMs` is cancelled, and rejects `graceMs` later whatever happened to it; and whenever a session
 * fails, all of the pool is replaced, what is under way on the old one having as long to end.
 */
export function openPool(
  url: string,
  { patienceMs = 60_000, graceMs = 5_000, onclose, ...options }: PoolOptions = {},
): Pool {
  const open = (): Sql => {
    const opened = connect(url, { ...options, onclose: () => pool === opened && onclose?.() });
    return opened;
  };
  let pool: Sql = open();
  let ended = false;

  function replace(broken: Sql): void {
    if (pool !== broken || ended) return;
    pool = open();
    onclose?.();
    broken.end({ timeout: graceMs / 1000 }).catch(() => {});
  }

  /** By a session of its own: those of the pool may all be waiting. Not by the driver's cancel(), whose failure nobody can catch. */
  async function cancel(pid: number, afterMs: number): Promise<void> {
    const other = connect(url, { max: 1, prepare: false });
    try {
      // Not another session that was given the number since.
      await other`select pg_cancel_backend(pid) from pg_stat_activity
        where pid = ${pid} and backend_start < clock_timestamp() - make_interval(secs => ${afterMs / 1000})`;
    } catch {
      // The query rejects all the same.
    } finally {
      await other.end({ timeout: 1 });
    }
  }

  const within =
    (patience: number): Query =>
    (template, ...values) =>
      new Promise((resolve, reject) => {
        const used = pool;
        const query = used(template, ...values);
        const cancelling = setTimeout(() => {
          const pid = (query as { state?: { pid?: number } }).state?.pid;
          if (pid) cancel(pid, patience);
        }, patience);
        const losing = setTimeout(() => {
          replace(used);
          reject(new Error('the database did not answer'));
        }, patience + graceMs);
        query
          .then(resolve, error => {
            if (whyUnreachable(error) !== undefined) replace(used);
            reject(error);
          })
          .finally(() => {
            clearTimeout(cancelling);
            clearTimeout(losing);
          });
      });

  return Object.assign(within(patienceMs), {
    within,
    end: (timeout: { timeout: number }) => {
      ended = true;
      return pool.end(timeout);
    },
  });
}
