import { createEncoder } from '../database/encoding.ts';
import type { Query } from '../database/pool.ts';
import type { Log } from '../log.ts';
import type { Delivery, Endpoint } from './claim.ts';
import type { DeliveryResult } from './deliver.ts';

export type Finished = {
  delivery: Delivery;
  startedAt: number;
  /** What signatureHeaders made; null where the endpoint's secret was damaged, and so nothing was sent. */
  signed: Record<string, string> | null;
  result: DeliveryResult;
};

export type RecorderOptions = {
  leaseMs: () => number;
  /** Whether another delivery waits for this one: then it does not wait for a batch. */
  isAwaited: (delivery: Delivery) => boolean;
  onRecorded: (batch: Finished[]) => void;
};

const maxBatch = 400;
const goodBatch = 200;
const gatherMs = 20;
const maxStatements = 2;

const credentialName = /auth|cookie|token|secret|passw|key|session|signature|credential/i;
const credentialValue = /^(basic|bearer|digest|token|apikey) /i;

/**
 * An endpoint's request headers as history shows them, as record_deliveries' template. Its own may carry credentials: the rule
 * of collecta.mask_headers.
 */
function headersTemplate({ headers, unusable }: Endpoint): string {
  const shown: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    shown[name] = credentialName.test(name) || credentialValue.test(value) ? '***' : value.replaceAll('%', '%%');
  shown['content-type'] = 'application/json';
  if (!unusable) {
    shown['x-webhook-signature'] = '%3$s';
    shown['webhook-id'] = '%1$s';
    shown['webhook-timestamp'] = '%2$s';
    shown['webhook-signature'] = '%4$s';
  }
  return JSON.stringify(shown);
}

/** Numbers the distinct values from 1: a batch has few different requests and responses, and is written once for each. */
function numbered<T>(values: T[]): { numbers: number[]; distinct: T[] } {
  const known = new Map<T, number>();
  const numbers = values.map(value => {
    let number = known.get(value);
    if (number === undefined) {
      number = known.size + 1;
      known.set(value, number);
    }
    return number;
  });
  return { numbers, distinct: [...known.keys()] };
}

const micro = (ms: number | null) => (ms === null ? null : Math.round(ms * 1000) / 1000);

/**
 * Records finished attempts by collecta.record_deliveries: in batches of what gathers within 20 ms, sooner when there are 200
 * or another delivery waits for one. What cannot be recorded is tried again until its lease ends, after which somebody else
 * has the delivery and the fence would refuse the result anyway.
 */
export function createRecorder(sql: Query, log: Log, { leaseMs, isAwaited, onRecorded }: RecorderOptions) {
  const gathered: Finished[] = [];
  let awaited = false;
  let flushing: NodeJS.Immediate | undefined;
  let timer: NodeJS.Timeout | undefined;
  let statements = 0;
  let idle: (() => void)[] = [];

  const encoder = createEncoder(sql);

  async function record(batch: Finished[]): Promise<void> {
    for (let attempt = 0; batch.length > 0; attempt++) {
      const now = performance.now();
      const of = <T>(read: (each: Finished) => T) => batch.map(read);
      const requests = numbered(of(({ delivery }) => delivery.endpoint));
      try {
        const responses = numbered(
          await encoder.encode(of(({ result }) => result.responseHeaders && JSON.stringify(result.responseHeaders))),
        );
        const bodies = await encoder.encode(of(({ result }) => result.responseBody));
        const errors = await encoder.encode(of(({ result }) => result.error));
        const [row] = await sql`
          select collecta.record_deliveries(
            ${of(({ delivery }) => delivery.deliveryId)}::text[]::bigint[], ${of(({ delivery }) => delivery.lease)}::text[]::bigint[],
            ${of(({ result }) => result.outcome)}::text[], ${requests.distinct.map(({ url }) => url)}::text[],
            ${requests.distinct.map(headersTemplate)}::text[], ${requests.numbers}::int[],
            ${of(({ signed }) => signed?.['webhook-timestamp'] ?? null)}::text[]::bigint[],
            ${of(({ signed }) => signed?.['x-webhook-signature'] ?? null)}::text[],
            ${of(({ signed }) => signed?.['webhook-signature'] ?? null)}::text[], ${of(({ result }) => result.status)}::int[],
            ${responses.distinct}::text[], ${responses.numbers}::int[], ${bodies}::text[],
            ${errors}::text[], ${of(({ startedAt }) => micro(now - startedAt))}::float8[],
            ${of(({ result }) => micro(result.totalMs))}::float8[], ${of(({ result }) => micro(result.lookupMs))}::real[],
            ${of(({ result }) => micro(result.connectMs))}::real[], ${of(({ result }) => micro(result.firstByteMs))}::real[],
            ${of(({ result }) => result.retryAfterSeconds)}::float8[], ${batch.some(({ delivery }) => delivery.ordered)}) as recorded`;
        const stale = batch.length - Number(row?.recorded);
        if (stale > 0) log.warn('results came too late: their deliveries were claimed again', { stale });
        return onRecorded(batch);
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        encoder.forget();
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
    clearImmediate(flushing);
    clearTimeout(timer);
    flushing = undefined;
    timer = undefined;
    // A second statement beside the first only for a batch that is worth it.
    while (gathered.length >= (statements > 0 ? goodBatch : 1) && statements < maxStatements) {
      const batch = gathered.splice(0, maxBatch);
      awaited &&= gathered.length > 0;
      statements++;
      record(batch).finally(() => {
        statements--;
        if (awaited || gathered.length >= goodBatch) flush();
        else if (gathered.length > 0) timer ??= setTimeout(flush, gatherMs);
        else if (statements === 0) settle();
      });
    }
  }

  function settle(): void {
    for (const done of idle) done();
    idle = [];
  }

  return {
    add(finished: Finished): void {
      gathered.push(finished);
      awaited ||= idle.length > 0 || isAwaited(finished.delivery);
      // Results of one turn of the event loop go together.
      if (awaited || gathered.length >= goodBatch) flushing ??= setImmediate(flush);
      else timer ??= setTimeout(flush, gatherMs);
    },
    /** Whether something is not recorded yet. */
    get busy(): boolean {
      return statements > 0 || gathered.length > 0;
    },
    /** Comes back when everything is recorded. */
    drained(): Promise<void> {
      if (statements === 0 && gathered.length === 0) return Promise.resolve();
      flush();
      return new Promise(done => idle.push(done));
    },
  };
}
