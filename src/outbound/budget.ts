/**
 * The places for requests and the bytes of bodies in memory, which all dispatchers of one process share. A dispatcher
 * that finds no free place waits in line for the next one. So a database with a long queue uses the places that nobody
 * else wants, and takes turns for the others.
 */
export type Budget = {
  /** `onPlace` is called when it is this dispatcher's turn for a free place. */
  join(onPlace: () => void): Share;
};

export type Share = {
  /** Whether a place is free. If none is, this dispatcher waits in line from now on. */
  mayTake(): boolean;
  take(): void;
  giveBack(): void;
  /** Adds to the number of requests in flight, also those that need no place. */
  count(change: number): void;
  /** Whether there may be more requests that need no place. */
  readonly mayAdd: boolean;
  /** Adds to the bytes of bodies in memory. */
  hold(change: number): void;
  /** Adds to the bytes in flight to receivers that have not yet answered quickly. */
  hang(change: number): void;
  readonly spareBytes: number;
  readonly spareHangingBytes: number;
  /** Leaves the line. */
  leave(): void;
};

/** How many requests may be in flight, for each place: those to slow receivers need no place. */
export const slowRequestsForEachPlace = 10;

export function createBudget(places: number, bytes: number): Budget {
  const waiting = new Set<() => void>();
  let free = places;
  let requests = 0;
  let held = 0;
  let hanging = 0;

  return {
    join: onPlace => ({
      mayTake() {
        if (free > 0) return true;
        waiting.add(onPlace);
        return false;
      },
      take() {
        free--;
      },
      giveBack() {
        free++;
        for (const next of waiting) {
          if (free <= 0) return;
          waiting.delete(next);
          next();
        }
      },
      count(change) {
        requests += change;
      },
      get mayAdd() {
        return requests < places * slowRequestsForEachPlace;
      },
      hold(change) {
        held += change;
      },
      hang(change) {
        hanging += change;
      },
      get spareBytes() {
        return bytes - held;
      },
      get spareHangingBytes() {
        return bytes / 2 - hanging;
      },
      leave: () => void waiting.delete(onPlace),
    }),
  };
}
