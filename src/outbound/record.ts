import type { Sql } from '../database.ts';
import type { Log } from '../log.ts';
import type { Delivery } from './claim.ts';
import type { DeliveryResult } from './deliver.ts';

export type Finished = {
  delivery: Delivery;
  startedAt: number;
  url: string;
  headers: Record<string, string>;
  result: DeliveryResult;
};

const maxBatch = 200;
const maxStatements = 2;

/**
 * Records finished attempts by collecta.record_deliveries: all that has gathered while the last statements were under way,
 * so one at a time when there is little to do and in batches when there is much. What cannot be recorded is tried again
 * until its lease ends, after which somebody else has the delivery and the fence would refuse the result anyway.
 */
export function createRecorder(sql: Sql, log: Log, leaseMs: () => number, onRecorded: (batch: Finished[]) => void) {
  const gathered: Finished[] = [];
  let statements = 0;
  let idle: (() => void)[] = [];

  async function record(batch: Finished[]): Promise<void> {
    for (let attempt = 0; batch.length > 0; attempt++) {
      const now = performance.now();
      const of = <T>(read: (each: Finished) => T) => batch.map(read);
      const text = (value: object | null) => (value === null ? null : JSON.stringify(value));
      try {
        const [row] = await sql`
          select collecta.record_deliveries(
            ${of(({ delivery }) => delivery.deliveryId)}::text[]::bigint[], ${of(({ delivery }) => delivery.attempt)}::int[],
            ${of(({ result }) => result.outcome)}::text[], ${of(({ url }) => url)}::text[],
            ${of(({ headers }) => text(headers))}::text[]::json[], ${of(({ result }) => result.status)}::int[],
            ${of(({ result }) => text(result.responseHeaders))}::text[]::json[], ${of(({ result }) => result.responseBody)}::text[],
            ${of(({ result }) => result.error)}::text[], ${of(({ startedAt }) => now - startedAt)}::float8[],
            ${of(({ result }) => result.totalMs)}::float8[], ${of(({ result }) => result.lookupMs)}::real[],
            ${of(({ result }) => result.connectMs)}::real[], ${of(({ result }) => result.firstByteMs)}::real[],
            ${of(({ result }) => result.retryAfterSeconds)}::float8[], ${batch.some(({ delivery }) => delivery.ordered)}) as recorded`;
        const stale = batch.length - Number(row?.recorded);
        if (stale > 0) log.warn('results came too late: their deliveries were claimed again', { stale });
        return onRecorded(batch);
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        const kept = batch.filter(({ delivery }) => now - delivery.claimedAt < leaseMs());
        log.error('attempts could not be recorded', {
          attempts: batch.length,
          given_up: batch.length - kept.length,
          code,
          message,
        });
        batch = kept;
        await new Promise(done => setTimeout(done, Math.min(100 * 2 ** attempt, 5_000)));
      }
    }
  }

  function flush(): void {
    // A second statement beside the first only for a batch that is worth it.
    while (gathered.length > (statements > 0 ? maxBatch / 2 : 0) && statements < maxStatements) {
      const batch = gathered.splice(0, maxBatch);
      statements++;
      record(batch).finally(() => {
        statements--;
        flush();
      });
    }
    if (statements === 0) {
      for (const done of idle) done();
      idle = [];
    }
  }

  return {
    add(finished: Finished): void {
      gathered.push(finished);
      // Results of one turn of the event loop go together.
      if (gathered.length === 1) setImmediate(flush);
    },
    /** Whether something is not recorded yet. */
    get busy(): boolean {
      return statements > 0 || gathered.length > 0;
    },
    /** Comes back when everything is recorded. */
    drained(): Promise<void> {
      if (statements === 0 && gathered.length === 0) return Promise.resolve();
      return new Promise(done => idle.push(done));
    },
  };
}
