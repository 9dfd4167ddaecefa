import { openPool, type Query } from '../database/pool.ts';

/**
 * The one session that a runner keeps open all the time. It holds the locks that other sessions look at: the wake lock
 * (wakeup.ts) and the lifeline (lifeline.ts). `onEnd` tells when they are lost.
 */
export type StandingSession = {
  query: Query;
  /** Adds a listener that is called when the session has ended, or may have ended. */
  onEnd(listener: () => void): void;
  /** How many times the session has ended so far. */
  readonly ends: number;
  end(): Promise<void>;
};

const patienceMs = 10_000;

export function openStandingSession(url: string): StandingSession {
  const listeners: (() => void)[] = [];
  let ends = 0;
  let ended = false;
  const pool = openPool(url, {
    purpose: 'stand by',
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    patienceMs,
    onclose: () => {
      ends++;
      if (!ended) for (const listener of listeners) listener();
    },
  });
  return {
    query: pool,
    onEnd: listener => void listeners.push(listener),
    get ends() {
      return ends;
    },
    end() {
      ended = true;
      return pool.end({ timeout: 2 });
    },
  };
}

/**
 * How long the server keeps the session of a host that has vanished. It is longer than any lease, so that nobody takes
 * over a delivery that a runner may still be sending while it is only cut off. It is shorter than TCP's default of
 * hours, during which writers would notify a runner that no longer exists.
 */
export const keepalivesFor = (leaseMs: number) => ({
  idleSeconds: Math.ceil(leaseMs / 1000),
  intervalSeconds: 5,
  count: 3,
  userTimeoutMs: Math.ceil(leaseMs) + 15_000,
});
