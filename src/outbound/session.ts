import { openPool, type Query } from '../database/pool.ts';

/**
 * The one session of a runner that stays open as long as the runner lives, for the locks that others look at: the wake lock
 * (wakeup.ts) and the lifeline (lifeline.ts). Their end must not go unnoticed, hence `onEnd`.
 */
export type StandingSession = {
  query: Query;
  /** Called when the session has ended, or may have: the locks are gone. */
  onEnd(listener: () => void): void;
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
 * How long the server keeps the session of a host that has vanished: longer than any lease of that host lasts, so that nobody
 * takes over what a runner that is only cut off may still be sending; and not the hours that TCP would take by itself, during
 * which writers would go on notifying a runner that is gone.
 */
export const keepalivesFor = (leaseMs: number) => ({
  idleSeconds: Math.ceil(leaseMs / 1000),
  intervalSeconds: 5,
  count: 3,
  userTimeoutMs: Math.ceil(leaseMs) + 15_000,
});
