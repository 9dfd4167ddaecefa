import { setTimeout as pause } from 'node:timers/promises';
import type { Config } from '../config.ts';
import { whyUnreachable } from '../database/connect.ts';
import { openPool } from '../database/pool.ts';
import { waitUntilInstalled } from '../install/wait.ts';
import type { Log } from '../log.ts';
import { countAttempt, countRouted } from '../metrics.ts';
import { createKeyring } from '../secrets/keyring.ts';
import { signatureHeaders } from '../secrets/sign.ts';
import { createClaimer, type Delivery } from './claim.ts';
import { createDeliverer } from './deliver.ts';
import { createGuard } from './destination.ts';
import { notSent } from './exchange.ts';
import { createRecorder } from './record.ts';
import { createWakeup } from './wakeup.ts';

const deadlineMs = 30_000;
const marginMs = 5_000;
const slowAfterMs = 1_000;
const maxAhead = 300;
const maintainEveryMs = 600_000;
const retryKeysMs = 5_000;
const busyClaimsBeforeLettingGo = 3;

/**
 * Runs until `signal` aborts: claim → sign → POST → record, each waiting for none of the others. Claims ahead of the requests,
 * so that neither waits for the database; sleeps when there is nothing to do (wakeup.ts). Then it claims no more, lets what
 * is under way finish within `config.stopTimeoutMs`, gives back what was not begun, and resolves.
 */
export async function dispatch(config: Config, log: Log, signal: AbortSignal): Promise<void> {
  await waitUntilInstalled(config.databaseUrl, log, signal);
  if (signal.aborted) return;
  // Where LISTEN needs a URL of its own, the other leads through a pooler, which may not keep prepared statements.
  const prepare = config.listenUrl === config.databaseUrl;
  const sql = openPool(config.databaseUrl, { max: 3, prepare });
  // On one session, which has their plans: made anew, they are 40 ms of somebody's latency.
  const claims = openPool(config.databaseUrl, { max: 1, prepare });
  const upkeep = openPool(config.databaseUrl, { max: 1, idle_timeout: 30, prepare });
  const guard = createGuard(config);
  const deliverer = createDeliverer({ guard, deadlineMs, userAgent: 'collecta-webhooks' });
  const keyring = createKeyring(config.secretKey);
  const claim = createClaimer(claims, config.environment ?? null, { log, keyring });
  let leaseMs = 60_000;

  // The loop's one condition: something may have changed. Set by notifications, finished requests and the timer.
  let wake = () => {};
  let called = false;
  const call = () => {
    called = true;
    wake();
  };
  const rest = (ms: number) =>
    new Promise<void>(done => {
      if (called || signal.aborted) return done();
      const timer = setTimeout(done, ms);
      wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  signal.addEventListener('abort', call, { once: true });
  // A database that does not answer holds up the stop no longer than a receiver does.
  let giveUp = (_: Error) => {};
  const overdue = new Promise<never>((_, reject) => {
    const late = () => {
      const error = new Error('the database did not answer before the stop');
      reject(error);
      giveUp(error);
    };
    signal.addEventListener('abort', () => setTimeout(late, config.stopTimeoutMs + 500).unref(), { once: true });
  });
  overdue.catch(() => {});
  // A race with a promise that stays open keeps every result of every race: not with `overdue` itself.
  const beforeOverdue = <T>(work: Promise<T>) =>
    new Promise<T>((resolve, reject) => {
      giveUp = reject;
      work.then(resolve, reject);
    });

  // A recorded delivery may have made another one due: its record's next, or what max_in_flight held back.
  const recorder = createRecorder(sql, log, {
    leaseMs: () => leaseMs,
    onRecorded: batch => {
      if (!batch.some(({ delivery }) => delivery.awaited)) return;
      call();
    },
  });

  const { concurrency } = config;
  const ahead = new Map<string, Delivery[]>(); // claimed and not begun, by endpoint: the first in the map is served next
  let aheadCount = 0;
  const underway = new Set<Promise<void>>();
  const quick = new Map<string, number>(); // requests in flight that take a place, by endpoint
  const slow = new Set<string>(); // endpoints whose last answer took long
  let places = concurrency;
  const aheadLimit = Math.min(maxAhead, Math.max(concurrency * 6, 30));
  const worthAClaim = (aheadLimit * 2) / 3; // as much room as one is made for
  const perEndpointPlaces = Math.max(1, Math.ceil(concurrency * 0.8));
  const abandon = new AbortController();

  // Requests in flight that hold one of `places`, with what to do when they take longer than a second: a slow receiver gives
  // its place back, so that it delays nobody else.
  const watched = new Map<Delivery, { startedAt: number; tooSlow: () => void }>();
  const watch = setInterval(() => {
    const before = performance.now() - slowAfterMs;
    for (const { startedAt, tooSlow } of watched.values()) if (startedAt < before) tooSlow();
  }, 250);

  /** No request begins after its lease: a runner that was frozen comes back with requests that somebody else has sent by now. */
  const mayBeginStill = ({ claimedAt }: Delivery) => performance.now() - claimedAt < leaseMs - marginMs;

  async function send(delivery: Delivery): Promise<void> {
    const { endpoint, eventId, body } = delivery;
    const startedAt = performance.now();
    const giveUpPlace = () => {
      if (!watched.delete(delivery)) return;
      places++;
      const left = (quick.get(endpoint.id) ?? 1) - 1;
      if (left > 0) quick.set(endpoint.id, left);
      else quick.delete(endpoint.id);
    };
    if (!slow.has(endpoint.id)) {
      places--;
      quick.set(endpoint.id, (quick.get(endpoint.id) ?? 0) + 1);
      const tooSlow = () => {
        slow.add(endpoint.id);
        giveUpPlace();
        pump();
      };
      watched.set(delivery, { startedAt, tooSlow });
    }
    const signed = endpoint.unusable
      ? null
      : signatureHeaders(endpoint.keys, eventId, Math.floor(Date.now() / 1000), body);
    const headers = { ...endpoint.headers, 'content-type': 'application/json', ...signed };
    const result = endpoint.unusable
      ? notSent(endpoint.unusable)
      : await deliverer.deliver(
          { url: endpoint.url, headers, body, mayBegin: () => mayBeginStill(delivery) },
          abandon.signal,
        );
    giveUpPlace();
    if (result.outcome === 'withdrawn') return void (await giveBack([delivery]));
    if (result.totalMs < slowAfterMs) slow.delete(endpoint.id);
    const { outcome, status, totalMs } = result;
    countAttempt({ endpointId: endpoint.id, eventId, outcome, status, totalMs });
    recorder.add({ delivery, startedAt, signed, result });
  }

  const mayBegin = (id: string) =>
    slow.has(id) ? underway.size < concurrency * 10 : places > 0 && (quick.get(id) ?? 0) < perEndpointPlaces;

  // What waits for slow receivers takes no room from the others, within bounds.
  const room = () => {
    let waiting = 0;
    for (const id of slow) waiting += ahead.get(id)?.length ?? 0;
    return aheadLimit - aheadCount + Math.min(waiting, aheadLimit * 9);
  };
  let short = false; // of room: the loop waits for it

  function begin(delivery: Delivery): void {
    const sent = send(delivery).finally(() => {
      underway.delete(sent);
      pump();
      if (short && room() >= worthAClaim) call();
    });
    underway.add(sent);
  }

  /**
   * Begins what may begin, one of each endpoint in its turn. What was claimed too long ago is given back: its lease could end
   * before its deadline.
   */
  function pump(): void {
    if (signal.aborted) return;
    const tooOld = performance.now() - (leaseMs - deadlineMs - marginMs);
    for (const [id, queue] of ahead) {
      if (places <= 0 && slow.size === 0) return;
      let old = 0;
      while (old < queue.length && queue[old]!.claimedAt < tooOld) old++;
      if (old > 0) giveBack(queue.splice(0, old));
      const next = mayBegin(id) ? queue.shift() : undefined;
      aheadCount -= old + (next ? 1 : 0);
      if (next || queue.length === 0) ahead.delete(id);
      if (!next) continue;
      // Behind the others, where this loop comes by again.
      if (queue.length > 0) ahead.set(id, queue);
      begin(next);
    }
  }

  function giveBack(deliveries: Pick<Delivery, 'id' | 'lease'>[]): Promise<unknown> {
    if (deliveries.length === 0) return Promise.resolve();
    return sql`select collecta.release_deliveries(
        ${deliveries.map(each => String(each.id))}::text[]::bigint[], ${deliveries.map(each => String(each.lease))}::text[]::bigint[])`.catch(
      error =>
        log.warn('claimed deliveries wait for their lease to end', {
          deliveries: deliveries.length,
          message: error.message,
        }),
    );
  }

  async function maintain(): Promise<void> {
    try {
      const patient = upkeep.within(maintainEveryMs);
      for (const { done, subject } of await patient`select done, subject from collecta.maintain()`)
        log.info('maintained', { done, subject });
      const [settings] = await upkeep`select extract(epoch from lease) * 1000 as lease_ms from collecta.settings`;
      leaseMs = Number(settings?.lease_ms ?? leaseMs);
    } catch (error) {
      log.warn('maintenance failed, it is tried again', { message: (error as Error).message });
    }
  }

  /** Without the key of every secret in use nothing is claimed: deliveries wait, rather than fail. */
  async function waitForKeys(): Promise<void> {
    while (!signal.aborted) {
      try {
        const [row] = await upkeep`select collecta.sealing_keys() as keys`;
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

  await waitForKeys();
  await maintain();
  const maintenance = setInterval(maintain, maintainEveryMs);
  const wakeup = createWakeup(config.listenUrl, log, call);
  log.info('dispatching', { concurrency, poll_interval_ms: config.pollIntervalMs, environment: config.environment });

  let busyClaims = 0;
  let calledOthersAt = 0;
  let refusals = 0;
  let failures = 0;
  let everything = true;
  while (!signal.aborted) {
    const wanted = room();
    short = wanted < worthAClaim;
    if (short) {
      await rest(config.pollIntervalMs);
      called = false;
      continue;
    }
    called = false;
    try {
      const room = { deliveries: wanted, bytes: 16_000_000, perEndpoint: Math.ceil(wanted * 0.8) };
      const { deliveries, locked, routed, next, waitMs, trouble } = await beforeOverdue(claim(room, { everything }));
      everything = false;
      failures = 0;
      countRouted(routed);
      if (trouble?.startsWith('23514')) await maintain(); // a partition is missing
      for (const delivery of deliveries) {
        const { id } = delivery.endpoint;
        const queue = ahead.get(id);
        if (queue) queue.push(delivery);
        else ahead.set(id, [delivery]);
      }
      aheadCount += deliveries.length;
      pump();
      if (locked.length > 0) {
        await giveBack(locked);
        await waitForKeys();
      }
      const atMost = Math.min(waitMs ?? config.pollIntervalMs, config.pollIntervalMs);
      if (next === 'now' || next === 'soon') {
        refusals = 0;
        if (next === 'soon' && wakeup.holds && !called) {
          // Whoever commits after this claim calls; only a change that was overtaken may be left, so look again soon.
          busyClaims = 0;
          await rest(Math.min(10, atMost));
          continue;
        }
        // Held through single changes, or every one of them would cost a lock and an unlock.
        if (++busyClaims >= busyClaimsBeforeLettingGo) await wakeup.letGo();
        if (next === 'now' && !wakeup.holds && performance.now() - calledOthersAt > 1_000) {
          calledOthersAt = performance.now();
          sql`select collecta.wake_runner()`.catch(() => {});
        }
        continue;
      }
      if (next !== 'when_recorded') busyClaims = 0;
      if (next === 'when_recorded') await rest(wakeup.holds ? atMost : Math.min(2 ** refusals++, 50, atMost));
      else if (next === 'wait') await rest(wakeup.holds ? Math.max(10, atMost) : atMost);
      else if (wakeup.holds) await rest(atMost);
      else {
        const sleep = await wakeup.trySleep();
        if (sleep === 'held')
          everything = true; // once more, now that every writer notifies
        else if (sleep === 'elsewhere' || !wakeup.listens) await rest(atMost);
        else await rest(Math.min(2 ** refusals++, 50)); // a writer is in flight that thought us awake
      }
    } catch (error) {
      const { code, hint, message } = error as Record<'code' | 'hint', string | undefined> & Error;
      const reason = whyUnreachable(error) ?? message;
      log.error('claiming failed, it is tried again', { reason, code, hint });
      await rest(Math.min(100 * 2 ** failures++, 5_000));
    }
  }

  clearInterval(maintenance);
  clearInterval(watch);
  log.info('stopping', { under_way: underway.size, not_begun: aheadCount });
  const timer = setTimeout(() => abandon.abort(), config.stopTimeoutMs);
  const ended = Promise.all([giveBack(Array.from(ahead.values()).flat()), wakeup.close(), Promise.all(underway)]);
  await Promise.race([ended, overdue]).catch(() => {});
  clearTimeout(timer);
  await Promise.race([recorder.drained(), new Promise(done => setTimeout(done, 5_000).unref())]);
  await Promise.allSettled([
    deliverer.close(),
    sql.end({ timeout: 5 }),
    claims.end({ timeout: 5 }),
    upkeep.end({ timeout: 1 }),
  ]);
  log.info('stopped');
}
