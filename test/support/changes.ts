import postgres from 'postgres';
import type { Test } from 'tap';
import { parseDeliveries } from '../../src/outbound/claim.ts';
import type { Sql } from './database.ts';

export type Payload = {
  id: string;
  event: string;
  sequence: number;
  occurred_at: string;
  module: string;
  record_id: string | null;
  record: Record<string, unknown> | null;
  previous?: Record<string, unknown>;
  from?: unknown;
  to?: unknown;
  context?: unknown;
  count?: number;
  truncated?: boolean;
};

export const allEvents = ['record_created', 'record_updated', 'record_deleted', 'status_change', 'custom_data_updated'];

/** Routes all captured changes. Returns the bodies written, as text, in the order of delivery. */
export async function routeBodies(sql: Sql, batch = 500): Promise<string[]> {
  const [start] = await sql`select clock_timestamp()::text as at`;
  await sql`select collecta.mend_queue(clock_timestamp())`; // undoes what route_again() marked
  for (;;) {
    const [step] = await sql`select routed from collecta.route_changes(${batch})`;
    if (step!.routed === 0) {
      const [reordered] = await sql`select collecta.put_module_in_order() as module`;
      if (reordered!.module === null) break;
    }
    if (step!.routed < 0) throw new Error('another session routes');
  }
  const rows = await sql<{ body: string }[]>`
    select body from collecta.events where payload_role = '' and routed_at > ${start!.at}::text::timestamptz
      order by sequence, position`;
  return rows.map(({ body }) => body);
}

/** As routeBodies, with the bodies parsed. */
export async function route(sql: Sql, batch = 500): Promise<Payload[]> {
  return (await routeBodies(sql, batch)).map(body => JSON.parse(body));
}

/** Each event without its record_ prefix, and its record: `created 1`, `status_change 1`. */
export function brief(payloads: Payload[]): string[] {
  return payloads.map(({ event, record_id }) => `${event.replace('record_', '')} ${record_id}`);
}

/** Creates an endpoint of all five events, or with the given arguments. Returns its id. */
export async function subscribe(sql: Sql, events = allEvents, options: Record<string, unknown> = {}): Promise<string> {
  const named = Object.entries({ url: 'https://example.com/hook', events, ...options });
  const values = named.map(([, value]) => value) as string[];
  const list = named.map(([name], index) => `${name} => $${index + 1}`).join(', ');
  const [made] = await sql.unsafe(`select endpoint_id from collecta.create_endpoint(${list})`, values);
  return made!.endpoint_id;
}

/** The error with which PostgreSQL refuses a statement; undefined if it succeeds. */
export async function refusal(statement: Promise<unknown>): Promise<postgres.PostgresError | undefined> {
  try {
    await statement;
    return undefined;
  } catch (error) {
    if (error instanceof postgres.PostgresError) return error;
    throw error;
  }
}

/** Asserts that a statement is refused with our SQLSTATE, a detail and a hint. */
export async function refuses(
  t: Test,
  statement: Promise<unknown>,
  code: string,
  message: string,
): Promise<postgres.PostgresError | undefined> {
  const error = await refusal(statement);
  t.equal(error?.code, code, `${message}: ${code}${error && error.code !== code ? ` (${error.message})` : ''}`);
  t.ok(error?.detail, `${message}: has a detail`);
  t.ok(error?.hint, `${message}: has a hint`);
  return error;
}

export type Claimed = { id: number; lease: number; endpoint: string; event: string; body: string; awaited: boolean };

/** collecta.claim_deliveries itself: what a runner in another language would call. */
export async function claimBySql(
  sql: Sql,
  {
    batch = 100,
    runner = null,
    cursor = null,
  }: { batch?: number; runner?: number | null; cursor?: string | null } = {},
) {
  const [row] = await sql`
    select * from collecta.claim_deliveries(${batch}, runner => ${runner}, cursor => ${cursor})`;
  const {
    deliveries: records,
    lease,
    ...rest
  } = row as unknown as {
    lease: string;
    deliveries: string | null;
    endpoints: { endpoint_id: string; url: string; headers: object; secrets: string[] }[];
    routed: number;
    next: string;
    wait_ms: number | null;
    trouble: string | null;
    next_cursor: string;
  };
  const deliveries: Claimed[] = parseDeliveries(records).map(({ id, endpointId, eventId, body, awaited }) => ({
    id,
    lease: Number(lease),
    endpoint: endpointId,
    event: eventId,
    body,
    awaited,
  }));
  return { deliveries, ...rest };
}

/** Records these deliveries with one outcome. Returns how many were still leased by this claim. */
export async function record(
  sql: Sql,
  deliveries: { id: number; lease: number }[],
  outcome = 'delivered',
  { response_headers, ...result }: { response_headers?: object; [field: string]: unknown } = {},
): Promise<number> {
  const headers = response_headers && { response_headers: 1 };
  const results = deliveries.map(({ id, lease }) => ({ id, lease, outcome, url: 1, ...result, ...headers }));
  const [row] = await sql`
    select collecta.record_deliveries(array(
      select r from json_populate_recordset(null::collecta.delivery_result, ${JSON.stringify(results)}::text::json) r),
      '{https://example.com/hook}', array[${JSON.stringify(response_headers ?? {})}::text::json]) as recorded`;
  return Number(row!.recorded);
}

/** Claims all due deliveries and records them as delivered, or with another outcome. Returns the bodies. */
export async function deliver(sql: Sql, outcome = 'delivered'): Promise<Payload[]> {
  const { deliveries } = await claimBySql(sql);
  await record(sql, deliveries, outcome);
  return deliveries.map(({ body }) => JSON.parse(body));
}
