import { createEncoder } from '../database/encoding.ts';
import { whyUnreachable } from '../database/errors.ts';
import type { Query } from '../database/pool.ts';
import type { Log } from '../log.ts';
import { countAttempt } from '../metrics.ts';
import type { Delivery, Endpoint } from './claim.ts';
import type { DeliveryResult } from './deliver.ts';
import { headersWithoutEcho, isCredential, withoutEcho } from './echo.ts';

export type Finished = {
  delivery: Delivery;
  startedAt: number;
  /** What signatureHeaders made; null where the endpoint's secret was damaged, and so nothing was sent. */
  signed: Record<string, string> | null;
  /** The header of that name, if the change was made in a trace. */
  traceparent?: string | undefined;
  result: DeliveryResult;
};

export type RecorderOptions = {
  leaseMs: () => number;
  onRecorded: (batch: Finished[]) => void;
};

const maxBatch = 400;
const goodBatch = 200;
const gatherMs = 20;
const maxStatements = 2;
/** Not the result's fault: it is tried again as it is. */
const outage = /^(08|25|40|53|55|57|58)/;

/** An endpoint's own request headers as history shows them: those that may carry credentials are masked, as in SQL. */
const shownHeaders = new WeakMap<Endpoint, string>();
function headersOf(endpoint: Endpoint): string {
  let shown = shownHeaders.get(endpoint);
  if (shown === undefined) {
    const headers = Object.entries(endpoint.headers).map(([name, value]) => [
      name,
      isCredential(name, value) ? '***' : value,
    ]);
    shown = JSON.stringify({ ...Object.fromEntries(headers), 'content-type': 'application/json' });
    shownHeaders.set(endpoint, shown);
  }
  return shown;
}

/** `headers`, a JSON object that is not empty, with the traceparent that was sent. */
const withTraceparent = (headers: string, traceparent: string | undefined) =>
  traceparent === undefined ? headers : `{"traceparent":"${traceparent}",${headers.slice(1)}`;

const micro = (ms: number | null | undefined) => (ms == null ? null : Math.round(ms * 1000) / 1000);

type Attempt = ReturnType<typeof attemptOf>;

/** What history shows of an attempt. */
function attemptOf({ delivery, startedAt, signed, traceparent, result }: Finished, now: number) {
  const { id, lease, endpoint } = delivery;
  return {
    id,
    lease,
    outcome: result.outcome,
    url: endpoint.url,
    requestHeaders: withTraceparent(headersOf(endpoint), traceparent) as string | null,
    signed,
    status: result.status,
    responseHeaders: result.responseHeaders && JSON.stringify(headersWithoutEcho(result.responseHeaders, endpoint)),
    responseBody: result.responseBody && withoutEcho(result.responseBody, endpoint),
    error: result.error && withoutEcho(result.error, endpoint),
    times: [
      micro(now - startedAt),
      micro(result.totalMs),
      micro(result.lookupMs),
      micro(result.connectMs),
      micro(result.firstByteMs),
      result.retryAfterSeconds,
    ],
  };
}

/** A field of a row, as PostgreSQL writes rows inside an array. Most need no quotes. */
function fieldOf(value: string | number | null | undefined): string | number {
  if (value == null) return '';
  if (typeof value === 'number' || /^[\w.:=/+-]+$/.test(value)) return value;
  return `\\"${value.replace(/["\\]/g, '\\\\\\$&')}\\"`;
}

/** Numbers different texts from 1: most attempts of a batch share their URL and headers. */
function createNumbering() {
  const numbers = new Map<string, number>();
  const numberOf = (text: string | null) => {
    if (text === null) return null;
    const number = numbers.get(text) ?? numbers.size + 1;
    numbers.set(text, number);
    return number;
  };
  return { numberOf, texts: () => [...numbers.keys()] };
}

/** What record_deliveries takes. */
function parametersOf(attempts: Attempt[]): { results: string; urls: string[]; headers: string[] } {
  const urls = createNumbering();
  const headers = createNumbering();
  const rows = attempts.map(each => {
    const { signed } = each;
    const fields = [
      each.id,
      each.lease,
      each.outcome,
      urls.numberOf(each.url),
      headers.numberOf(each.requestHeaders),
      signed?.['webhook-timestamp'],
      signed?.['x-webhook-signature'],
      signed?.['webhook-signature'],
      each.status,
      headers.numberOf(each.responseHeaders),
      each.responseBody,
      each.error,
      ...each.times,
    ];
    return `"(${fields.map(fieldOf).join()})"`;
  });
  return { results: `{${rows.join()}}`, urls: urls.texts(), headers: headers.texts() };
}

const clean = (text: string) =>
  new TextDecoder()
    .decode(new TextEncoder().encode(text))
    .replace(/\u0000/g, '\ufffd')
    .slice(0, 1_000);

/** What can be recorded of a result that as a whole cannot. */
function sparseAttemptOf(finished: Finished, now: number, reason: string): Attempt {
  const attempt = attemptOf(finished, now);
  const error = clean(`${attempt.error ? `${attempt.error}; ` : ''}recorded without headers and body: ${reason}`);
  const [age, total, , , , retryAfter] = attempt.times;
  return {
    ...attempt,
    url: clean(attempt.url),
    requestHeaders: null,
    signed: null,
    responseHeaders: null,
    responseBody: null,
    error,
    times: [age!, total!, null, null, null, retryAfter!],
  };
}

/**
 * Records finished attempts by collecta.record_deliveries: in batches of what gathers within 20 ms, sooner when there
 * are 200 or another delivery waits for one. A batch that cannot be recorded is halved until the one result that cannot
 * is alone, and of that one is recorded what can be. An outage is waited for until the lease ends, after which somebody
 * else has the delivery and the fence would refuse the result anyway.
 */
export function createRecorder(sql: Query, log: Log, { leaseMs, onRecorded }: RecorderOptions) {
  const gathered: Finished[] = [];
  let awaited = false;
  let flushing: NodeJS.Immediate | undefined;
  let timer: NodeJS.Timeout | undefined;
  let statements = 0;
  let alone = 0; // results that are recorded apart, since with others they failed
  let idle: (() => void)[] = [];

  const encoder = createEncoder(sql);

  async function send(attempts: Attempt[]): Promise<void> {
    // What the database's encoding lacks is escaped. In headers, which are JSON, that keeps their meaning.
    const bodies = await encoder.encode(attempts.map(({ responseBody }) => responseBody));
    const errors = await encoder.encode(attempts.map(({ error }) => error));
    for (const [i, attempt] of attempts.entries()) {
      attempt.responseBody = bodies[i]!;
      attempt.error = errors[i]!;
    }
    const { results, urls, headers } = parametersOf(attempts);
    const [row] = await sql`
      select collecta.record_deliveries(${results}::text::collecta.delivery_result[],
        ${await encoder.encode(urls)}::text[], ${await encoder.encode(headers)}::text[]::json[]) as recorded`;
    const stale = attempts.length - Number(row?.recorded);
    if (stale > 0) log.warn('results came too late: their deliveries were claimed again', { stale });
  }

  async function record(batch: Finished[]): Promise<void> {
    for (let attempt = 0; batch.length > 0; attempt++) {
      const now = performance.now();
      try {
        await send(batch.map(each => attemptOf(each, now)));
        return onRecorded(batch);
      } catch (error) {
        const { code = '', message } = error as { code?: string; message: string };
        encoder.forget();
        const kept = batch.filter(({ delivery }) => now - delivery.claimedAt < leaseMs());
        const given_up = batch.length - kept.length;
        log.error('attempts could not be recorded', { attempts: batch.length, given_up, code, message });
        batch = kept;
        if (whyUnreachable(error) === undefined && code !== '') {
          if (batch.length > 1) {
            const half = Math.ceil(batch.length / 2);
            await record(batch.slice(0, half));
            return record(batch.slice(half));
          }
          if (batch[0]) recordAlone(batch[0]);
          return;
        }
        await pause(attempt);
      }
    }
  }

  const pause = (attempt: number) => new Promise(done => setTimeout(done, Math.min(100 * 2 ** attempt, 5_000)));

  /** Beside the batches, which do not wait for it. */
  async function recordAlone(finished: Finished): Promise<void> {
    alone++;
    const { delivery, result } = finished;
    let form: 'whole' | 'sparse' | 'outcome' = 'whole';
    let reason = '';
    for (let attempt = 0; performance.now() - delivery.claimedAt < leaseMs(); attempt++) {
      try {
        const now = performance.now();
        if (form === 'whole') await send([attemptOf(finished, now)]);
        else if (form === 'sparse') await send([sparseAttemptOf(finished, now, reason)]);
        else
          await sql`
            select collecta.record_outcome(${delivery.id}, ${delivery.lease}, ${result.outcome}, ${clean(reason)})`;
        log.error('an attempt was recorded', { event_id: delivery.eventId, endpoint_id: delivery.endpoint.id, form });
        onRecorded([finished]);
        break;
      } catch (error) {
        const { code = '', message } = error as { code?: string; message: string };
        if (whyUnreachable(error) === undefined && code !== '' && !outage.test(code)) {
          reason = message;
          if (form === 'outcome') log.error('an attempt could not be recorded at all', { code, message });
          form = form === 'whole' ? 'sparse' : 'outcome';
        }
        await pause(attempt);
      }
    }
    alone--;
    if (statements === 0 && alone === 0 && gathered.length === 0) settle();
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
      // Counting a batch at once costs a fifth of counting each attempt when it ends.
      for (const { delivery, result } of batch) {
        const { outcome, status, totalMs } = result;
        if (outcome !== 'withdrawn')
          countAttempt({ endpointId: delivery.endpoint.id, eventId: delivery.eventId, outcome, status, totalMs });
      }
      statements++;
      record(batch).finally(() => {
        statements--;
        if (awaited || gathered.length >= goodBatch) flush();
        else if (gathered.length > 0) timer ??= setTimeout(flush, gatherMs);
        else if (statements === 0 && alone === 0) settle();
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
      awaited ||= idle.length > 0 || finished.delivery.awaited;
      // Results of one turn of the event loop go together.
      if (awaited || gathered.length >= goodBatch) flushing ??= setImmediate(flush);
      else timer ??= setTimeout(flush, gatherMs);
    },
    /** Whether something is not recorded yet. */
    get busy(): boolean {
      return statements > 0 || alone > 0 || gathered.length > 0;
    },
    /** Comes back when everything is recorded. */
    drained(): Promise<void> {
      if (statements === 0 && alone === 0 && gathered.length === 0) return Promise.resolve();
      flush();
      return new Promise(done => idle.push(done));
    },
  };
}
