import type { Bell } from './bell.ts';
import type { Claim } from './claim.ts';
import type { Wakeup } from './wakeup.ts';

/**
 * Decides when the runner claims again. The rhythm is always in one of these modes, and each claim leads to the next
 * mode:
 *
 * - `busy`: the claim found work, so there may be more. The next claim follows as soon as there is room for what it
 *   may bring. After three such claims in a row the runner releases the wake lock, so that writers stop notifying it.
 *   If more was due than one claim takes, the runner wakes the other runners, once a second at most.
 * - `lingering`: the claim found work, and the runner still holds the wake lock, so writers notify. The next claim
 *   follows after 10 ms, or with a notification. Taking and releasing the lock for each single change would cost more.
 * - `saturated`: deliveries are due that may begin only after something in flight was recorded, here or by another
 *   runner. Recording it here rings the bell. Otherwise the runner looks after 1, 2, 4 … 50 ms, or within the poll
 *   interval if writers notify.
 * - `waiting`: the next delivery is due at a known time.
 * - `drowsy`: nothing was found. The runner tries to take the wake lock, so that writers notify. If an open
 *   transaction of a writer has seen the runner awake, the runner looks again after 1, 2, 4 … 50 ms.
 * - `checking`: writers notify from now on. One more claim looks at everything, in case something was committed
 *   before that.
 * - `asleep`: nothing is due, and every writer notifies this runner or another one that sleeps. The next claim
 *   follows when the bell rings, or after the poll interval: nothing ever waits longer than that. Where notifications
 *   do not come through, this is polling.
 */
type Mode = 'busy' | 'lingering' | 'saturated' | 'waiting' | 'drowsy' | 'checking' | 'asleep';

/** What a claim says about the next one: when to look again, and no later than after `waitMs`. */
type Found = Pick<Claim, 'next' | 'waitMs'>;

const lingerMs = 10;
const busyClaimsBeforeLettingGo = 3;
const callOthersEveryMs = 1_000;
const longestFailurePauseMs = 5_000;

export function createRhythm(bell: Bell, wakeup: Wakeup, pollIntervalMs: number, callOthers: () => void) {
  let mode: Mode = 'checking';
  let busyClaims = 0;
  let shortWaits = 0; // how many waits of 1, 2, 4 … ms in a row
  let failures = 0;
  let calledOthersAt = Number.NEGATIVE_INFINITY;

  function modeAfter({ next }: Found): Mode {
    if (next === 'soon') return wakeup.holds && !bell.rung ? 'lingering' : 'busy';
    if (next === 'now') return 'busy';
    if (next === 'when_recorded') return 'saturated';
    if (next === 'wait') return 'waiting';
    return wakeup.holds ? 'asleep' : 'drowsy';
  }

  const waitShortly = () => bell.wait(Math.min(2 ** shortWaits++, 50, pollIntervalMs));

  async function becomeBusy(more: boolean): Promise<void> {
    shortWaits = 0;
    if (++busyClaims >= busyClaimsBeforeLettingGo) await wakeup.letGo();
    if (!more || wakeup.holds || performance.now() - calledOthersAt < callOthersEveryMs) return;
    calledOthersAt = performance.now();
    callOthers();
  }

  async function fallAsleep(withinMs: number): Promise<void> {
    const answer = await wakeup.trySleep();
    if (answer === 'held') mode = 'checking';
    else if (answer === 'refused' && wakeup.listens) await waitShortly();
    else {
      mode = 'asleep';
      await bell.wait(withinMs);
    }
  }

  return {
    /** Whether the next claim is to look at everything. */
    get everything(): boolean {
      return mode === 'checking';
    },
    /** Waits until it is time for the next claim. */
    async after(found: Found): Promise<void> {
      failures = 0;
      mode = modeAfter(found);
      const withinMs = Math.min(found.waitMs ?? pollIntervalMs, pollIntervalMs);
      if (mode !== 'busy' && mode !== 'saturated') busyClaims = 0;
      if (mode === 'busy') await becomeBusy(found.next === 'now');
      else if (mode === 'lingering') await bell.wait(Math.min(lingerMs, withinMs));
      else if (mode === 'saturated') await (wakeup.holds ? bell.wait(withinMs) : waitShortly());
      else if (mode === 'drowsy') await fallAsleep(withinMs);
      else await bell.wait(Math.max(withinMs, mode === 'waiting' && wakeup.holds ? lingerMs : 1));
    },
    /** The same after a claim that failed. */
    async afterFailure(): Promise<void> {
      mode = 'checking';
      await bell.wait(Math.min(100 * 2 ** failures++, longestFailurePauseMs));
    },
  };
}
