import { z } from 'zod';
import type { Query } from '../database/pool.ts';
import type { Log } from '../log.ts';
import { type Payload, readPayload } from './payload.ts';
import type { Outcome } from './receive.ts';

const goneRows = z.array(z.object({ gone: z.number() }));
const retryRows = z.array(z.object({ request_id: z.string(), inbound_endpoint_id: z.string(), body: z.string() }));

type Options = {
  sql: Query;
  log: Log;
  ask: <T>(query: () => PromiseLike<Iterable<unknown>>, rows: z.ZodType<T>) => Promise<T>;
  write: (endpointId: string, payload: Payload, repetition: undefined, ignored: false, id: string) => Promise<Outcome>;
};

/** What the receiving process does every few seconds: it runs stored requests again, and writes counts of refusals. */
export function createUpkeep({ sql, log, ask, write }: Options) {
  const refusals = new Map<string, { inbound_endpoint_id: string; status: number; requests: number }>();

  /** Runs the requests that `collecta.retry_inbound` queued, oldest first, until none is left that can be run. */
  async function runRetries(signal: AbortSignal): Promise<void> {
    for (let ran = 1; ran > 0 && !signal.aborted; ) {
      ran = 0;
      const rows = await ask(
        () => sql`select request_id, inbound_endpoint_id, body from collecta.next_inbound_retries()`,
        retryRows,
      );
      for (const { request_id, inbound_endpoint_id, body } of rows) {
        const payload = readPayload(Buffer.from(body));
        const { status } = await write(inbound_endpoint_id, payload, undefined, false, request_id);
        if (status === 202 || status === 422 || status === 503) ran++;
        log.info('inbound request run again', { request_id, inbound_endpoint_id, status });
      }
    }
  }

  /** Counts requests that are refused and not stored. */
  function refused(inbound_endpoint_id: string, status: number, times = 1): void {
    const key = `${inbound_endpoint_id} ${status}`;
    const requests = (refusals.get(key)?.requests ?? 0) + times;
    refusals.set(key, { inbound_endpoint_id, status, requests });
  }

  /** Writes the refusals counted since the last call. The database deletes what is older than its retention. */
  async function maintain(): Promise<void> {
    const counted = [...refusals.values()];
    refusals.clear();
    try {
      const json = JSON.stringify(counted);
      await ask(() => sql`select collecta.maintain_inbound(${json}::text::json)::int as gone`, goneRows);
    } catch (error) {
      for (const { inbound_endpoint_id, status, requests } of counted) refused(inbound_endpoint_id, status, requests);
      throw error;
    }
  }

  return { runRetries, refused, maintain };
}
