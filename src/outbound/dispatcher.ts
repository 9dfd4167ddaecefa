import type { Config } from '../config.ts';
import { whyUnreachable } from '../database/errors.ts';
import { openPool, type Query } from '../database/pool.ts';
import type { Rest } from '../database/rest.ts';
import { waitUntilInstalled } from '../install/wait.ts';
import type { Log } from '../log.ts';
import { countRouted, showListening } from '../metrics.ts';
import { createKeyring } from '../secrets/keyring.ts';
import { createAhead } from './ahead.ts';
import { createBell } from './bell.ts';
import { type Budget, createBudget } from './budget.ts';
import { createClaimer } from './claim.ts';
import { createDeliverer } from './deliver.ts';
import { createGuard } from './destination.ts';
import { createLifeline } from './lifeline.ts';
import type { Origins } from './origins.ts';
import { createPlaces } from './places.ts';
import { createRecorder } from './record.ts';
import { createRhythm } from './rhythm.ts';
import { createSender, giveBack } from './send.ts';
import { openStandingSession } from './session.ts';
import { createUpkeep } from './upkeep.ts';
import { createWakeup } from './wakeup.ts';

export const deadlineMs = 30_000;
/** The time between the end of a request and the end of its lease, for recording it. */
const marginMs = 5_000;
/** The SQLSTATE of a row that no partition takes. maintain() creates the partition. */
const noPartition = '23514';
/** Shorter rests are not worth closing and opening sessions. */
const shortestRestMs = 1_000;

/** What several dispatchers of one process share, and how they report to the code that started them. */
export type Shared = {
  budget: Budget;
  origins: Origins;
  /** Further channels to listen to on the listening session. */
  channels?: Readonly<Record<string, () => void>>;
  onListening: (listens: boolean, reason?: string) => void;
};

/**
 * Delivers until `signal` aborts. With `rest` it delivers until nothing has been due for a while, and closes every
 * session. It begins again when the rest ends: when the next delivery is due, when somebody notes work, or after
 * COLLECTA_IDLE_INTERVAL_HOURS.
 */
export async function dispatch(
  config: Config,
  log: Log,
  signal: AbortSignal,
  shared?: Shared,
  rest?: Rest,
): Promise<void> {
  while (!signal.aborted) {
    const restMs = await runDispatcher(config, log, signal, shared, rest);
    if (!rest || signal.aborted) return;
    const since = performance.now();
    if (restMs > 0) {
      log.info('resting: nothing is due and all sessions are closed', { at_most_ms: restMs });
      await rest.during(restMs, signal);
      log.info('the rest is over', { after_ms: Math.round(performance.now() - since) });
    }
  }
}

/**
 * Runs until `signal` aborts: claim → sign → POST → record. None of these steps waits for another one. When `signal`
 * aborts, the dispatcher stops claiming, lets the requests under way finish within `config.stopTimeoutMs`, gives back
 * the deliveries that have not begun, and resolves. With `rest` it also ends when nothing has been due for
 * `config.idleAfterMs`, and resolves to the number of milliseconds for which nothing will be due.
 */
async function runDispatcher(
  config: Config,
  log: Log,
  stopping: AbortSignal,
  shared?: Shared,
  rest?: Rest,
): Promise<number> {
  await waitUntilInstalled(config.databaseUrl, log, stopping);
  if (stopping.aborted) return 0;
  const idle = new AbortController();
  const signal = AbortSignal.any([stopping, idle.signal]);
  const { concurrency, pollIntervalMs, environment, databaseUrl, listenUrl, stopTimeoutMs } = config;
  const { budget = createBudget(concurrency), origins, channels, onListening = showListening } = shared ?? {};
  let leaseMs = 60_000; // each claim returns it

  const onpooler = () => log.info('a transaction pooler is in between: statements are not prepared');
  // An idle runner has three sessions: this one, which keeps the plans of a claim (planning again takes 40 ms), the one
  // that listens, and the standing one. The sessions that record and maintain open and close as needed.
  const claims = openPool(databaseUrl, { max: 1, onpooler, purpose: 'claim' });
  const sql = openPool(databaseUrl, { max: 3, idle_timeout: 10, purpose: 'record' });
  const session = openStandingSession(listenUrl);
  const keyring = createKeyring(config.secretKey);
  const upkeep = createUpkeep(sql, keyring, log, signal);
  const lifeline = createLifeline(session, () => leaseMs, log);
  const claim = createClaimer(claims, environment ?? null, { log, runner: () => lifeline.runner, keyring });
  const bell = createBell(signal);

  // From a claimed delivery to its record: ahead → sender → recorder.
  const guard = createGuard(config);
  const deliverer = createDeliverer({ guard, deadlineMs, userAgent: 'collecta-webhooks', ...(origins && { origins }) });
  const abandon = new AbortController();
  const share = budget.join(() => pump());
  const places = createPlaces(share, concurrency, () => pump());
  const ahead = createAhead(places, share, concurrency, () => leaseMs - deadlineMs - marginMs);
  const recorder = createRecorder(sql, log, {
    leaseMs: () => leaseMs,
    onRecorded: batch => {
      if (batch.some(({ delivery }) => delivery.awaited)) bell.ring();
    },
  });
  const sender = createSender(deliverer, places, {
    // A runner that was frozen must not send what another runner has sent in the meantime.
    mayBegin: ({ claimedAt }) => performance.now() - claimedAt < leaseMs - marginMs,
    record: recorder.add,
    giveBack: delivery => giveBack(sql, log, [delivery]),
    abandon: abandon.signal,
  });

  /** Begins the deliveries that may begin, and gives back those that waited too long. */
  function pump(): void {
    if (signal.aborted) return;
    const overdue = ahead.takeOverdue();
    if (overdue.length > 0) giveBack(sql, log, overdue);
    ahead.take(delivery => sender.begin(delivery, ended));
  }
  let waitingForRoom = false;
  function ended(): void {
    pump();
    if ((waitingForRoom && ahead.worthAClaim) || ahead.wantsMore) bell.ring();
  }

  await upkeep.waitForKeys();
  await upkeep.maintain();

  // When to claim.
  const wakeup = createWakeup(
    listenUrl,
    log,
    {
      onWake: bell.ring,
      onListening: (listens, reason) => {
        onListening(listens, reason);
        // Behind a transaction pooler, other clients would share a session's lock. There nothing listens either.
        if (listens) lifeline.hold();
      },
      ...(channels && { channels }),
    },
    session,
  );
  const callOthers = () => sql`select collecta.wake_runner()`.catch(() => {});
  const rhythm = createRhythm(bell, wakeup, pollIntervalMs, callOthers);
  rest?.onWake(bell.ring, signal);
  const idleFor = createIdleWatch(sql, config.idleAfterMs, rest?.longestMs ?? 0);
  let restMs = 0;
  const stop = createStop(signal, stopTimeoutMs);

  log.info('dispatching', { concurrency, poll_interval_ms: pollIntervalMs, environment });

  while (!signal.aborted) {
    bell.listen();
    waitingForRoom = !ahead.worthAClaim;
    if (waitingForRoom) {
      await bell.wait(pollIntervalMs);
      pump();
      continue;
    }
    try {
      rest?.look();
      const found = await stop.before(claim(ahead.room, { everything: rhythm.everything }));
      leaseMs = found.leaseMs;
      countRouted(found.routed);
      ahead.add(found.deliveries);
      pump();
      if (found.reordering) upkeep.reorder();
      if (found.trouble?.startsWith(noPartition)) await upkeep.maintain();
      if (found.locked.length > 0) {
        await giveBack(sql, log, found.locked);
        await upkeep.waitForKeys();
      }
      if (rest)
        restMs = await idleFor(found.next === 'sleep' && places.requests === 0 && ahead.count === 0 && !recorder.busy);
      if (restMs > 0) idle.abort();
      await rhythm.after(found);
    } catch (error) {
      const { code, hint, message } = error as Record<'code' | 'hint', string | undefined> & Error;
      log.error('claiming failed, it is tried again', { reason: whyUnreachable(error) ?? message, code, hint });
      if (code === noPartition) await upkeep.maintain();
      await rhythm.afterFailure();
    }
  }

  upkeep.close();
  places.close();
  lifeline.close();
  log.info('stopping', { under_way: places.requests, not_begun: ahead.count });
  const timer = setTimeout(() => abandon.abort(), stopTimeoutMs);
  await stop.before(Promise.all([giveBack(sql, log, ahead.takeAll()), wakeup.close(), sender.idle()])).catch(() => {});
  clearTimeout(timer);
  await Promise.race([recorder.drained(), new Promise(done => setTimeout(done, 5_000).unref())]);
  await Promise.allSettled([deliverer.close(), sql.end({ timeout: 5 }), claims.end({ timeout: 5 })]);
  log.info('stopped');
  return restMs;
}

/**
 * Finds out for how long nothing will be due. The returned function is told after each claim whether the runner has
 * nothing to do. It resolves to 0 unless that has been so for `afterMs` and goes on, here and in other runners.
 */
function createIdleWatch(sql: Query, afterMs: number, longestMs: number) {
  let quietSince: number | undefined;
  return async (isQuiet: boolean): Promise<number> => {
    if (!isQuiet) quietSince = undefined;
    else quietSince ??= performance.now();
    if (quietSince === undefined || performance.now() - quietSince < afterMs) return 0;
    const [row] = await sql`select collecta.next_due_in_ms()::float8 as ms`;
    const ms = Math.min((row?.ms as number | null) ?? Number.POSITIVE_INFINITY, longestMs);
    return ms < shortestRestMs ? 0 : ms;
  };
}

/** Keeps a database that does not answer from delaying the stop any longer than a receiver could. */
function createStop(signal: AbortSignal, timeoutMs: number) {
  let overdue: Error | undefined;
  let giveUp = (_: Error) => {};
  const late = () => {
    overdue = new Error('the database did not answer before the stop');
    giveUp(overdue);
  };
  signal.addEventListener('abort', () => setTimeout(late, timeoutMs + 500).unref(), { once: true });
  return {
    /** The work's result, or a rejection when the stop is overdue. */
    before: <T>(work: Promise<T>): Promise<T> =>
      new Promise((resolve, reject) => {
        giveUp = reject;
        if (overdue) reject(overdue);
        work.then(resolve, reject);
      }),
  };
}
