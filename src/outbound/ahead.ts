import type { Share } from './budget.ts';
import type { Delivery, Room } from './claim.ts';
import type { Places } from './places.ts';

const maxDeliveries = 300;
/** How many deliveries of one slow endpoint wait here at most. It is enough to keep that endpoint busy. */
const maxOfSlow = 20;
const maxClaimBytes = 8 * 1024 * 1024;

type Waiting = { delivery: Delivery; beginBefore: number; beginBeforeClock: number };
type Queue = { waiting: Waiting[]; bytes: number };

/**
 * Deliveries that are claimed and have not begun. They are claimed ahead so that requests never wait for the database.
 * Endpoints take turns. A delivery leaves in one of two ways: its request begins, or it is given back to the queue. It
 * is given back when its request could no longer end within the lease, when its turn at an endpoint with a rate is
 * over, and when its endpoint turns out to be slow while memory is short. `waitMs` is how long it may wait here.
 */
export function createAhead(places: Places, share: Share, concurrency: number, waitMs: () => number) {
  const queues = new Map<string, Queue>(); // by endpoint: the first in the map is served next
  const limit = Math.min(maxDeliveries, Math.max(concurrency * 6, 30));
  /**
   * Endpoints whose deliveries were given back for lack of memory, with the size of the first one. Claims leave them
   * out.
   */
  const setBack = new Map<string, number>();
  let count = 0;
  let leftOut = 0; // how many endpoints the last claim left out

  /** Takes the first delivery out of a queue, which is removed when it is empty. */
  function takeFirst(endpointId: string, queue: Queue): Delivery {
    const { delivery } = queue.waiting.shift()!;
    count--;
    share.hold(-delivery.bytes);
    queue.bytes -= delivery.bytes;
    if (queue.waiting.length === 0) queues.delete(endpointId);
    return delivery;
  }

  /** How many more deliveries fit. Deliveries that wait for slow receivers are not counted. */
  function freeRows(): number {
    let waiting = 0;
    for (const [endpointId, queue] of queues) if (!places.isSlow(endpointId)) waiting += queue.waiting.length;
    return limit - waiting;
  }

  function hasEnough(endpointId: string): boolean {
    const { waiting = [], bytes = 0 } = queues.get(endpointId) ?? {};
    const most = places.isQuick(endpointId) ? share.maxBytes / 2 : share.maxBytes / 16;
    return bytes + places.bytes(endpointId) >= most || (places.isSlow(endpointId) && waiting.length >= maxOfSlow);
  }

  /** The endpoints that the next claim leaves out. */
  function except(): string[] {
    for (const [endpointId, bytes] of setBack) if (!places.isHeldBack(endpointId, bytes)) setBack.delete(endpointId);
    const holding = new Set([...queues.keys(), ...places.endpoints()]);
    return [...new Set([...setBack.keys(), ...[...holding].filter(hasEnough)])];
  }

  return {
    add(deliveries: readonly Delivery[]): void {
      const [now, clock] = [performance.now(), Date.now()];
      for (const delivery of deliveries) {
        // Two clocks are read, since one stands still while the machine sleeps and the other may be set.
        const leftMs = Math.min(
          waitMs() - (now - delivery.claimedAt),
          delivery.beginWithinMs ?? Number.POSITIVE_INFINITY,
        );
        const queue = queues.get(delivery.endpoint.id) ?? { waiting: [], bytes: 0 };
        queues.set(delivery.endpoint.id, queue);
        queue.waiting.push({ delivery, beginBefore: now + leftMs, beginBeforeClock: clock + leftMs });
        queue.bytes += delivery.bytes;
        count++;
        share.hold(delivery.bytes);
      }
    },
    /** Takes one delivery of each endpoint that may begin one, in turn, until none may. */
    take(begin: (delivery: Delivery) => void): void {
      for (const [endpointId, queue] of queues) {
        if (places.full) return;
        if (!places.mayBegin(endpointId, queue.waiting[0]!.delivery.bytes)) continue;
        const next = takeFirst(endpointId, queue);
        // The endpoint goes to the end of the map, which this loop reaches later.
        if (queues.delete(endpointId)) queues.set(endpointId, queue);
        begin(next);
      }
    },
    /** Takes out the deliveries that must be given back now. */
    takeOverdue(): Delivery[] {
      const [now, clock] = [performance.now(), Date.now()];
      const memoryIsShort = share.spareBytes < maxClaimBytes;
      const isOld = ({ beginBefore, beginBeforeClock }: Waiting) => beginBefore <= now || beginBeforeClock <= clock;
      const overdue: Delivery[] = [];
      for (const [endpointId, queue] of queues) {
        const { waiting } = queue;
        const { bytes } = waiting[0]!.delivery;
        const mustGo = memoryIsShort && (places.isSlow(endpointId) || places.isHeldBack(endpointId, bytes));
        if (mustGo) setBack.set(endpointId, bytes);
        while (waiting.length > 0 && (mustGo || isOld(waiting[0]!))) overdue.push(takeFirst(endpointId, queue));
      }
      return overdue;
    },
    takeAll: (): Delivery[] =>
      [...queues].flatMap(([endpointId, queue]) => [...queue.waiting].map(() => takeFirst(endpointId, queue))),
    /** What the next claim may bring. */
    get room(): Room {
      const deliveries = freeRows();
      const leaveOut = except();
      leftOut = leaveOut.length;
      return {
        deliveries,
        bytes: Math.min(maxClaimBytes, share.spareBytes),
        perEndpoint: Math.ceil(deliveries * 0.8),
        except: leaveOut,
      };
    },
    /** Whether there is enough room to make a claim worth its round trip. */
    get worthAClaim(): boolean {
      return freeRows() >= (limit * 2) / 3 && share.spareBytes >= maxClaimBytes / 2;
    },
    /** Whether an endpoint that the last claim left out may be claimed for again. */
    get wantsMore(): boolean {
      return leftOut > 0 && except().length < leftOut;
    },
    get count(): number {
      return count;
    },
  };
}
