import type postgres from 'postgres';
import { connect, type Sql, whyUnreachable } from './connect.ts';

/** Sends one query, written as a template. `postgres` itself has this type, and `Pool.within` returns one. */
export type Query = (
  template: TemplateStringsArray,
  // biome-ignore lint/suspicious/noExplicitAny: the driver's own type for what its serializers take
  ...values: readonly postgres.ParameterOrFragment<any>[]
) => Promise<readonly postgres.Row[]>;

export type Pool = Query & {
  /** Sends queries with another time limit than the pool's. */
  within(patienceMs: number): Query;
  end(options: { timeout: number }): Promise<void>;
};

export type PoolOptions = postgres.Options<Record<string, never>> & {
  /** What the sessions are for. pg_stat_activity shows it. */
  purpose?: string;
  /** How long a query may take before it is cancelled. */
  patienceMs?: number;
  /** How long a cancelled query may take to end before it is given up. */
  graceMs?: number;
  /** Called when a session of the pool has ended, or may have. */
  onclose?: () => void;
  /** Called when a prepared statement was lost, which shows a transaction pooler. None are used from then on. */
  onpooler?: () => void;
};

/**
 * SQLSTATEs of a prepared statement that does not exist, or exists already. The statement did not run in either case.
 */
const lostStatement = /^(26000|42P05)$/;

const refusedSetting = /unsupported startup parameter: search_path/;

type Sent = postgres.PendingQuery<postgres.Row[]> & {
  /** The session that runs the query. */
  state?: { pid?: number };
  /** The error after which the driver sent the query a second time. */
  retried?: { code?: string };
};

/**
 * A pool for services that run for months: every query settles, and no query is sent on a session that an earlier
 * failure broke. This pool adds what the driver (3.4.9) lacks:
 *
 * - If a session ends while the driver writes a query, the query never settles, and that connection cannot write any
 *   more (github.com/porsager/postgres issues 1208 and 1216, pull requests 1209 and 1215). So the whole pool is
 *   replaced whenever a session fails. Queries under way on the old pool have `graceMs` to end.
 * - A query that takes longer than `patienceMs` is cancelled. It rejects after `graceMs` more if it has not ended by
 *   then. A cancel request may arrive late and hit the session's next query. So a session gets no further query after
 *   a cancel request, and no query is sent while another one runs in its session.
 * - After an error in the middle of a result, the driver stores the rows of the next result at shifted indexes, because
 *   it does not reset its counter. So the rows are collected here one by one, which keeps that counter at 0.
 * - Behind a transaction pooler, a prepared statement is gone in the next transaction. The first one that is lost stops
 *   the use of prepared statements.
 *
 * The search_path of every session is pg_catalog, so that no object that somebody created in another schema is called
 * by mistake. If a pooler refuses that setting, it is left out. Statements are safe without it, since they name the
 * schema of what they call.
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

  /** Starts sessions without search_path from now on, because a pooler refuses it. */
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

  /**
   * Cancels what a session runs. It uses a new connection, because all sessions of the pool may be busy, and not the
   * driver's cancel(), because its failures cannot be caught.
   */
  async function cancel(pid: number): Promise<void> {
    const decidedAt = performance.now();
    const other = connect(url, { max: 1, prepare: false });
    try {
      await other`select 1`; // connects first, so that the time it takes is part of the interval below
      // backend_start is compared so that a newer session with the same pid is not cancelled.
      const seconds = (performance.now() - decidedAt) / 1000;
      await other`
        select pg_catalog.pg_cancel_backend(a.pid) from pg_catalog.pg_stat_activity a
        where a.pid operator(pg_catalog.=) ${pid}
          and a.backend_start operator(pg_catalog.<)
            (pg_catalog.clock_timestamp() operator(pg_catalog.-) pg_catalog.make_interval(secs => ${seconds}))`;
    } catch {
      // The query rejects after graceMs in any case.
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
              // The statement did not run in either case, so it is safe to send it again.
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

/**
 * Sessions of which a query uses the one that was used last. `openPool` takes them in turn. A few queries at a time are
 * answered much faster this way, because one busy server process finds its plans and caches in the processor's cache,
 * and ten in turn do not. As many sessions are opened as queries run at once; the caller limits these.
 */
export function openSessions(url: string, options: Omit<PoolOptions, 'max'>): Query & Pick<Pool, 'end'> {
  const opened: Pool[] = [];
  const idle: Pool[] = [];
  const open = () => {
    const session = openPool(url, { ...options, max: 1 });
    opened.push(session);
    return session;
  };
  const query: Query = async (template, ...values) => {
    const session = idle.pop() ?? open();
    try {
      return await session(template, ...values);
    } finally {
      idle.push(session);
    }
  };
  const end: Pool['end'] = async timeout => {
    await Promise.all(opened.map(session => session.end(timeout)));
  };
  return Object.assign(query, { end });
}
