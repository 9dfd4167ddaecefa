import { type Share, slowRequestsForEachPlace } from './budget.ts';

const slowAfterMs = 1_000;
const watchEveryMs = 250;
/** A body of at most this size is sent at once even to a receiver that has not answered yet. */
const smallBytes = 16 * 1024;
const maxQuick = 20_000;

type Request = { endpointId: string; bytes: number; startedAt: number; hasPlace: boolean };

export type Places = ReturnType<typeof createPlaces>;

/**
 * Decides which endpoint may begin a request now. A request needs a place, and there are COLLECTA_CONCURRENCY of them.
 * All endpoints that answer quickly share them; one endpoint takes four fifths at most. A request that takes longer
 * than a second gives its place back, so that a slow receiver delays nobody else. From then on its endpoint needs no
 * place, until it answers quickly again.
 *
 * Bytes are bounded as well, because a receiver that hangs keeps a body in memory for half a minute. All endpoints that
 * have not yet answered quickly may have half of the memory for bodies in flight together.
 *
 * The dispatchers of other databases in this process have a share of the same places and the same memory.
 */
export function createPlaces(share: Share, concurrency: number, onFreed: () => void) {
  const perEndpoint = Math.max(1, Math.ceil(concurrency * 0.8));
  const requests = new Set<Request>();
  const placesOf = new Map<string, number>(); // taken, by endpoint
  const bytesOf = new Map<string, number>(); // of the bodies in flight, by endpoint
  const slow = new Set<string>();
  const quick = new Set<string>();
  let free = concurrency;
  let hanging = 0; // bytes in flight of endpoints that are not known to be quick

  const add = (counts: Map<string, number>, id: string, change: number) => {
    const count = (counts.get(id) ?? 0) + change;
    if (count > 0) counts.set(id, count);
    else counts.delete(id);
  };

  function leavePlace(request: Request): void {
    if (!request.hasPlace) return;
    request.hasPlace = false;
    free++;
    add(placesOf, request.endpointId, -1);
    share.giveBack();
  }

  function becomeSlow(endpointId: string): void {
    slow.add(endpointId);
    if (quick.delete(endpointId)) hang(bytesOf.get(endpointId) ?? 0);
  }

  function becomeQuick(endpointId: string): void {
    slow.delete(endpointId);
    if (quick.has(endpointId)) return;
    // The bytes in flight of a quick endpoint are not counted as hanging, so one without a request is forgotten.
    if (quick.size >= maxQuick) for (const other of quick) if (!bytesOf.has(other) && quick.delete(other)) break;
    quick.add(endpointId);
    hang(-(bytesOf.get(endpointId) ?? 0));
  }

  function hang(change: number): void {
    hanging += change;
    share.hang(change);
  }

  // The timer runs only while something is in flight.
  let watch: NodeJS.Timeout | undefined;
  function look(): void {
    const before = performance.now() - slowAfterMs;
    let freed = false;
    for (const request of requests) {
      if (!request.hasPlace || request.startedAt >= before) continue;
      becomeSlow(request.endpointId);
      leavePlace(request);
      freed = true;
    }
    if (freed) onFreed();
    if (requests.size > 0) return;
    clearInterval(watch);
    watch = undefined;
  }

  /** Whether a request may not begin because too many bytes are in flight to receivers that may hang. */
  function isHeldBack(endpointId: string, bytes: number): boolean {
    if (quick.has(endpointId) || bytes <= smallBytes) return false;
    return hanging > 0 && bytes > share.spareHangingBytes;
  }

  return {
    isHeldBack,
    /** Whether a request with a body of so many bytes may begin. */
    mayBegin(endpointId: string, bytes: number): boolean {
      if (isHeldBack(endpointId, bytes)) return false;
      if (slow.has(endpointId)) return requests.size < concurrency * slowRequestsForEachPlace && share.mayAdd;
      return free > 0 && (placesOf.get(endpointId) ?? 0) < perEndpoint && share.mayTake();
    },
    /**
     * Takes what a request needs. The returned function gives it back; its argument is how long the answer took, or
     * null.
     */
    begin(endpointId: string, bytes: number): (tookMs: number | null) => void {
      const request = { endpointId, bytes, startedAt: performance.now(), hasPlace: !slow.has(endpointId) };
      requests.add(request);
      share.count(1);
      watch ??= setInterval(look, watchEveryMs);
      share.hold(bytes);
      add(bytesOf, endpointId, bytes);
      if (!quick.has(endpointId)) hang(bytes);
      if (request.hasPlace) {
        free--;
        share.take();
        add(placesOf, endpointId, 1);
      }
      return tookMs => {
        requests.delete(request);
        share.count(-1);
        share.hold(-bytes);
        if (!quick.has(endpointId)) hang(-bytes);
        add(bytesOf, endpointId, -bytes);
        if (tookMs !== null && tookMs < slowAfterMs) becomeQuick(endpointId);
        leavePlace(request);
      };
    },
    /** Whether its last request was slow. */
    isSlow: (endpointId: string): boolean => slow.has(endpointId),
    /** Whether its last request was quick. */
    isQuick: (endpointId: string): boolean => quick.has(endpointId),
    /** Whether no endpoint may begin a request: no place is free, and every endpoint needs one. */
    get full(): boolean {
      return free <= 0 && slow.size === 0;
    },
    /** The bytes of the bodies in flight to an endpoint. */
    bytes: (endpointId: string): number => bytesOf.get(endpointId) ?? 0,
    /** The endpoints that have a request in flight. */
    endpoints: (): Iterable<string> => bytesOf.keys(),
    get requests(): number {
      return requests.size;
    },
    close(): void {
      clearInterval(watch);
      share.leave();
    },
  };
}
