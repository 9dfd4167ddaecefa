import { z } from 'zod';
import type { Pool } from '../database/pool.ts';
import type { Log } from '../log.ts';
import { createKeyring, headersOf, type Keyring, MissingKey } from '../secrets/keyring.ts';
import { parseSecret, type SigningKey } from '../secrets/sign.ts';
import { createIsolator } from './isolate.ts';

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
  id: number;
  /** When it ends, in microseconds since 1970: names the claim. */
  lease: number;
  eventId: string;
  body: string;
  /** The size of the body. */
  bytes: number;
  /** Another delivery waits until this one is recorded: record it at once, and claim again then. */
  awaited: boolean;
  /** Only for an endpoint with a rate: give the delivery back if it cannot begin so soon after the claim. */
  beginWithinMs: number | null;
  endpoint: Endpoint;
  /** performance.now() before the claim was sent: the lease runs at least from then. */
  claimedAt: number;
};

/** What fits: so many deliveries and bytes, so many of one endpoint, and none of some endpoints. */
export type Room = { deliveries: number; bytes: number; perEndpoint: number; except?: string[] };

/**
 * When to look again. `now`: there is more than fitted. `soon`: something was found, nothing more is known.
 * `when_recorded`: what is due waits for what is in flight. `wait`: after `waitMs`. `sleep`: everything was looked at
 * and nothing is there.
 */
export type Next = 'now' | 'soon' | 'when_recorded' | 'wait' | 'sleep';

export type Claim = {
  deliveries: Delivery[];
  /** Claimed, but their endpoint's secret is sealed by a key that is not here: to be given back. */
  locked: Pick<Delivery, 'id' | 'lease'>[];
  /** Changes routed; -1: another runner was routing. */
  routed: number;
  leaseMs: number;
  next: Next;
  /** Look again no later than this; null: at the poll interval. */
  waitMs: number | null;
  /** Whether changes of a module wait until collecta.put_module_in_order has run. */
  reordering: boolean;
  /** SQLSTATE and message of why nothing could be routed. */
  trouble: string | null;
};

type Claimed = { id: number; endpointId: string; eventId: string; awaited: boolean; body: string };

/** Reads what collecta.claimed_delivery wrote: records joined by \u001e, with fields joined by \u001f. */
export function parseDeliveries(records: string | null): Claimed[] {
  const deliveries: Claimed[] = [];
  for (const record of records?.split('\u001e') ?? []) {
    const [id, endpointId, eventId, awaited] = record.split('\u001f', 4) as [string, string?, string?, string?];
    if (awaited !== undefined) {
      const body = record.slice(id.length + endpointId!.length + eventId!.length + awaited.length + 4);
      deliveries.push({ id: Number(id), endpointId: endpointId!, eventId: eventId!, awaited: awaited === 't', body });
    } else if (deliveries.length > 0) {
      // Only a body that somebody wrote by hand contains a separator. JSON does not.
      deliveries.at(-1)!.body += `\u001e${record}`;
    }
  }
  return deliveries;
}

const claimRow = z.object({
  lease: z.coerce.number(),
  lease_ms: z.number(),
  deliveries: z.string().nullable().transform(parseDeliveries),
  endpoints: z.array(
    z.object({
      endpoint_id: z.string(),
      url: z.string(),
      headers: z.union([z.record(z.string(), z.string()), z.string()]),
      secrets: z.array(z.string()),
      begin_within_ms: z.number().nullable(),
    }),
  ),
  routed: z.number(),
  next: z.enum(['now', 'soon', 'when_recorded', 'wait', 'sleep']),
  wait_ms: z.number().nullable(),
  reordering: z.boolean(),
  trouble: z.string().nullable(),
  next_cursor: z.string(),
});

export type ClaimerOptions = {
  log: Log;
  /** This runner's number (collecta.hold_lifeline); null: it has none, and its leases lapse by time only. */
  runner?: () => number | null;
  keyring?: Keyring;
  /** How long a claim may take before it is cancelled. */
  patienceMs?: number;
};

/**
 * Calls collecta.claim_deliveries and hands its cursor back. When routing fails, or the claim itself, the isolator
 * finds out whether a change is to blame.
 */
export function createClaimer(
  pool: Pool,
  environment: string | null,
  { log, runner = () => null, keyring = createKeyring(undefined), patienceMs = 10_000 }: ClaimerOptions,
) {
  const isolate = createIsolator(pool, log, patienceMs);
  const known = new Map<string, { source: string; endpoint: Endpoint }>();
  let cursor: string | null = null;

  /** Undefined where the key is missing. */
  function endpointOf(row: z.infer<typeof claimRow>['endpoints'][number]): Endpoint | undefined {
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

  async function call({ deliveries, bytes, perEndpoint, except = [] }: Room, everything: boolean) {
    // Cancelled by the pool and not by statement_timeout, which a pooler would refuse as a parameter of the connection.
    const [row] = await pool.within(patienceMs)`
      select * from collecta.claim_deliveries(${deliveries}, ${bytes}, ${perEndpoint}, ${environment}, ${runner()},
        ${cursor}, ${except}, ${everything})`;
    return claimRow.parse(row);
  }

  /** `everything`: hints are not to be trusted. Throws the database's errors, where no change is to blame for them. */
  return async function claim(room: Room, { everything = false } = {}): Promise<Claim> {
    let claimedAt = performance.now();
    let row: z.infer<typeof claimRow>;
    try {
      row = await call(room, everything);
    } catch (error) {
      // Where the database went, it may come back as another one.
      cursor = null;
      if (!(await isolate((error as { code?: string }).code ?? '08000'))) throw error;
      claimedAt = performance.now();
      row = await call(room, everything);
    }
    cursor = row.next_cursor;
    const { routed, lease_ms: leaseMs, wait_ms: waitMs } = row;
    let { next } = row;
    if (row.trouble !== null) {
      log.error('routing failed, it is tried again', { code: row.trouble.slice(0, 5), reason: row.trouble.slice(6) });
      if (await isolate(row.trouble.slice(0, 5))) {
        cursor = null;
        next = 'now';
      }
    }

    const endpoints = new Map(
      row.endpoints.map(each => [
        each.endpoint_id,
        { endpoint: endpointOf(each), beginWithinMs: each.begin_within_ms },
      ]),
    );
    const deliveries: Delivery[] = [];
    const locked: Claim['locked'] = [];
    const { lease } = row;
    for (const { id, endpointId, eventId, awaited, body } of row.deliveries) {
      // An endpoint is missing here if its secret was deleted while the claim was made.
      const { endpoint, beginWithinMs = null } = endpoints.get(endpointId) ?? {};
      if (!endpoint) {
        locked.push({ id, lease });
        continue;
      }
      const bytes = Buffer.byteLength(body);
      deliveries.push({ id, lease, eventId, body, bytes, awaited, beginWithinMs, endpoint, claimedAt });
    }
    return { deliveries, locked, routed, leaseMs, next, waitMs, reordering: row.reordering, trouble: row.trouble };
  };
}
