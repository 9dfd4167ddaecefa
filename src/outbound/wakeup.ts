import { setTimeout as pause } from 'node:timers/promises';
import { createListener } from '../database/listener.ts';
import type { Log } from '../log.ts';
import { openStandingSession, type StandingSession } from './session.ts';

const lockClass = 1668246636; // 'coll'
const wakeLock = 1;
const selfTestMs = 5_000;
const retestMs = 60_000;
const retryMs = 1_000;

type WakeupEvents = {
  /** Something may have changed. */
  onWake: () => void;
  /** Called with true when notifications come through, and with false and the reason when they no longer do. */
  onListening?: (listens: boolean, reason?: string) => void;
  /** Further channels to listen to on the same session. */
  channels?: Readonly<Record<string, () => void>> | undefined;
};

export type Wakeup = ReturnType<typeof createWakeup>;

/**
 * The handshake before a runner sleeps. Writers notify only while a runner sleeps. A sleeping runner holds the wake
 * lock exclusively, and each writer tries to take it shared: where that fails, the writer notifies.
 *
 * A runner that found nothing tries the lock. If it is granted, no open transaction believes that the runner is awake:
 * the runner looks at everything once more and sleeps. If it is refused, a writer's transaction is open, or another
 * runner sleeps already. Nobody ever waits for the lock, because a session that waits for a lock receives no
 * notifications.
 */
export function createWakeup(
  listenUrl: string,
  log: Log,
  { onWake, onListening = () => {}, channels = {} }: WakeupEvents,
  session: StandingSession = openStandingSession(listenUrl),
) {
  let holds = false;
  let listens = false;
  let connection = 0;
  let loggedReason: string | undefined; // why nothing is heard, as it was last logged
  let testHeard = () => {};
  const testChannel = `collecta_test_${crypto.randomUUID().replaceAll('-', '')}`;
  const closing = new AbortController();
  const { signal } = closing;

  session.onEnd(() => {
    if (!holds || signal.aborted) return;
    holds = false;
    onWake();
  });

  const events = {
    connected(number: number): void {
      connection = number;
      testWhileConnected(number);
    },
    lost(reason: string, retryInMs: number): void {
      connection = 0;
      const event = listens ? 'listening was interrupted, polling meanwhile' : 'cannot listen yet, polling';
      if (reason !== loggedReason) log.warn(event, { message: reason, retry_in_ms: retryInMs });
      loggedReason = reason;
      if (listens) onWake();
      listens = false;
      onListening(false, reason);
    },
  };
  const heard = { ...channels, collecta_wake: onWake, [testChannel]: () => testHeard() };
  const listener = createListener(listenUrl, heard, events);

  /**
   * Notifies itself to find out whether notifications come through (a transaction pooler drops them). Tries each
   * minute.
   */
  async function testWhileConnected(tested: number): Promise<void> {
    const current = () => tested === connection && !signal.aborted;
    for (let first = true; current() && !listens; first = false) {
      const heard = new Promise<boolean>(done => {
        const timer = setTimeout(() => done(false), selfTestMs);
        testHeard = () => {
          clearTimeout(timer);
          done(true);
        };
      });
      try {
        await session.query`select pg_catalog.pg_notify(${testChannel}, '')`;
      } catch {
        await pause(retryMs, undefined, { signal }).catch(() => {}); // the session was ended meanwhile
        continue;
      }
      if ((await heard) && current()) {
        listens = true;
        loggedReason = undefined;
        log.info('listening');
        onListening(true);
        onWake();
      } else if (current()) {
        const reason = 'no notification comes through (a transaction pooler?)';
        const hint = 'set COLLECTA_LISTEN_URL to a direct connection';
        if (first) log.warn(`${reason}: polling`, { hint });
        onListening(false, reason);
        await pause(retestMs, undefined, { signal }).catch(() => {});
      }
    }
  }

  return {
    get holds(): boolean {
      return holds;
    },
    /** Whether notifications come through. Without them the runner polls. */
    get listens(): boolean {
      return listens;
    },
    /**
     * Tries to make writers notify. `held`: they notify this runner. `elsewhere`: they notify another one that sleeps.
     */
    async trySleep(): Promise<'held' | 'elsewhere' | 'refused'> {
      if (holds) return 'held';
      if (!listens) return 'refused';
      const { ends } = session;
      const [row] = await session.query`
        select pg_catalog.pg_try_advisory_lock(${lockClass}, ${wakeLock}) as granted,
          exists (select from pg_catalog.pg_locks
            where locktype = 'advisory' and classid = ${lockClass} and objid = ${wakeLock} and mode = 'ExclusiveLock'
              and granted and pid <> pg_catalog.pg_backend_pid() and database =
                (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())) as elsewhere`;
      // The session may have ended after it answered, and the lock with it.
      holds = row?.granted === true && session.ends === ends;
      return holds ? 'held' : row?.elsewhere === true ? 'elsewhere' : 'refused';
    },
    /** Releases the lock, so that writers do not notify any more. */
    async letGo(): Promise<void> {
      if (!holds) return;
      holds = false;
      // Other runners sleep because this one held the lock, and no writer would notify them any more.
      await session.query`
        select pg_catalog.pg_advisory_unlock(${lockClass}, ${wakeLock}), pg_catalog.pg_notify('collecta_wake', '')`;
    },
    async close(): Promise<void> {
      closing.abort();
      holds = false;
      await Promise.allSettled([session.end(), listener.close()]);
    },
  };
}
