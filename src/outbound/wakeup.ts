import { setTimeout as pause } from 'node:timers/promises';
import type { ClientConfig } from 'pg';
import pgListen, { type Subscriber } from 'pg-listen';
import { listenerConfig } from '../database/listen.ts';
import { openPool } from '../database/pool.ts';
import type { Log } from '../log.ts';

const lockClass = 1668246636; // 'coll'
const wakeLock = 1;
const selfTestMs = 5_000;
const retestMs = 60_000;
const retryInterval = (attempt: number) => Math.min(100 * 2 ** attempt, 5_000);

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

export function createWakeup(listenUrl: string, log: Log, onWake: () => void): Wakeup {
  let holds = false;
  let closes = 0;
  let listens = false;
  let connection = 0;
  let testHeard: (() => void) | undefined;
  const testChannel = `collecta_test_${crypto.randomUUID().replaceAll('-', '')}`;
  const closing = new AbortController();
  const rest = (ms: number) => pause(ms, undefined, { signal: closing.signal }).catch(() => {});

  // The lock's session: its end would end the lock unnoticed, hence onclose. A host that vanishes is ended by the server.
  const session = openPool(listenUrl, {
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    onclose: () => {
      closes++;
      if (holds && !closing.signal.aborted) {
        holds = false;
        onWake();
      }
    },
  });

  let subscriber: Subscriber<Record<string, string>> | undefined;

  /** In the background and for ever: what fails here is made up for by polling. */
  async function listen(): Promise<void> {
    let target: ClientConfig | undefined;
    for (let attempt = 0; target === undefined; attempt++) {
      try {
        target = await listenerConfig(listenUrl);
      } catch (error) {
        if (attempt === 0) log.warn('cannot listen yet, polling', { message: (error as Error).message });
        await rest(retryInterval(attempt));
      }
      if (closing.signal.aborted) return;
    }
    subscriber = pgListen.default<Record<string, string>>(target, {
      parse: text => text,
      retryInterval,
      retryTimeout: 0,
      paranoidChecking: 60_000,
    });
    subscriber.notifications.on('collecta_wake', onWake);
    subscriber.notifications.on(testChannel, () => testHeard?.());
    subscriber.events.on('reconnect', attempt => {
      listens = false;
      connection++;
      if (attempt === 1) log.warn('listening was interrupted, polling meanwhile');
    });
    subscriber.events.on('error', error => {
      listens = false;
      log.error('listening failed, polling', { message: error.message });
    });
    subscriber.events.on('connected', () => void selfTest(++connection));
    // A first failure is followed by pg-listen's own endless reconnecting, as a later one is.
    await subscriber.connect().catch(error => log.warn('cannot listen yet, polling', { message: error.message }));
  }

  /** Through a transaction pooler nothing is heard: found out by listening to oneself, again each minute until it is. */
  async function selfTest(tested: number): Promise<void> {
    for (let attempt = 0; tested === connection && !closing.signal.aborted; attempt++) {
      try {
        await subscriber?.listenTo('collecta_wake');
        await subscriber?.listenTo(testChannel);
        const heard = new Promise<boolean>(done => {
          const timer = setTimeout(() => done(false), selfTestMs);
          testHeard = () => {
            clearTimeout(timer);
            done(true);
          };
        });
        await session`select pg_notify(${testChannel}, '')`;
        const passed = await heard;
        if (tested !== connection) return;
        listens = passed;
        if (passed) {
          log.info('listening');
          return onWake();
        }
        const hint = 'set COLLECTA_LISTEN_URL to a direct connection';
        if (attempt === 0) log.warn('no notification comes through (a transaction pooler?): polling', { hint });
        await rest(retestMs);
      } catch {
        await rest(retryInterval(attempt)); // the session or the listener was ended meanwhile
      }
    }
  }

  const started = listen();

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
      const before = closes;
      const [row] = await session`
        select pg_try_advisory_lock(${lockClass}, ${wakeLock}) as granted,
          exists (select from pg_locks where locktype = 'advisory' and classid = ${lockClass} and objid = ${wakeLock}
            and database = (select oid from pg_database where datname = current_database())
            and mode = 'ExclusiveLock' and granted and pid <> pg_backend_pid()) as elsewhere,
          set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
          set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '25000', false)`;
      // The session may have ended behind its answer, and the lock with it.
      holds = row?.granted === true && closes === before;
      return holds ? 'held' : row?.elsewhere === true ? 'elsewhere' : 'refused';
    },
    async letGo() {
      if (!holds) return;
      holds = false;
      // Other runners sleep because we held it: they would hear no writer any more.
      await session`select pg_advisory_unlock(${lockClass}, ${wakeLock}), pg_notify('collecta_wake', '')`;
    },
    async close() {
      closing.abort();
      holds = false;
      const ended = started.then(() => subscriber?.close());
      await Promise.allSettled([
        session.end({ timeout: 2 }),
        Promise.race([ended, pause(2_000, undefined, { ref: false })]),
      ]);
    },
  };
}
