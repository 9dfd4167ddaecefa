/**
 * With COLLECTA_IDLE=release a process sends nothing to its database while nothing is due, so that a database which
 * sleeps without queries (Neon) can sleep. This is a rest. The dispatcher decides when a rest begins and how long it
 * may last. Other code that queries the database by itself checks here first.
 */
export type Rest = {
  /** The longest time that a rest may last. */
  readonly longestMs: number;
  /** Whether it rests. Then no session is open, and none may be opened without a reason from outside. */
  readonly resting: boolean;
  /** Says that there may be work. It ends the rest, or prevents the next one. */
  noteWork(): void;
  /** Does what `noteWork` does and calls the listeners, because somebody outside said that there is work. */
  wake(): void;
  /** Calls `listener` at each `wake` until `signal` aborts. */
  onWake(listener: () => void, signal: AbortSignal): void;
  /** Forgets the work that was noted, because the caller is about to ask the database for work. */
  look(): void;
  /**
   * Rests until `ms` have passed, work is noted, or `signal` aborts. Returns at once if work was noted since `look`.
   */
  during(ms: number, signal: AbortSignal): Promise<void>;
  /** Resolves when no rest is under way, or when `signal` aborts. */
  over(signal: AbortSignal): Promise<void>;
};

/** With `resting` it rests from the start, for a process in which nobody looks for work. */
export function createRest(longestMs: number, resting = false): Rest {
  const listeners = new Set<() => void>();
  let waiting: (() => void)[] = []; // for the end of a rest
  let noted = false;
  let end = () => {};

  const noteWork = () => {
    noted = true;
    end();
  };

  return {
    longestMs,
    get resting() {
      return resting;
    },
    noteWork,
    wake() {
      noteWork();
      for (const listener of listeners) listener();
    },
    onWake(listener, signal) {
      listeners.add(listener);
      signal.addEventListener('abort', () => listeners.delete(listener), { once: true });
    },
    look() {
      noted = false;
    },
    async during(ms, signal) {
      if (noted || signal.aborted) return;
      resting = true;
      await new Promise<void>(done => {
        const timer = setTimeout(done, ms);
        end = () => {
          clearTimeout(timer);
          done();
        };
        signal.addEventListener('abort', end, { once: true });
      });
      signal.removeEventListener('abort', end);
      resting = false;
      for (const done of waiting) done();
      waiting = [];
    },
    async over(signal) {
      if (!resting || signal.aborted) return;
      await new Promise<void>(resolve => {
        const done = () => {
          signal.removeEventListener('abort', done);
          resolve();
        };
        waiting.push(done);
        signal.addEventListener('abort', done, { once: true });
      });
    },
  };
}
