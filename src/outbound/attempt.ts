import type { Delivery, Endpoint } from './claim.ts';
import { headersWithoutEcho, maskedHeaders, withoutEcho } from './echo.ts';
import type { DeliveryResult } from './exchange.ts';

/** A delivery after its request, as it is handed over to be recorded. */
export type Finished = {
  delivery: Delivery;
  /** performance.now() when its request began. */
  startedAt: number;
  /** The headers that signatureHeaders made; null if the endpoint's secret was damaged, so that nothing was sent. */
  signed: Record<string, string> | null;
  /** The header of that name, if the change was made in a trace. */
  traceparent?: string | undefined;
  result: DeliveryResult;
};

export type Attempt = ReturnType<typeof attemptOf>;

/** An endpoint's own request headers as history shows them, in JSON. */
const shownHeaders = new WeakMap<Endpoint, string>();
function headersOf(endpoint: Endpoint): string {
  let shown = shownHeaders.get(endpoint);
  if (shown === undefined) {
    shown = JSON.stringify({ ...maskedHeaders(endpoint.headers), 'content-type': 'application/json' });
    shownHeaders.set(endpoint, shown);
  }
  return shown;
}

/** `headers`, a JSON object that is not empty, with the traceparent that was sent. */
const withTraceparent = (headers: string, traceparent: string | undefined) =>
  traceparent === undefined ? headers : `{"traceparent":"${traceparent}",${headers.slice(1)}`;

const toMicroseconds = (ms: number | null) => (ms === null ? null : Math.round(ms * 1000) / 1000);

/** What history shows of a finished delivery at the time `now`, without the endpoint's credentials. */
export function attemptOf({ delivery, startedAt, signed, traceparent, result }: Finished, now: number) {
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
    ageMs: toMicroseconds(now - startedAt),
    totalMs: toMicroseconds(result.totalMs),
    lookupMs: toMicroseconds(result.lookupMs),
    connectMs: toMicroseconds(result.connectMs),
    firstByteMs: toMicroseconds(result.firstByteMs),
    retryAfterSeconds: result.retryAfterSeconds,
  };
}

/** What can be recorded of a delivery if everything that the receiver or the operator has written is left out. */
export function sparseAttemptOf(finished: Finished, now: number, reason: string): Attempt {
  const attempt = attemptOf(finished, now);
  return {
    ...attempt,
    url: cleaned(attempt.url),
    requestHeaders: null,
    signed: null,
    responseHeaders: null,
    responseBody: null,
    error: cleaned(`${attempt.error ? `${attempt.error}; ` : ''}recorded without headers and body: ${reason}`),
    lookupMs: null,
    connectMs: null,
    firstByteMs: null,
  };
}

/** The beginning of a text, without what a PostgreSQL text cannot hold. */
export const cleaned = (text: string) =>
  new TextDecoder()
    .decode(new TextEncoder().encode(text))
    .replace(/\u0000/g, '\ufffd')
    .slice(0, 1_000);

/**
 * The parameters of collecta.record_deliveries. Most attempts of a batch share their URL and headers, so the results
 * refer to these by number.
 */
export function parametersOf(attempts: Attempt[]): { results: string; urls: string[]; headers: string[] } {
  const urls = new Map<string, number>();
  const headers = new Map<string, number>();
  // In the order of the type collecta.delivery_result.
  const rows = attempts.map(each => [
    each.id,
    each.lease,
    each.outcome,
    numberOf(each.url, urls),
    numberOf(each.requestHeaders, headers),
    each.signed?.['webhook-timestamp'],
    each.signed?.['x-webhook-signature'],
    each.signed?.['webhook-signature'],
    each.status,
    numberOf(each.responseHeaders, headers),
    each.responseBody,
    each.error,
    each.ageMs,
    each.totalMs,
    each.lookupMs,
    each.connectMs,
    each.firstByteMs,
    each.retryAfterSeconds,
  ]);
  const results = `{${rows.map(fields => `"(${fields.map(fieldOf).join()})"`).join()}}`;
  return { results, urls: [...urls.keys()], headers: [...headers.keys()] };
}

/** The number of a text, from 1. A new text gets the next number. */
function numberOf(text: string | null, numbers: Map<string, number>): number | null {
  if (text === null) return null;
  const number = numbers.get(text) ?? numbers.size + 1;
  numbers.set(text, number);
  return number;
}

/** A field of a row, as PostgreSQL writes rows inside an array. Most need no quotes. */
function fieldOf(value: string | number | null | undefined): string | number {
  if (value == null) return '';
  if (typeof value === 'number' || /^[\w.:=/+-]+$/.test(value)) return value;
  return `\\"${value.replace(/["\\]/g, '\\\\\\$&')}\\"`;
}
