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
  /** What its sessions are for, in pg_stat_activity. */
  purpose?: string;
  /** How long a query may take before it is cancelled. */
  patienceMs?: number;
  /** What a cancelled query may take to end before it is given up. */
  graceMs?: number;
  /** A session of the pool has ended, or may have. */
  onclose?: () => void;
  /** Prepared statements get lost on the way: a transaction pooler is there, and none are used from now on. */
  onpooler?: () => void;
};

/** Where a prepared statement is not known, or known already: it did not run, whatever it was. */
const lostStatement = /^(26000|42P05)$/;

const refusedSetting = /unsupported startup parameter: search_path/;

type Sent = postgres.PendingQuery<postgres.Row[]> & {
  /** The session that runs it. */
  state?: { pid?: number };
  /** Why the driver has sent it a second time. */
  retried?: { code?: string };
};

/**
 * Connections for services that run for months: every query settles, and none meets a session that an earlier failure broke.
 * What the driver (3.4.9) does not give by itself:
 *
 * - A query whose session ended while it was written stays unanswered, and that connection cannot write any more
 *   (github.com/porsager/postgres issues 1208 and 1216, pull requests 1209 and 1215). So whenever a session fails, all of the pool
 *   is replaced, what is under way on the old one having `graceMs` to end.
 * - A query that takes longer than `patienceMs` is cancelled, and rejects `graceMs` later whatever happened to it. A cancel
 *   may come late and meet the next query of its session: so no session gets another query after one. For the same reason
 *   no query is sent while another one runs on its session.
 * - An error in the middle of a result makes the driver put the rows of the next result at shifted places: it counts on from
 *   where it was. So rows are collected here, one by one, and its count stays 0.
 * - Behind a transaction pooler prepared statements are gone in the next transaction. The first one that gets lost ends their use.
 *
 * Every session looks names up in pg_catalog alone: what somebody plants in public is not found. A pooler may refuse that setting;
 * it is left out then, and statements are safe by naming the schema of what they call.
 */
export function openPool(
  url: string,
  { patienceMs = 60_000, graceMs = 5_000, onclose, onpooler, ...options }: PoolOptions = {},
): Pool {
  let prepare = options.prepare ?? true;
  let search_path: string | undefined = 'pg_catalog, pg_temp';
  const open = (): Sql => {
    const connection = { ...options.connection, ...(search_path && { search_path }) };
    const settings = { ...options, connection, prepare, max_pipeline: 0 };
    const opened = connect(url, { ...settings, onclose: () => pool === opened && onclose?.() });
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

  /** What a pooler refuses at the start of a session is left out from now on. */
  function leaveOutSetting(used: Sql): void {
    search_path = undefined;
    replace(used);
  }

  function stopPreparing(used: Sql): void {
    if (!prepare) return;
    prepare = false;
    replace(used);
    onpooler?.();
  }

  /** By a session of its own: those of the pool may all be waiting. Not by the driver's cancel(), whose failure nobody can catch. */
  async function cancel(pid: number): Promise<void> {
    const decidedAt = performance.now();
    const other = connect(url, { max: 1, prepare: false });
    try {
      await other`select 1`; // opens the session, which takes time that counts below
      // Not another session that was given the number since then.
      await other`select pg_cancel_backend(pid) from pg_stat_activity where pid = ${pid}
        and backend_start < clock_timestamp() - make_interval(secs => ${(performance.now() - decidedAt) / 1000})`;
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
        const rows: postgres.Row[] = [];
        const query = used<postgres.Row[]>(template, ...values) as Sent;
        const cancelling = setTimeout(() => {
          const pid = query.state?.pid;
          replace(used);
          if (pid) cancel(pid);
        }, patience);
        const losing = setTimeout(() => {
          replace(used);
          reject(new Error('the database did not answer'));
        }, patience + graceMs);
        const settled = () => {
          clearTimeout(cancelling);
          clearTimeout(losing);
        };
        query
          .forEach(row => {
            rows.push(row);
          })
          .then(
            () => {
              settled();
              if (query.retried && lostStatement.test(query.retried.code ?? '')) stopPreparing(used);
              resolve(rows);
            },
            (error: { code?: string; message: string }) => {
              settled();
              const lost = prepare && lostStatement.test(error.code ?? '');
              const refused = search_path !== undefined && refusedSetting.test(error.message);
              if (lost) stopPreparing(used);
              if (refused) leaveOutSetting(used);
              // It did not run: it is sent once more.
              if (lost || refused) return within(patience)(template, ...values).then(resolve, reject);
              if (whyUnreachable(error) !== undefined) replace(used);
              reject(error);
            },
          );
      });

  return Object.assign(within(patienceMs), {
    within,
    end: (timeout: { timeout: number }) => {
      ended = true;
      return pool.end(timeout);
    },
  });
}
