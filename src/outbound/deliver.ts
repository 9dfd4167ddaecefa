import net from 'node:net';
import { setInterval } from 'node:timers';
import { type Dispatcher, Pool } from 'undici';
import type { Allowed, Guard } from './destination.ts';

export type DeliveryRequest = {
  url: string;
  /** Lower-case names. */
  headers: Readonly<Record<string, string>>;
  body: string | Uint8Array;
};

export type DeliveryResult = {
  outcome: 'delivered' | 'failed' | 'blocked';
  status: number | null;
  /** Lower-case names; values that carry credentials are masked. */
  responseHeaders: Record<string, string> | null;
  /** Fit for PostgreSQL's text; a last line in brackets says so where it was cut or cleaned. */
  responseBody: string | null;
  error: string | null;
  /** Only of a 429 or 503 that asks for it, 0 to 3600. */
  retryAfterSeconds: number | null;
  lookupMs: number | null;
  /** Wait for a connection: near 0 where one was open. */
  connectMs: number | null;
  /** From the request's start to the response's head. */
  firstByteMs: number | null;
  totalMs: number;
};

export type Deliverer = {
  deliver(request: DeliveryRequest, signal?: AbortSignal): Promise<DeliveryResult>;
  close(): Promise<void>;
};

type Options = {
  guard: Guard;
  userAgent: string;
  /** Over the whole exchange, look-up included. */
  deadlineMs?: number;
  maxResponseBodyBytes?: number;
  maxResponseHeaderBytes?: number;
  /** Per origin; unlimited by default, since the claim already bounds what is in flight. */
  connections?: number;
};

type Origin = { pool: Pool; exchanges: number; lastUsed: number };

const connectTimeoutMs = 10_000;
const idleOriginMs = 15_000;
const maxOrigins = 1_000;
const maxInformational = 16;
const maxRetryAfterSeconds = 3_600;
const ended = new Error('ended');
const credentialHeader = /cookie|auth|token|secret|passw|api-?key|signature/;

const explained: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  EPIPE: 'connection closed while sending',
  ENETUNREACH: 'network unreachable',
  EHOSTUNREACH: 'host unreachable',
  ETIMEDOUT: 'timeout while connecting',
  UND_ERR_CONNECT_TIMEOUT: 'timeout while connecting',
  UND_ERR_HEADERS_OVERFLOW: 'response headers too large',
  UND_ERR_SOCKET: 'connection closed',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'response body shorter or longer than its content-length',
  ERR_ASSERTION: 'malformed HTTP response',
};

// undici names header names and addresses in its messages, never a value, a path or a body.
function explain(error: unknown): string {
  const { code, message, name } = error as { code?: string; message?: string; name?: string };
  if (code?.startsWith('HPE_')) return `malformed HTTP response (${code})`;
  const known = code === undefined ? undefined : explained[code];
  if (code === 'UND_ERR_SOCKET' && message !== 'other side closed') return `${known} (${message})`;
  return known ?? `${code ?? name}: ${message}`.slice(0, 200);
}

function retryAfter(status: number, value: string | undefined): number | null {
  if ((status !== 429 && status !== 503) || value === undefined) return null;
  let seconds = Number.NaN;
  if (/^-?\d+$/.test(value)) seconds = Number(value);
  else if (/^[A-Z][a-z]+, /.test(value)) seconds = Math.ceil((Date.parse(value) - Date.now()) / 1000);
  return Number.isNaN(seconds) ? null : Math.min(Math.max(seconds, 0), maxRetryAfterSeconds);
}

function responseText(chunks: Buffer[], cutAt: number | null): string {
  const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  // As a stream, the decoder leaves out a character that the cut split.
  const text = cutAt === null ? bytes.toString('utf8') : new TextDecoder().decode(bytes, { stream: true });
  const clean = text.replaceAll('\0', '\ufffd');
  const notes = `${cutAt === null ? '' : `\n[cut after ${cutAt} bytes]`}`;
  return clean.includes('\ufffd')
    ? `${clean}${notes}\n[cleaned: \ufffd stands for bytes that are no text]`
    : clean + notes;
}

/**
 * The delivery client. `deliver` sends one POST to an address the guard has checked and never throws: whatever the
 * receiver does is a result. Only a 2xx is delivered, also where its body breaks off or is still dripping at the
 * deadline (then `error` is set). Redirects are not followed, nothing is decompressed, there are no cookies.
 * `signal` ends an exchange within a tenth of a second; `close` waits for those in flight.
 */
export function createDeliverer(options: Options): Deliverer {
  const { guard, userAgent, deadlineMs = 30_000, maxResponseBodyBytes = 16_384 } = options;
  const origins = new Map<string, Origin>();
  const inFlight = new Set<Exchange>();

  class Exchange implements Dispatcher.DispatchHandler {
    readonly started = performance.now();
    readonly signal: AbortSignal | undefined;
    readonly settle: (result: DeliveryResult) => void;
    phase = 'looking up the host';
    controller: Dispatcher.DispatchController | undefined;
    origin: Origin | undefined;
    done = false;
    status: number | null = null;
    headers: Record<string, string> | null = null;
    retryAfter: number | null = null;
    informational = 0;
    chunks: Buffer[] = [];
    received = 0;
    lookupMs: number | null = null;
    dispatchedAt = 0;
    connectMs: number | null = null;
    firstByteMs: number | null = null;

    constructor(signal: AbortSignal | undefined, settle: (result: DeliveryResult) => void) {
      this.signal = signal;
      this.settle = settle;
    }

    onRequestStart(controller: Dispatcher.DispatchController): void {
      // Already recorded as failed while it waited for a connection: it must not be sent any more.
      if (this.done) controller.abort(ended);
      this.controller = controller;
      this.connectMs = performance.now() - this.dispatchedAt;
      this.phase = 'waiting for the response';
    }

    onResponseStart(
      _controller: Dispatcher.DispatchController,
      status: number,
      headers: Record<string, string | string[]>,
    ): void {
      if (this.done) return;
      if (status < 200) {
        if (++this.informational > maxInformational) this.end(`more than ${maxInformational} informational responses`);
        return;
      }
      this.firstByteMs = performance.now() - this.dispatchedAt - this.connectMs!;
      this.phase = 'reading the response body';
      this.status = status;
      this.headers = {};
      for (const name in headers) {
        const value = headers[name]!;
        const text = typeof value === 'string' ? value : value.join(', ');
        this.headers[name] = credentialHeader.test(name) ? '***' : text;
      }
      this.retryAfter = retryAfter(status, this.headers['retry-after']);
    }

    onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
      if (this.done) return;
      const room = maxResponseBodyBytes - this.received;
      this.received += chunk.length;
      // The parser's memory is reused: a chunk must be copied to be kept.
      this.chunks.push(Buffer.from(chunk.subarray(0, room)));
      if (chunk.length > room) this.end(null);
    }

    onResponseEnd(): void {
      this.end(null);
    }

    onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
      this.end(explain(error));
    }

    /** Settles once; whatever is still open is torn down. */
    end(error: string | null, outcome?: 'blocked'): void {
      if (this.done) return;
      this.done = true;
      inFlight.delete(this);
      const now = performance.now();
      if (this.origin !== undefined) {
        this.origin.exchanges--;
        this.origin.lastUsed = now;
      }
      const { status } = this;
      const success = status !== null && status >= 200 && status < 300;
      const answered = success || status === null ? null : `receiver answered ${status}`;
      const redirect = status !== null && status >= 300 && status < 400 ? ', redirects are not followed' : '';
      const cut = this.received > maxResponseBodyBytes;
      this.settle({
        outcome: outcome ?? (success ? 'delivered' : 'failed'),
        status,
        responseHeaders: this.headers,
        responseBody: status === null ? null : responseText(this.chunks, cut ? maxResponseBodyBytes : null),
        error: answered === null ? error : `${answered}${redirect}${error === null ? '' : `; ${error}`}`,
        retryAfterSeconds: this.retryAfter,
        lookupMs: this.lookupMs,
        connectMs: this.connectMs,
        firstByteMs: this.firstByteMs,
        totalMs: now - this.started,
      });
      if (this.controller !== undefined && (error !== null || cut)) this.controller.abort(ended);
    }
  }

  // Every deadline is equally long, so one timer over what is in flight does for all of them.
  const sweepEveryMs = Math.min(100, Math.ceil(deadlineMs / 10));
  const sweep = setInterval(() => {
    const now = performance.now();
    for (const exchange of inFlight) {
      if (now - exchange.started >= deadlineMs)
        exchange.end(`timeout after ${deadlineMs / 1000} s while ${exchange.phase}`);
      else if (exchange.signal?.aborted) exchange.end(`stopped while ${exchange.phase}`);
    }
    for (const [key, origin] of origins) if (now - origin.lastUsed > idleOriginMs) retire(key, origin);
  }, sweepEveryMs);
  sweep.unref();

  function retire(key: string, origin: Origin): boolean {
    if (origin.exchanges > 0) return false;
    origins.delete(key);
    origin.pool.close().catch(() => {});
    return true;
  }

  // Keyed by what was checked: a connection is never reused for a host that now resolves to something else.
  function originFor({ origin, addresses }: Allowed): Origin {
    const key = `${origin} ${addresses.length === 1 ? addresses[0] : addresses.toSorted().join()}`;
    const known = origins.get(key);
    if (known !== undefined) return known;
    if (origins.size >= maxOrigins) for (const [other, idle] of origins) if (retire(other, idle)) break;
    const pinned = addresses.map(address => ({ address, family: net.isIP(address) }));
    const pool = new Pool(origin, {
      connections: options.connections ?? null,
      maxHeaderSize: options.maxResponseHeaderBytes ?? 16_384,
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: {
        timeout: connectTimeoutMs,
        lookup: (_host, { all }, answer) =>
          all ? answer(null, pinned) : answer(null, pinned[0]!.address, pinned[0]!.family),
      },
    });
    const created = { pool, exchanges: 0, lastUsed: 0 };
    origins.set(key, created);
    return created;
  }

  async function deliver(request: DeliveryRequest, signal?: AbortSignal): Promise<DeliveryResult> {
    let settle!: (result: DeliveryResult) => void;
    const result = new Promise<DeliveryResult>(resolve => {
      settle = resolve;
    });
    const exchange = new Exchange(signal, settle);
    inFlight.add(exchange);
    const verdict = await guard.check(request.url);
    if (exchange.done) return result;
    if (!verdict.allowed) {
      exchange.end(`blocked: ${verdict.reason}`, 'blocked');
      return result;
    }
    exchange.lookupMs = verdict.lookupMs;
    exchange.phase = 'connecting';
    exchange.dispatchedAt = performance.now();
    try {
      exchange.origin = originFor(verdict);
      exchange.origin.exchanges++;
      const headers = { 'user-agent': userAgent, ...request.headers };
      const { origin, path } = verdict;
      exchange.origin.pool.dispatch({ origin, path, method: 'POST', headers, body: request.body }, exchange);
    } catch (error) {
      exchange.end(explain(error));
    }
    return result;
  }

  async function close(): Promise<void> {
    await Promise.all(Array.from(origins.values(), ({ pool }) => pool.close().catch(() => {})));
    origins.clear();
    clearInterval(sweep);
  }

  return { deliver, close };
}
