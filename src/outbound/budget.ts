/**
 * What all dispatchers of one process share: the places for requests, and the bytes of the bodies in memory. A dispatcher that
 * finds no place free stands in line for the next one, behind those that came before. So a database with a long queue takes all
 * the places that nobody else wants, and no more than its turn of those that others want too.
 */
export type Budget = {
  /** `onPlace` is called when a place is free for one that has stood in line. */
  join(onPlace: () => void): Share;
};

export type Share = {
  /** Whether a place is free. If not, this one stands in line from now on. */
  mayTake(): boolean;
  take(): void;
  giveBack(): void;
  /** One more request is in flight, or one fewer: those that need no place count too. */
  count(change: number): void;
  /** Whether there may be more requests that need no place. */
  readonly mayAdd: boolean;
  /** More bytes of bodies are in memory, or fewer. */
  hold(change: number): void;
  /** More of them are in flight to receivers that have not shown that they answer quickly, or fewer. */
  hang(change: number): void;
  readonly spareBytes: number;
  readonly spareHangingBytes: number;
  /** Leaves the line. */
  leave(): void;
};

/** To slow receivers, whose requests need no place. */
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
