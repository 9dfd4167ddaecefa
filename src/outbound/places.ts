import { type Share, slowRequestsForEachPlace } from './budget.ts';

/**
 * Decides which endpoint may begin a request now. A request needs a place, and there are COLLECTA_CONCURRENCY of them.
 * All endpoints that answer quickly share them; one endpoint takes four fifths at most. A request that takes longer
 * than a second gives its place back, so that a slow receiver delays nobody else. From then on its endpoint needs no
 * place, until it answers quickly again.
 *
 * Bytes are bounded as well, because a receiver that hangs keeps a body in memory for half a minute. All endpoints that
 * have not yet answered quickly may have `hangingBytes` of bodies in flight together.
 *
 * The dispatchers of other databases in this process share the places and the bytes, through `share`.
 */
export type Places = {
  /** Whether a request with a body of so many bytes may begin. */
  mayBegin(endpointId: string, bytes: number): boolean;
  /** Whether it may not because too many bytes are in flight to receivers that may hang. */
  isHeldBack(endpointId: string, bytes: number): boolean;
  /**
   * Takes what a request needs. The returned function gives it back; its argument is how long the answer took, or null.
   */
  begin(endpointId: string, bytes: number): (tookMs: number | null) => void;
  /** Whether its last request was slow. */
  isSlow(endpointId: string): boolean;
  /** Whether its last request was quick. */
  isQuick(endpointId: string): boolean;
  /** Whether only requests of slow endpoints may begin. */
  readonly full: boolean;
  /** Bytes of the bodies in flight, of all endpoints or of one. */
  bytes(endpointId?: string): number;
  /** The endpoints that have a request in flight. */
  endpoints(): Iterable<string>;
  readonly requests: number;
  close(): void;
};

const slowAfterMs = 1_000;
const watchEveryMs = 250;
/** A body of at most this size is sent at once even to a receiver that has not answered yet. */
const smallBytes = 16 * 1024;

type Request = { endpointId: string; bytes: number; startedAt: number; hasPlace: boolean };

export function createPlaces(share: Share, concurrency: number, hangingBytes: number, onFreed: () => void): Places {
  const perEndpoint = Math.max(1, Math.ceil(concurrency * 0.8));
  const requests = new Set<Request>();
  const placesOf = new Map<string, number>(); // taken, by endpoint
  const bytesOf = new Map<string, number>();
  const slow = new Set<string>();
  const quick = new Set<string>();
  let free = concurrency;
  let total = 0;
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

  function become(endpointId: string, isQuick: boolean): void {
    if (isQuick) slow.delete(endpointId);
    else slow.add(endpointId);
    if (quick.has(endpointId) === isQuick) return;
    if (quick.size >= 20_000) quick.clear();
    if (isQuick) quick.add(endpointId);
    else quick.delete(endpointId);
    hang((bytesOf.get(endpointId) ?? 0) * (isQuick ? -1 : 1));
  }

  function hang(change: number): void {
    hanging += change;
    share.hang(change);
  }

  function hold(change: number): void {
    total += change;
    share.hold(change);
  }

  // The timer runs only while something is in flight.
  let watch: NodeJS.Timeout | undefined;
  function look(): void {
    const before = performance.now() - slowAfterMs;
    let freed = false;
    for (const request of requests) {
      if (!request.hasPlace || request.startedAt >= before) continue;
      become(request.endpointId, false);
      leavePlace(request);
      freed = true;
    }
    if (freed) onFreed();
    if (requests.size > 0) return;
    clearInterval(watch);
    watch = undefined;
  }

  function isHeldBack(endpointId: string, bytes: number): boolean {
    if (quick.has(endpointId) || bytes <= smallBytes) return false;
    return hanging > 0 && bytes > Math.min(hangingBytes - hanging, share.spareHangingBytes);
  }

  return {
    isHeldBack,
    mayBegin(endpointId, bytes) {
      if (isHeldBack(endpointId, bytes)) return false;
      if (slow.has(endpointId)) return requests.size < concurrency * slowRequestsForEachPlace && share.mayAdd;
      return free > 0 && (placesOf.get(endpointId) ?? 0) < perEndpoint && share.mayTake();
    },
    begin(endpointId, bytes) {
      const request = { endpointId, bytes, startedAt: performance.now(), hasPlace: !slow.has(endpointId) };
      requests.add(request);
      share.count(1);
      watch ??= setInterval(look, watchEveryMs);
      hold(bytes);
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
        hold(-bytes);
        if (!quick.has(endpointId)) hang(-bytes);
        add(bytesOf, endpointId, -bytes);
        if (tookMs !== null && tookMs < slowAfterMs) become(endpointId, true);
        leavePlace(request);
      };
    },
    isSlow: endpointId => slow.has(endpointId),
    isQuick: endpointId => quick.has(endpointId),
    get full() {
      return free <= 0 && slow.size === 0;
    },
    bytes: endpointId => (endpointId === undefined ? total : (bytesOf.get(endpointId) ?? 0)),
    endpoints: () => bytesOf.keys(),
    get requests() {
      return requests.size;
    },
    close() {
      clearInterval(watch);
      share.leave();
    },
  };
}
