import type { Dispatcher } from 'undici';
import { announcedLength, explain, responseText, retryAfter } from './answer.ts';
import type { Connection, RequestOptions } from './connection.ts';
import { maskedHeaders } from './echo.ts';
import type { Origin } from './origins.ts';

export type DeliveryRequest = {
  url: string;
  headers: Readonly<Record<string, string>>;
  body: string | Uint8Array;
  /** Whether the request may still be sent; asked right before its first byte is written. */
  mayBegin?: () => boolean;
};

/** The result of one POST. Durations are in milliseconds, and null if the exchange did not get that far. */
export type DeliveryResult = {
  /**
   * `withdrawn`: nothing was sent, because `signal` was aborted or `mayBegin` returned false. `lost`: `signal` was
   * aborted before the receiver answered. Neither is an attempt.
   */
  outcome: 'delivered' | 'failed' | 'blocked' | 'withdrawn' | 'lost';
  status: number | null;
  /** Lower-case names; values that carry credentials are masked. */
  responseHeaders: Record<string, string> | null;
  /** As PostgreSQL can store it. Lines in brackets at its end say that it was cut or cleaned. */
  responseBody: string | null;
  error: string | null;
  /** From 0 to 86400; only a 429 or 503 has it. */
  retryAfterSeconds: number | null;
  lookupMs: number | null;
  /** How long it waited for a connection; almost 0 if one was open. */
  connectMs: number | null;
  /** From then until the response's head had arrived. */
  firstByteMs: number | null;
  totalMs: number;
};

/** The result of a delivery that could not be tried. */
export const notSent = (error: string): DeliveryResult => ({
  outcome: 'failed',
  status: null,
  responseHeaders: null,
  responseBody: null,
  error,
  retryAfterSeconds: null,
  lookupMs: null,
  connectMs: null,
  firstByteMs: null,
  totalMs: 0,
});

type Controller = Dispatcher.DispatchController;

const maxBodyBytes = 16_384;
const maxInformational = 16;
const ended = new Error('the exchange has ended');
/** The errors of a connection whose other side had already closed it. */
const goneCodes = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'ECONNABORTED', 'EPIPE']);

/**
 * One POST, from the look-up to the end of the response's body. It is the handler of an undici dispatch and settles
 * once.
 */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly result = notSent('');
  readonly started = performance.now();
  readonly mayBegin: () => boolean;
  readonly signal: AbortSignal | undefined;
  /** Called once, when the result is final. */
  settle: ((result: DeliveryResult) => void) | null;
  /** The connection that carries it. */
  connection: Connection | null = null;
  /** Where it is sent; null until the look-up has ended. */
  origin: Origin | null = null;
  /** The connection of its own on which it was sent again. */
  ownConnection: Connection | null = null;
  #request: RequestOptions | null = null;
  phase = 'looking up the host';
  #phaseStarted = this.started;
  /** Whether the connection had carried another exchange before. */
  #reused = false;
  #controller: Controller | null = null;
  #informational = 0;
  #announced: number | null = null;
  #read = 0;
  #room = maxBodyBytes;
  #chunks: Buffer[] = [];

  constructor(
    { mayBegin = () => true }: Pick<DeliveryRequest, 'mayBegin'>,
    signal: AbortSignal | undefined,
    settle: (result: DeliveryResult) => void,
  ) {
    this.mayBegin = mayBegin;
    this.signal = signal;
    this.settle = settle;
  }

  dispatch(origin: Origin, request: RequestOptions): void {
    this.enter('connecting');
    this.origin = origin;
    this.#request = request;
    origin.pool.dispatch(request, this);
  }

  enter(phase: string): number {
    const before = this.#phaseStarted;
    this.phase = phase;
    this.#phaseStarted = performance.now();
    return this.#phaseStarted - before;
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    if (this.settle !== null && !this.mayBegin()) this.withdraw('it came too late to be sent');
    // An exchange that ended while it waited for a connection is recorded as failed, and must not be sent any more.
    if (this.settle === null) {
      controller.abort(ended);
      return;
    }
    this.#reused = this.connection?.used ?? false;
    this.connection?.begin();
    this.result.connectMs = this.enter('waiting for the response');
  }

  onResponseStart(_: Controller, status: number, headers: Record<string, string | string[]>): void {
    if (status < 200) {
      if (++this.#informational > maxInformational) this.end(`more than ${maxInformational} informational responses`);
      return;
    }
    this.result.firstByteMs = this.enter('reading the response body');
    this.result.status = status;
    this.#announced = announcedLength(headers['content-length']);
    const shown = maskedHeaders(headers);
    this.result.responseHeaders = shown;
    if (status === 429 || status === 503) this.result.retryAfterSeconds = retryAfter(shown['retry-after']);
  }

  onResponseData(_: Controller, chunk: Buffer): void {
    this.#read += chunk.length;
    this.#chunks.push(chunk.length > this.#room ? chunk.subarray(0, this.#room) : chunk);
    this.#room -= chunk.length;
    if (this.#room < 0) this.end(null);
  }

  onResponseEnd(): void {
    // Bytes that have arrived are parsed first. Bytes beyond the announced length break the connection.
    queueMicrotask(() => {
      const errored = this.connection?.socket?.errored as { code?: string } | null | undefined;
      const goesOn = this.connection?.surplus || (errored && errored.code !== 'UND_ERR_INFO');
      this.end(goesOn ? `the response goes on after its ${this.#announced ?? this.#read} bytes` : null);
    });
  }

  onResponseError(_: Controller | undefined, error: Error & { code?: string }): void {
    // A receiver may close a connection that waits for the next request. The request then goes out once more, on a new
    // connection and within the same deadline. If the receiver has seen it after all, it recognises the event's id.
    const unanswered = this.#reused && this.connection?.received === 0 && goneCodes.has(error.code ?? '');
    if (this.settle !== null && unanswered && this.ownConnection === null) {
      this.enter('connecting');
      this.ownConnection = this.origin!.open();
      this.ownConnection.dispatch(this.#request!, this);
      return;
    }
    const isCutShort = this.#announced !== null && this.#read < this.#announced;
    this.end(
      isCutShort
        ? `the response ended after ${this.#read} of ${this.#announced} bytes; ${explain(error)}`
        : explain(error),
    );
  }

  /** Settles before anything was sent. That is not an attempt. */
  withdraw(reason: string): void {
    this.result.outcome = 'withdrawn';
    this.end(reason);
  }

  /** The process stops: settles without waiting any longer for an answer. */
  abandon(): void {
    const { status, connectMs } = this.result;
    if (connectMs === null) this.result.outcome = 'withdrawn';
    else if (status === null) this.result.outcome = 'lost';
    this.end(`stopped while ${this.phase}`);
  }

  /** Settles once, and closes what is still open. */
  end(error: string | null): void {
    const { settle, result } = this;
    if (settle === null) return;
    this.settle = null;
    result.totalMs = performance.now() - this.started;
    result.error = error;
    if (result.status !== null) {
      result.responseBody = responseText(this.#chunks, this.#room < 0 ? maxBodyBytes : null);
      if (result.status < 300) result.outcome = 'delivered';
      else {
        const redirect = result.status < 400 ? ', redirects are not followed' : '';
        result.error = `receiver answered ${result.status}${redirect}${error === null ? '' : `; ${error}`}`;
      }
    }
    settle(result);
    if (error !== null || this.#room < 0) this.#controller?.abort(ended);
  }
}
