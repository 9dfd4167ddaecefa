import { z } from 'zod';
import type { Pool } from '../database/pool.ts';
import { createKeyring, headersOf, MissingKey } from '../secrets/keyring.ts';
import { parseSecret, type SigningKey } from '../secrets/sign.ts';

export type Endpoint = {
  id: string;
  url: string;
  headers: Record<string, string>;
  keys: SigningKey[];
  /** Why nothing can be signed for it: its secret was damaged in the database. */
  unusable?: string;
};

/** One delivery that is this runner's until its lease ends. */
export type Delivery = {
  deliveryId: string;
  /** When it ends, in microseconds since 1970: names the claim. */
  lease: string;
  eventId: string;
  body: string;
  ordered: boolean;
  endpoint: Endpoint;
  claimedAt: number;
  /** Its endpoint has more that is due than max_in_flight lets through: look again when this one is recorded. */
  more: boolean;
};

export type Claim = {
  deliveries: Delivery[];
  /** Claimed, but their endpoint's secret is sealed by a key that is not here: to be given back. */
  locked: Pick<Delivery, 'deliveryId' | 'lease'>[];
  /** Changes routed; -1: another runner was routing. */
  routed: number;
  /** Whether there may be more right now. */
  full: boolean;
  /** Nothing was found although everything was looked at: only then may a runner sleep. */
  drained: boolean;
};

// Its types are the function's; checking each would cost a twentieth of a delivery.
type DeliveryRow = {
  delivery_id: string;
  lease: string;
  endpoint_id: string;
  event_id: string;
  body: string;
  ordered: boolean;
};
const statusRow = z.object({
  routed: z.number(),
  next_change: z.string().nullable(),
  /** Null: this claim took the short way. */
  snapshot: z.string().nullable(),
  endpoints: z
    .array(
      z
        .object({
          endpoint_id: z.string(),
          url: z.string(),
          headers: z.union([z.record(z.string(), z.string()), z.string()]),
          secrets: z.array(z.string()),
        })
        // Somebody deleted its secret: nothing is sent for it, and the others go on.
        .nullable(),
    )
    .nullable(),
  next_marks: z.record(z.string(), z.string()).nullable(),
  saturated: z.array(z.string()).nullable(),
});

const routeLimit = 250;
// The short way is for few deliveries. It sees no retries, so it is taken for a moment only; where it led nowhere it is left alone.
const shortWayDeliveries = 8;
const shortWayAgainMs = 1_000;
const shortWayForMs = 50;
const maxMarks = 100;
const lastPatienceMs = 600_000;
const canceled = '57014';
/** Where PostgreSQL found no partition for a row: not the change's fault, but maintain()'s. */
export const noPartition = 'ExecFindPartition';

/**
 * Calls collecta.claim_deliveries and keeps its hints: where dead rows end in the outbox and the queue, and whose turn is
 * next. They are hints only: the whole is looked at when nothing was found, and while busy every second or 20 times as long
 * as that took. When routing fails, takes ever smaller batches down to the one change that fails, and sets that aside.
 */
export function createClaimer(
  pool: Pool,
  environment: string | null,
  patienceMs = 10_000,
  keyring = createKeyring(undefined),
) {
  const known = new Map<string, { source: string; endpoint: Endpoint }>();
  const marks = new Map<string, string>();
  let fromChange = '0';
  // A writer that was in flight when fromChange passed it may have captured something before it. Once all of these have ended
  // and the whole was looked at, nothing can appear there any more: settled.
  let settled = '0';
  let unsettled: { change: string; nextXid: bigint } | undefined;
  let oldestXid = 0n;
  let afterEndpoint = '';
  let limit = routeLimit;
  let wholeAt = Number.NEGATIVE_INFINITY;
  let wholeCost = 0;
  let busy = false;
  let routing = false;
  let more = false; // was due than the last claim could take
  let shortSince: number | undefined; // no other claim since
  let shortAgainAt = 0;

  /** Undefined where the key is missing. */
  function endpointOf(
    row: NonNullable<NonNullable<z.infer<typeof statusRow>['endpoints']>[number]>,
  ): Endpoint | undefined {
    const source = JSON.stringify([row.url, row.headers, row.secrets]);
    const found = known.get(row.endpoint_id);
    if (found?.source === source) return found.endpoint;
    if (known.size >= 20_000) known.clear();
    let endpoint: Endpoint = { id: row.endpoint_id, url: row.url, headers: {}, keys: [] };
    try {
      const open = (stored: string) => keyring.open(stored, row.endpoint_id);
      const given =
        typeof row.headers === 'string'
          ? JSON.parse(keyring.open(row.headers, headersOf(row.endpoint_id)))
          : row.headers;
      const headers = Object.fromEntries(
        Object.entries<string>(given).map(([name, value]) => [name.toLowerCase(), value]),
      );
      endpoint = { ...endpoint, headers, keys: row.secrets.map(secret => parseSecret(open(secret))) };
    } catch (error) {
      if (error instanceof MissingKey) return undefined;
      endpoint.unusable = (error as Error).message;
    }
    known.set(row.endpoint_id, { source, endpoint });
    return endpoint;
  }

  // Cancelled by the pool and not by statement_timeout, which a pooler would refuse as a parameter of the connection.
  function call({
    batch = 0,
    perEndpoint = 0,
    routeAtMost = limit,
    whole = false,
    start = undefined as string | undefined,
    skipFilters = null as string | null,
    setAside = null as string | null,
    atOnce = 0,
  }) {
    const from = start ?? (whole ? '0' : fromChange);
    const hints = whole ? '{}' : JSON.stringify(Object.fromEntries(marks));
    const isolated = skipFilters !== null || setAside !== null;
    return pool.within(isolated ? lastPatienceMs : patienceMs)`
      select * from collecta.claim_deliveries(${batch}, ${routeAtMost}, ${from}, ${afterEndpoint}, ${hints}::text::jsonb, ${perEndpoint},
        ${environment}, ${skipFilters}, ${setAside}, ${isolated ? from : settled}, ${atOnce})`;
  }

  /** Shrinks the batch until it is one change; then sets aside what its filters would judge, then the change itself. */
  async function callOrIsolate(batch: number, perEndpoint: number, whole: boolean, atOnce: number) {
    let reason = '';
    let start: string | undefined;
    for (let aside: 'nothing' | 'filters' | 'change' = 'nothing'; ; ) {
      try {
        // By its number: it is not the one that stands first when it is set aside, where another runner did so meanwhile.
        if (limit === 1 && start === undefined)
          start = (await call({ whole, routeAtMost: 0 })).find(row => row.routed !== null)?.next_change ?? undefined;
        const rows = await call({
          batch,
          perEndpoint,
          whole,
          start,
          skipFilters: aside === 'filters' ? reason : null,
          setAside: aside === 'change' ? reason : null,
          atOnce: limit === routeLimit ? atOnce : 0,
        });
        const asked = limit;
        limit = aside === 'nothing' ? Math.min(routeLimit, limit * 2) : 1;
        return { rows, asked };
      } catch (error) {
        const { code, message, routine } = error as { code?: string; message: string; routine?: string };
        // Of the data: a value, a limit, memory, time. Anything else is not the change's fault.
        const alone = limit === 1 && start === undefined; // no change there to blame
        if (alone || aside === 'change' || routine === noPartition || !/^(2[0-9]|54|53200|57014)/.test(code ?? '')) {
          // Where the database went, it may come back as another one.
          fromChange = '0';
          settled = '0';
          unsettled = undefined;
          marks.clear();
          throw error;
        }
        reason = code === canceled ? 'it took too long to route' : message;
        if (limit > 1) limit = Math.ceil(limit / 4);
        else aside = aside === 'nothing' ? 'filters' : 'change';
      }
    }
  }

  /**
   * At most `batch` deliveries, at most `perEndpoint` of one endpoint. `changed`: somebody committed a change. `due`: something
   * else became due. `everything`: hints are not to be trusted. Throws the database's errors.
   */
  return async function claim(
    batch: number,
    perEndpoint: number,
    { changed = false, due = false, everything = false } = {},
  ): Promise<Claim> {
    const started = performance.now();
    const short =
      (changed || routing) &&
      !(due || more || everything) &&
      Math.min(batch, perEndpoint) >= shortWayDeliveries &&
      started >= shortAgainAt &&
      started - (shortSince ?? started) < shortWayForMs;
    const whole =
      !short && (everything || started - wholeAt > (busy ? Math.max(1_000, 20 * wholeCost) : 4 * wholeCost));
    const { rows, asked } = await callOrIsolate(batch, perEndpoint, whole, short ? shortWayDeliveries : 0);
    const status = statusRow.parse(rows.find(row => row.routed !== null));
    if (whole) {
      wholeAt = started;
      wholeCost = performance.now() - started;
    }
    const endpoints = new Map(status.endpoints?.flatMap(row => (row ? [[row.endpoint_id, endpointOf(row)]] : [])));
    const saturated = new Set(status.saturated);
    const claimedAt = performance.now();
    const deliveries: Delivery[] = [];
    const locked: Claim['locked'] = [];
    for (const row of rows) {
      if (row.delivery_id === null) continue;
      const { delivery_id, lease, endpoint_id, event_id, body, ordered } = row as DeliveryRow;
      const endpoint = endpoints.get(endpoint_id);
      const claimed = { deliveryId: delivery_id, lease, eventId: event_id, body, ordered, claimedAt };
      if (endpoint) deliveries.push({ ...claimed, endpoint, more: saturated.has(endpoint_id) });
      else if (endpoints.has(endpoint_id)) locked.push(claimed);
    }
    for (const [id, mark] of Object.entries(status.next_marks ?? {})) {
      marks.delete(id);
      marks.set(id, mark);
      if (marks.size > maxMarks) marks.delete(marks.keys().next().value!);
    }
    // Unless it was cut off, what a look at the whole found says nothing of where dead rows end.
    const { next_change: next } = status;
    if (next !== null && (status.routed >= asked || Number(next) > Number(fromChange))) fromChange = next;
    if (whole && unsettled && oldestXid >= unsettled.nextXid && status.routed >= 0 && status.routed < asked) {
      settled = unsettled.change;
      unsettled = undefined;
    }
    if (status.snapshot === null) shortSince ??= started;
    else {
      shortSince = undefined;
      if (short && status.routed > 0) shortAgainAt = started + shortWayAgainMs;
      const [oldest, nextXid] = status.snapshot.split(':', 2).map(BigInt);
      unsettled ??= { change: fromChange, nextXid: nextXid! };
      oldestXid = oldest!;
    }

    const cut = deliveries.length + locked.length >= batch;
    const ids = [...endpoints.keys()].sort();
    // Turns go on after the last endpoint that was served, beyond the end from the beginning.
    afterEndpoint = cut ? (ids.findLast(id => id <= afterEndpoint) ?? ids.at(-1) ?? '') : '';
    busy = cut || deliveries.length > 0 || locked.length > 0 || status.routed > 0;
    const full = cut || status.routed >= asked;
    routing = status.routed > 0;
    more = full || saturated.size > 0;
    return { deliveries, locked, routed: status.routed, full, drained: whole && !busy && status.routed === 0 };
  };
}
