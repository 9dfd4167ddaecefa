import { openPool, type Query } from '../database/pool.ts';

export type StandingSession = ReturnType<typeof openStandingSession>;

/**
 * The one session that a runner keeps open all the time. It holds the locks that other sessions look at: the wake lock
 * (wakeup.ts) and the lifeline (lifeline.ts). `onEnd` tells when they are lost.
 */
export function openStandingSession(url: string) {
  const listeners: (() => void)[] = [];
  let ends = 0;
  let ended = false;
  const pool = openPool(url, {
    purpose: 'stand by',
    max: 1,
    idle_timeout: 0,
    max_lifetime: null,
    patienceMs: 10_000,
    onclose: () => {
      ends++;
      if (!ended) for (const listener of listeners) listener();
    },
  });
  return {
    query: pool as Query,
    /** Adds a listener that is called when the session has ended, or may have ended. */
    onEnd: (listener: () => void) => void listeners.push(listener),
    /** How many times the session has ended so far. */
    get ends(): number {
      return ends;
    },
    end(): Promise<void> {
      ended = true;
      return pool.end({ timeout: 2 });
    },
  };
}
