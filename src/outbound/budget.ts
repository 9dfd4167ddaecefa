/**
 * The bodies of the whole process, claimed ahead and in flight, have at most this size. The memory used is about three
 * times as much, since each body is a string and the bytes that are being sent.
 */
const maxBodyBytes = 64 * 1024 * 1024;

/** How many requests may be in flight, for each place: those to slow receivers need no place. */
export const slowRequestsForEachPlace = 10;

export type Budget = ReturnType<typeof createBudget>;
export type Share = ReturnType<Budget['join']>;

/**
 * The places for requests and the bytes of bodies in memory, which all dispatchers of one process share. A dispatcher
 * that finds no free place waits in line for the next one. So a database with a long queue uses the places that nobody
 * else wants, and takes turns for the others.
 */
export function createBudget(places: number, maxBytes = maxBodyBytes) {
  const waiting = new Set<() => void>();
  let free = places;
  let requests = 0;
  let held = 0;
  let hanging = 0;

  return {
    /** `onPlace` is called when it is this dispatcher's turn for a free place. */
    join: (onPlace: () => void) => ({
      /** Whether a place is free. If none is, this dispatcher waits in line from now on. */
      mayTake(): boolean {
        if (free > 0) return true;
        waiting.add(onPlace);
        return false;
      },
      take(): void {
        free--;
      },
      giveBack(): void {
        free++;
        for (const next of waiting) {
          if (free <= 0) return;
          waiting.delete(next);
          next();
        }
      },
      /** Adds to the number of requests in flight, also those that need no place. */
      count(change: number): void {
        requests += change;
      },
      /** Whether there may be more requests that need no place. */
      get mayAdd(): boolean {
        return requests < places * slowRequestsForEachPlace;
      },
      /** Adds to the bytes of bodies in memory. */
      hold(change: number): void {
        held += change;
      },
      /** Adds to the bytes in flight to receivers that have not yet answered quickly. They may be half of all. */
      hang(change: number): void {
        hanging += change;
      },
      maxBytes,
      get spareBytes(): number {
        return maxBytes - held;
      },
      get spareHangingBytes(): number {
        return maxBytes / 2 - hanging;
      },
      /** Leaves the line. */
      leave(): void {
        waiting.delete(onPlace);
      },
    }),
  };
}
