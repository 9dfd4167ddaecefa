import type { Socket } from 'node:net';
import { type buildConnector, Client, type Dispatcher } from 'undici';

/** The options of a request. Its exchange is told on which connection it is sent, before it is written. */
export type RequestOptions = Dispatcher.DispatchOptions & { exchange: { connection: Connection | null } };

const maxResponseHeaderBytes = 16_384;
const continueLine = /^HTTP\/1\.1 100/;
const continueLength = 'HTTP/1.1 100'.length;
const none = Buffer.alloc(0);

/**
 * Lets the client skip `100 Continue`. RFC 9110 asks clients to skip interim answers that they did not ask for. undici
 * does so for every interim answer except 100, where it closes the connection. This filter turns a 100 into a 102,
 * which undici skips.
 * `pass` returns the bytes that may be parsed now. It keeps bytes that could still become a 100 for the next call.
 */
function createContinueFilter() {
  let reading: 'status line' | 'interim head' | 'answer' = 'answer';
  let kept: Buffer = none;

  /** Goes one step through `bytes` and returns how many may pass; 0 if that depends on bytes that have not arrived. */
  function step(bytes: Buffer): number {
    if (reading === 'answer') return bytes.length;
    if (reading === 'interim head') {
      const end = bytes.indexOf('\r\n\r\n');
      if (end >= 0) reading = 'status line';
      // The last three bytes may be the beginning of the blank line that ends the head.
      return end >= 0 ? end + 4 : Math.max(0, bytes.length - 3);
    }
    const start = bytes.toString('latin1', 0, continueLength);
    if (start.length < continueLength && 'HTTP/1.1 100'.startsWith(start)) return 0;
    if (continueLine.test(start)) {
      bytes.write('102', continueLength - 3, 'latin1');
      reading = 'interim head';
      return continueLength;
    }
    reading = 'answer';
    return bytes.length;
  }

  return {
    /** Says that the next bytes begin an answer. */
    begin(): void {
      reading = 'status line';
      kept = none;
    },
    pass(chunk: Buffer): Buffer {
      if (reading === 'answer') return chunk;
      // The usual case needs no copy: the first bytes of the answer are complete, and its status is no 1xx.
      if (kept === none && chunk.length >= continueLength && chunk[continueLength - 3] !== '1'.charCodeAt(0)) {
        reading = 'answer';
        return chunk;
      }
      let rest: Buffer = Buffer.concat([kept, chunk]);
      const passed: Buffer[] = [];
      for (let length = -1; length !== 0 && rest.length > 0; ) {
        length = step(rest);
        passed.push(rest.subarray(0, length));
        rest = rest.subarray(length);
      }
      kept = rest;
      return Buffer.concat(passed);
    },
  };
}

/** An undici client, which is one connection at a time, and what an exchange needs to know about that connection. */
export class Connection extends Client {
  socket: Socket | null = null;
  /** Whether an earlier exchange went over the socket that is open now. */
  used = false;
  /** Bytes that the receiver has sent since the last request began. */
  received = 0;
  /** Whether the receiver has sent more than its answer, and closes. */
  surplus = false;
  readonly #filter = createContinueFilter();

  /** The exchange itself limits the time, so undici's timeouts are off. */
  constructor(origin: string, connect: buildConnector.connector) {
    super(origin, {
      maxHeaderSize: maxResponseHeaderBytes,
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: (target, callback) =>
        connect(target, (...[error, socket]) => {
          if (error !== null) return callback(error, null);
          this.#watch(socket);
          callback(null, socket);
        }),
    });
  }

  #watch(socket: Socket): void {
    this.socket = socket;
    this.used = false;
    // The parser takes its bytes by read(), so every byte of an answer passes here, with TLS or without.
    const read = socket.read.bind(socket);
    socket.read = (size?: number) => {
      const chunk = read(size) as Buffer | null;
      if (chunk === null) return null;
      this.received += chunk.length;
      return this.#filter.pass(chunk);
    };
    // The parser puts back the bytes that follow an answer, if the connection closes after that answer.
    const unshift = socket.unshift.bind(socket);
    socket.unshift = (chunk: Buffer) => {
      this.surplus = chunk.length > 0;
      return unshift(chunk);
    };
  }

  /** Called when a request is written: the next bytes are its answer. */
  begin(): void {
    this.used = true;
    this.received = 0;
    this.surplus = false;
    this.#filter.begin();
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    (options as RequestOptions).exchange.connection = this;
    return super.dispatch(options, handler);
  }
}
