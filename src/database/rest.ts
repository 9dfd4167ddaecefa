/**
 * Under COLLECTA_IDLE=release a process leaves its database alone while nothing is due, so that a database which sleeps when
 * nobody asks it anything (Neon) can sleep. The dispatcher says when the rest begins, and how long it may last. Whatever else
 * would ask the database by itself looks here first.
 */
export type Rest = {
  /** No rest is longer. */
  readonly longestMs: number;
  /** No session is open, and none is to be opened without a reason from outside. */
  readonly resting: boolean;
  /** There may be work: a rest ends, or the next one does not begin. */
  noteWork(): void;
  /** The same, and tells those who listen: somebody outside said that there is work. */
  wake(): void;
  /** Calls `listener` at each `wake` until `signal` aborts. */
  onWake(listener: () => void, signal: AbortSignal): void;
  /** The database is about to be asked for work: what was noted before needs no other look. */
  look(): void;
  /** Rests until `ms` have passed, somebody notes work, or `signal` aborts. At once if work was noted since `look`. */
  during(ms: number, signal: AbortSignal): Promise<void>;
  /** Comes back when nobody rests, or when `signal` aborts. */
  over(signal: AbortSignal): Promise<void>;
};

/** `resting`: nobody looks for work here, so it is a rest all the time. */
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
