import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Log } from '../log.ts';
import { countInbound } from '../metrics.ts';
import { type InboundAnswer, type InboundRequest, problem } from './handler.ts';

/** Longer than the pauses between two packets of an honest client. */
const lingerMs = 1000;

export type Answer = (request: InboundRequest) => Promise<InboundAnswer>;

/**
 * A server of `node:http` with inbound's limits on time and headers. Deno uses it too, because Deno's own server has no
 * time limit for headers.
 */
export function createInboundServer(answer: Answer, log: Log, onAnswer: (status: number) => void = countInbound) {
  const server = createServer({
    headersTimeout: 10_000,
    requestTimeout: 30_000,
    connectionsCheckingInterval: 5000,
    keepAliveTimeout: 65_000,
    maxHeaderSize: 16_384,
  });
  server.maxConnections = 10_000;
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    serve(answer, request, response, onAnswer).catch(error => {
      const { code } = error as { code?: string };
      log[code === 'ECONNRESET' ? 'debug' : 'error']('inbound request ended early', { code });
      if (!response.headersSent && !response.destroyed) send(request, response, problem(503, 'Something went wrong.'));
    });
  });
  return server;
}

async function serve(
  answer: Answer,
  request: IncomingMessage,
  response: ServerResponse,
  onAnswer: (status: number) => void,
): Promise<void> {
  const headers: Record<string, string> = {};
  for (let i = 0; i < request.rawHeaders.length; i += 2) {
    // request.headers would keep only the first of some repeated headers. Two content types must not count as one.
    const name = request.rawHeaders[i]!.toLowerCase();
    const value = request.rawHeaders[i + 1]!;
    headers[name] = Object.hasOwn(headers, name) ? `${headers[name]}, ${value}` : value;
  }
  const result = await answer({
    method: request.method ?? '',
    target: request.url ?? '',
    headers,
    body: request.iterator({ destroyOnReturn: false }),
    remoteAddress: request.socket.remoteAddress,
  });
  onAnswer(result.status);
  send(request, response, result);
}

function send(request: IncomingMessage, response: ServerResponse, { status, headers, body }: InboundAnswer): void {
  const unread = !request.complete;
  // All answers of 404 are alike, whether the body was read before or not.
  const close = unread || status === 404;
  response.writeHead(status, {
    ...headers,
    'content-length': Buffer.byteLength(body),
    ...(close && { connection: 'close' }),
  });
  if (!unread || body === '') {
    response.end(body);
    return;
  }
  // The rest of the body is read and thrown away for a moment. If the connection were closed at once, a reset could
  // make the client lose the answer.
  response.write(body);
  const finish = () => response.end(() => request.socket.destroy());
  const timer = setTimeout(finish, lingerMs);
  request.once('end', () => {
    clearTimeout(timer);
    finish();
  });
  request.on('error', () => {});
  request.resume();
}
