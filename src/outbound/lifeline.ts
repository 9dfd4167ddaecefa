import { setTimeout as pause } from 'node:timers/promises';
import type { Log } from '../log.ts';
import type { StandingSession } from './session.ts';

const retryMs = 1_000;
const triesOfOneNumber = 10;
const stillHeld = '55P03';

/**
 * The lifeline shows other runners that this one lives. It is an advisory lock on the runner's number, and each lease
 * notes that number. When the process ends, for whatever reason, the server releases the lock, and other runners take
 * over its leases within seconds. A frozen or cut-off runner keeps the lock until its leases have ended.
 *
 * `runner` is null while the lock is not held. A delivery that is claimed then is taken over when its lease ends.
 */
export function createLifeline(session: StandingSession, leaseMs: () => number, log: Log) {
  const closing = new AbortController();
  const { signal } = closing;
  let number: number | null = null;
  let held = false;
  let wanted = false;
  let taking = false;

  async function take(): Promise<void> {
    if (taking || !wanted) return;
    taking = true;
    for (let tries = 1; !held && !signal.aborted; tries++) {
      // The server may hold the lock for our former session until it notices that this session has ended.
      if (tries > triesOfOneNumber) number = null;
      try {
        const { ends } = session;
        // The server keeps the session of a host that has vanished longer than any lease, so that nobody takes over a
        // delivery that a runner may still be sending while it is only cut off. TCP's default would be hours, during
        // which writers would notify a runner that no longer exists.
        const idleMs = Math.ceil(leaseMs());
        const [row] = await session.query`
          select collecta.hold_lifeline(${number}::int) as runner,
            pg_catalog.set_config('tcp_keepalives_idle', ${String(Math.ceil(idleMs / 1000))}, false),
            pg_catalog.set_config('tcp_keepalives_interval', '5', false),
            pg_catalog.set_config('tcp_keepalives_count', '3', false),
            pg_catalog.set_config('tcp_user_timeout', ${String(idleMs + 15_000)}, false)`;
        number = row!.runner as number;
        // The session may have ended after it answered.
        held = session.ends === ends;
        if (held) log.info('lifeline held', { runner: number });
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        if (code !== stillHeld && tries === 1) log.warn('the lifeline could not be held', { code, message });
        await pause(retryMs, undefined, { signal }).catch(() => {});
      }
    }
    taking = false;
  }

  session.onEnd(() => {
    held = false;
    take();
  });

  return {
    get runner(): number | null {
      return held ? number : null;
    },
    /** Takes the lock, and takes it again whenever its session ends. */
    hold(): void {
      wanted = true;
      take();
    },
    close: (): void => closing.abort(),
  };
}
