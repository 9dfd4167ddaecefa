import { setTimeout as pause } from 'node:timers/promises';
import { createListener } from '../database/listener.ts';
import type { Log } from '../log.ts';
import { openStandingSession, type StandingSession } from './session.ts';

const lockClass = 1668246636; // 'coll'
const wakeLock = 1;
const selfTestMs = 5_000;
const retestMs = 60_000;
const retryMs = 1_000;

/**
 * The sleep handshake. Writers notify only while a runner sleeps: they try the wake lock shared, a sleeping runner holds it
 * exclusively. So a runner that found nothing tries the lock; granted, no writer is in flight that thought it awake; it
 * looks once more over the whole and sleeps, and now every writer notifies. Not granted: a writer is in flight, or another
 * runner sleeps already. Nothing blocks: a session that waits for a lock would hear no notification until it ends.
 */
export type Wakeup = {
  /** Tries to make writers notify. `held`: they do now. `elsewhere`: they do, for another runner that sleeps. */
  trySleep(): Promise<'held' | 'elsewhere' | 'refused'>;
  /** Writers need not notify any more. */
  letGo(): Promise<void>;
  readonly holds: boolean;
  /** Whether notifications come through at all; without them polling does it all. */
  readonly listens: boolean;
  close(): Promise<void>;
};

export type WakeupEvents = {
  /** Something may have changed. */
  onWake: () => void;
  /** Notifications come through from now on, or do not, with the reason. */
  onListening?: (listens: boolean, reason?: string) => void;
  /** What else is to be heard on the same session, by channel. */
  channels?: Readonly<Record<string, () => void>> | undefined;
};

export function createWakeup(
  listenUrl: string,
  log: Log,
  { onWake, onListening = () => {}, channels = {} }: WakeupEvents,
  session: StandingSession = openStandingSession(listenUrl),
): Wakeup {
  let holds = false;
  let listens = false;
  let connection = 0;
  let told: string | undefined; // the last reason in the log why nothing is heard
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
      if (reason !== told) log.warn(event, { message: reason, retry_in_ms: retryInMs });
      told = reason;
      if (listens) onWake();
      listens = false;
      onListening(false, reason);
    },
  };
  const heard = { ...channels, collecta_wake: onWake, [testChannel]: () => testHeard() };
  const listener = createListener(listenUrl, heard, events);

  /** Through a transaction pooler nothing is heard: found out by notifying oneself, again each minute until it is. */
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
        told = undefined;
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
    get holds() {
      return holds;
    },
    get listens() {
      return listens;
    },
    async trySleep() {
      if (holds) return 'held';
      if (!listens) return 'refused';
      const { ends } = session;
      const [row] = await session.query`
        select pg_catalog.pg_try_advisory_lock(${lockClass}, ${wakeLock}) as granted,
          exists (select from pg_catalog.pg_locks
            where locktype = 'advisory' and classid = ${lockClass} and objid = ${wakeLock} and mode = 'ExclusiveLock'
              and granted and pid <> pg_catalog.pg_backend_pid() and database =
                (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())) as elsewhere`;
      // The session may have ended behind its answer, and the lock with it.
      holds = row?.granted === true && session.ends === ends;
      return holds ? 'held' : row?.elsewhere === true ? 'elsewhere' : 'refused';
    },
    async letGo() {
      if (!holds) return;
      holds = false;
      // Other runners sleep because we held it: they would hear no writer any more.
      await session.query`
        select pg_catalog.pg_advisory_unlock(${lockClass}, ${wakeLock}), pg_catalog.pg_notify('collecta_wake', '')`;
    },
    async close() {
      closing.abort();
      holds = false;
      await Promise.allSettled([session.end(), listener.close()]);
    },
  };
}
