import net from 'node:net';
import { setInterval } from 'node:timers';
import { type Dispatcher, Pool } from 'undici';
import type { Allowed, Guard } from './destination.ts';

export type DeliveryRequest = { url: string; headers: Readonly<Record<string, string>>; body: string | Uint8Array };

/** What one POST came to. Durations are milliseconds, null where the exchange did not get that far. */
export type DeliveryResult = {
  outcome: 'delivered' | 'failed' | 'blocked';
  status: number | null;
  /** Lower-case names; values that carry credentials are masked. */
  responseHeaders: Record<string, string> | null;
  /** Fit for PostgreSQL's text; last lines in brackets say where it was cut or cleaned. */
  responseBody: string | null;
  error: string | null;
  /** Only where a 429 or 503 asks for it, 0 to 3600. */
  retryAfterSeconds: number | null;
  lookupMs: number | null;
  /** The wait for a connection: next to nothing where one was open. */
  connectMs: number | null;
  /** From then to the response's head. */
  firstByteMs: number | null;
  totalMs: number;
};

export type Deliverer = {
  deliver(request: DeliveryRequest, signal?: AbortSignal): Promise<DeliveryResult>;
  close(): Promise<void>;
};

type Controller = Dispatcher.DispatchController;
type Origin = { pool: Pool; exchanges: number; lastUsed: number };

const idleOriginMs = 15_000;
const maxOrigins = 1_000;
const maxInformational = 16;
const maxRetryAfterSeconds = 3_600;
const credentialHeader = /cookie|auth|token|secret|passw|api-?key|signature/;
const ended = new Error('the exchange has ended');

const explained: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ETIMEDOUT: 'timeout while connecting',
  UND_ERR_CONNECT_TIMEOUT: 'timeout while connecting',
  UND_ERR_HEADERS_OVERFLOW: 'response headers too large',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'response body and content-length differ',
  ERR_ASSERTION: 'malformed HTTP response',
};

// The messages that are passed on hold header names and addresses, never a value, a path or a body.
function explain(error: Error & { code?: string }): string {
  const { code = error.name, message } = error;
  if (error.name === 'HTTPParserError') return `malformed HTTP response${message.match(/ \(.*\)$/)?.[0] ?? ''}`;
  if (code === 'UND_ERR_SOCKET') return `connection closed (${message})`;
  return explained[code] ?? (code.startsWith('ERR_SSL_') ? `TLS: ${code}` : `${code}: ${message}`.slice(0, 200));
}

function retryAfter(value: string | undefined): number | null {
  let seconds = Number.NaN;
  if (value && /^-?\d+$/.test(value)) seconds = Number(value);
  else if (value && /^[A-Z][a-z]{2}, \d/.test(value)) seconds = Math.ceil((Date.parse(value) - Date.now()) / 1000);
  return Number.isNaN(seconds) ? null : Math.min(Math.max(seconds, 0), maxRetryAfterSeconds);
}

function responseText(chunks: Buffer[], cutAfter: number | null): string {
  const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  // In stream mode the decoder leaves out a character that the cut split.
  const decoded = cutAfter === null ? bytes.toString() : new TextDecoder().decode(bytes, { stream: true });
  const text = decoded.replaceAll('\0', '\ufffd');
  const cut = cutAfter === null ? '' : `\n[cut after ${cutAfter} bytes]`;
  return text.includes('\ufffd') ? `${text}${cut}\n[cleaned: \ufffd stands for what is no text]` : text + cut;
}

/**
 * The delivery client. `deliver` sends one POST to an address that the guard has checked; it never throws: whatever the
 * receiver does is a result. Only a 2xx is delivered, even if its body then breaks off or meets the deadline, which
 * spans the whole exchange (`error` is set). No redirects, no decompression, no cookies. Header names are lower case.
 * `signal` ends an exchange within 100 ms; `close` waits for those in flight. `connections` is per origin.
 */
export function createDeliverer(options: {
  guard: Guard;
  userAgent: string;
  deadlineMs?: number;
  maxResponseBodyBytes?: number;
  maxResponseHeaderBytes?: number;
  connections?: number;
}): Deliverer {
  const { guard, userAgent, deadlineMs = 30_000, maxResponseBodyBytes = 16_384 } = options;
  const origins = new Map<string, Origin>();
  const inFlight = new Set<Exchange>();

  class Exchange implements Dispatcher.DispatchHandler {
    readonly result: DeliveryResult = {
      outcome: 'failed',
      status: null,
      responseHeaders: null,
      responseBody: null,
      error: null,
      retryAfterSeconds: null,
      lookupMs: null,
      connectMs: null,
      firstByteMs: null,
      totalMs: 0,
    };
    readonly started = performance.now();
    readonly signal: AbortSignal | undefined;
    settle: ((result: DeliveryResult) => void) | null;
    phase = 'looking up the host';
    phaseStarted = this.started;
    origin: Origin | null = null;
    controller: Controller | null = null;
    informational = 0;
    room = maxResponseBodyBytes;
    chunks: Buffer[] = [];

    constructor(signal: AbortSignal | undefined, settle: (result: DeliveryResult) => void) {
      this.signal = signal;
      this.settle = settle;
    }

    enter(phase: string): number {
      const before = this.phaseStarted;
      this.phase = phase;
      this.phaseStarted = performance.now();
      return this.phaseStarted - before;
    }

    onRequestStart(controller: Controller): void {
      this.controller = controller;
      // What ended while it waited for a connection is recorded as failed: it must not be sent any more.
      if (this.settle === null) controller.abort(ended);
      else this.result.connectMs = this.enter('waiting for the response');
    }

    onResponseStart(_: Controller, status: number, headers: Record<string, string | string[]>): void {
      if (status < 200) {
        if (++this.informational > maxInformational) this.end(`more than ${maxInformational} informational responses`);
        return;
      }
      const kept: Record<string, string> = {};
      for (const name in headers) kept[name] = credentialHeader.test(name) ? '***' : headers[name]!.toString();
      this.result.firstByteMs = this.enter('reading the response body');
      this.result.status = status;
      this.result.responseHeaders = kept;
      if (status === 429 || status === 503) this.result.retryAfterSeconds = retryAfter(kept['retry-after']);
    }

    onResponseData(_: Controller, chunk: Buffer): void {
      this.chunks.push(chunk.length > this.room ? chunk.subarray(0, this.room) : chunk);
      this.room -= chunk.length;
      if (this.room < 0) this.end(null);
    }

    onResponseEnd(): void {
      this.end(null);
    }

    onResponseError(_: Controller | undefined, error: Error): void {
      this.end(explain(error));
    }

    /** Settles, once, and tears down what is still open. */
    end(error: string | null): void {
      const { settle, result, origin } = this;
      if (settle === null) return;
      this.settle = null;
      inFlight.delete(this);
      const now = performance.now();
      result.totalMs = now - this.started;
      result.error = error;
      if (origin !== null) {
        origin.exchanges--;
        origin.lastUsed = now;
      }
      if (result.status !== null) {
        result.responseBody = responseText(this.chunks, this.room < 0 ? maxResponseBodyBytes : null);
        if (result.status < 300) result.outcome = 'delivered';
        else {
          const redirect = result.status < 400 ? ', redirects are not followed' : '';
          result.error = `receiver answered ${result.status}${redirect}${error === null ? '' : `; ${error}`}`;
        }
      }
      settle(result);
      if (error !== null || this.room < 0) this.controller?.abort(ended);
    }
  }

  // All deadlines are equally long, so one timer over what is in flight serves them all.
  const sweep = setInterval(
    () => {
      const now = performance.now();
      for (const exchange of inFlight) {
        if (exchange.signal?.aborted) exchange.end(`stopped while ${exchange.phase}`);
        else if (now - exchange.started >= deadlineMs)
          exchange.end(`timeout after ${deadlineMs / 1000} s while ${exchange.phase}`);
      }
      for (const [key, origin] of origins) if (now - origin.lastUsed > idleOriginMs) retire(key, origin);
    },
    Math.min(100, Math.ceil(deadlineMs / 10)),
  );
  sweep.unref();

  function retire(key: string, { pool, exchanges }: Origin): boolean {
    if (exchanges > 0) return false;
    pool.close().catch(() => {});
    return origins.delete(key);
  }

  // Keyed by what was checked: a connection is never reused for a host that now resolves to something else.
  function originOf({ origin, addresses }: Allowed): Origin {
    const key = `${origin} ${addresses.length === 1 ? addresses[0] : addresses.toSorted().join()}`;
    let found = origins.get(key);
    if (found !== undefined) return found;
    if (origins.size >= maxOrigins) for (const [other, idle] of origins) if (retire(other, idle)) break;
    const pinned = addresses.map(address => ({ address, family: net.isIP(address) }));
    const pool = new Pool(origin, {
      connections: options.connections ?? null,
      maxHeaderSize: options.maxResponseHeaderBytes ?? 16_384,
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: {
        timeout: Math.min(10_000, deadlineMs),
        lookup: (_host, { all }, answer) =>
          all ? answer(null, pinned) : answer(null, pinned[0]!.address, pinned[0]!.family),
      },
    });
    found = { pool, exchanges: 0, lastUsed: 0 };
    origins.set(key, found);
    return found;
  }

  async function send(exchange: Exchange, { url, headers, body }: DeliveryRequest): Promise<void> {
    try {
      const verdict = await guard.check(url);
      if (exchange.signal?.aborted) exchange.end('stopped before it was sent');
      if (exchange.settle === null) return;
      if (!verdict.allowed) {
        exchange.result.outcome = 'blocked';
        return exchange.end(`blocked: ${verdict.reason}`);
      }
      exchange.result.lookupMs = verdict.lookupMs;
      exchange.enter('connecting');
      const { origin, path } = verdict;
      exchange.origin = originOf(verdict);
      exchange.origin.exchanges++;
      const request = { origin, path, method: 'POST' as const, headers: { 'user-agent': userAgent, ...headers }, body };
      exchange.origin.pool.dispatch(request, exchange);
    } catch (error) {
      exchange.end(explain(error as Error));
    }
  }

  return {
    deliver(request, signal) {
      return new Promise(settle => {
        const exchange = new Exchange(signal, settle);
        inFlight.add(exchange);
        send(exchange, request);
      });
    },
    async close() {
      await Promise.all(Array.from(origins.values(), ({ pool }) => pool.close().catch(() => {})));
      clearInterval(sweep);
    },
  };
}
