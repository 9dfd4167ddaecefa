import net from 'node:net';
import { gzipSync } from 'node:zlib';

type Expected = { outcome: 'delivered' | 'failed'; status: number | null; error: RegExp | null; body?: RegExp };
export type Hostility = { name: string; act: (socket: net.Socket) => void; expect: Expected };

const ok = 'HTTP/1.1 200 OK\r\n';
const failed = (error: RegExp, status: number | null = null): Expected => ({ outcome: 'failed', status, error });
const delivered = (error: RegExp | null, status = 200, body?: RegExp): Expected => ({
  outcome: 'delivered',
  status,
  error,
  ...(body === undefined ? {} : { body }),
});
const say =
  (...parts: (string | Buffer)[]) =>
  (socket: net.Socket) => {
    for (const part of parts) socket.write(part);
  };
const sayAndEnd = (text: string | Buffer) => (socket: net.Socket) => void socket.end(text);
const sayAndReset = (text: string) => (socket: net.Socket) => {
  // The client gets time to read: a reset discards what the peer has not read yet.
  socket.write(text, () => setTimeout(() => socket.resetAndDestroy(), 400));
};
/** Writes the piece again and again until the client disconnects, as fast as possible or at an interval. */
const forever = (head: string, piece: string | Buffer, everyMs?: number) => (socket: net.Socket) => {
  socket.write(head);
  if (everyMs !== undefined) {
    const timer = setInterval(() => socket.write(piece), everyMs);
    socket.on('close', () => clearInterval(timer));
    return;
  }
  const pump = () => {
    while (!socket.destroyed && socket.write(piece));
  };
  socket.on('drain', pump);
  pump();
};
/** Sends every byte in its own packet. */
const dripped = (text: string) => (socket: net.Socket) => {
  socket.setNoDelay(true);
  let at = 0;
  const timer = setInterval(() => (at < text.length ? socket.write(text[at++]!) : clearInterval(timer)), 2);
  socket.on('close', () => clearInterval(timer));
};
const withStatus = (status: string, headers = '') => say(`HTTP/1.1 ${status}\r\n${headers}content-length: 2\r\n\r\nno`);
const timeout = (phase: string) => new RegExp(`^timeout after [\\d.]+ s while ${phase}$`);

export const hostilities: Hostility[] = [
  { name: 'plain', act: say(`${ok}content-length: 2\r\n\r\nok`), expect: delivered(null, 200, /^ok$/) },
  { name: 'accepts-and-hangs', act: () => {}, expect: failed(timeout('waiting for the response')) },
  { name: 'closes-at-once', act: socket => void socket.end(), expect: failed(/^connection closed/) },
  {
    name: 'resets-at-once',
    act: socket => void socket.resetAndDestroy(),
    expect: failed(/^connection (reset|closed)/),
  },
  {
    name: 'switching-protocols',
    act: say('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n'),
    expect: failed(/bad upgrade/),
  },
  { name: '101-without-upgrade', act: say('HTTP/1.1 101 Switching Protocols\r\n\r\n'), expect: failed(/./) },
  {
    name: 'endless-103',
    act: forever('', 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'),
    expect: failed(/^more than \d+ informational responses$/),
  },
  {
    name: 'slow-103',
    act: forever('', 'HTTP/1.1 103 Early Hints\r\n\r\n', 500),
    expect: failed(timeout('waiting for the response')),
  },
  {
    name: 'endless-100',
    act: forever('', 'HTTP/1.1 100 Continue\r\n\r\n'),
    expect: failed(/^more than \d+ informational responses$/),
  },
  ...['100 Continue', '102 Processing', '103 Early Hints', '199 Odd'].map(
    (status): Hostility => ({
      name: `${status.slice(0, 3)}-then-200`,
      act: say(`HTTP/1.1 ${status}\r\nx-a: b\r\n\r\n`, `${ok}content-length: 2\r\n\r\nok`),
      expect: delivered(null, 200, /^ok$/),
    }),
  ),
  {
    name: '100-dripped',
    act: dripped(`HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Go on\r\nx: y\r\n\r\n${ok}content-length: 2\r\n\r\nok`),
    expect: delivered(null, 200, /^ok$/),
  },
  { name: '100-then-nothing', act: sayAndEnd('HTTP/1.1 100 Continue\r\n\r\n'), expect: failed(/^connection closed/) },
  { name: 'half-a-status-line', act: sayAndEnd('HTTP/1.1 10'), expect: failed(/^connection closed/) },
  {
    name: '204-with-body',
    act: say('HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello'),
    expect: delivered(/ended after 0 of 5 bytes.*content-length/, 204, /^$/),
  },
  {
    name: '204-with-stray-body',
    act: say('HTTP/1.1 204 No Content\r\n\r\nhello'),
    expect: delivered(/^the response goes on after its 0 bytes$/, 204, /^$/),
  },
  { name: '304', act: withStatus('304 Not Modified'), expect: failed(/^receiver answered 304/, 304) },
  { name: 'big-header', act: say(`${ok}x-big: ${'x'.repeat(100_000)}\r\n\r\n`), expect: failed(/headers too large/) },
  { name: 'many-headers', act: say(ok, 'x-a: b\r\n'.repeat(50_000)), expect: failed(/headers too large/) },
  { name: 'endless-header', act: forever(`${ok}x-big: `, 'x'.repeat(16_384)), expect: failed(/headers too large/) },
  { name: 'dripped-headers', act: forever(ok, 'x-a: b\r\n', 100), expect: failed(timeout('waiting for the response')) },
  {
    name: 'endless-reason',
    act: forever('HTTP/1.1 200 ', 'x'.repeat(16_384)),
    expect: failed(timeout('waiting for the response')),
  },
  {
    name: 'endless-body',
    act: forever(`${ok}\r\n`, 'x'.repeat(65_536)),
    expect: delivered(null, 200, /x\n\[cut after 16384 bytes\]$/),
  },
  {
    name: 'endless-chunks',
    act: forever(`${ok}transfer-encoding: chunked\r\n\r\n`, `10000\r\n${'x'.repeat(65_536)}\r\n`),
    expect: delivered(null, 200, /\[cut after 16384 bytes\]$/),
  },
  {
    name: 'endless-chunk-extension',
    act: forever(`${ok}transfer-encoding: chunked\r\n\r\n1;`, 'x'.repeat(16_384)),
    expect: delivered(/./),
  },
  {
    name: 'endless-trailers',
    act: forever(`${ok}transfer-encoding: chunked\r\n\r\n0\r\n`, 'x-a: b\r\n'.repeat(1_000)),
    expect: delivered(/headers too large/),
  },
  {
    name: 'endless-500',
    act: forever('HTTP/1.1 500 No\r\n\r\n', 'x'.repeat(65_536)),
    expect: failed(/^receiver answered 500$/, 500),
  },
  {
    name: 'gzip-bomb',
    act: sayAndEnd(
      Buffer.concat([Buffer.from(`${ok}content-encoding: gzip\r\n\r\n`), gzipSync(Buffer.alloc(64_000_000))]),
    ),
    expect: delivered(null, 200, /\[cut after 16384 bytes\]/),
  },
  {
    name: 'dripped-body',
    act: forever(`${ok}content-length: 100000\r\n\r\n`, 'x', 100),
    expect: delivered(timeout('reading the response body'), 200, /^x+$/),
  },
  {
    name: 'dripped-failure',
    act: forever('HTTP/1.1 503 No\r\n\r\n', 'x', 100),
    expect: failed(/^receiver answered 503; timeout after/, 503),
  },
  {
    name: 'body-never-comes',
    act: say(`${ok}content-length: 10\r\n\r\n`),
    expect: delivered(timeout('reading the response body')),
  },
  { name: 'reset-mid-headers', act: sayAndReset(`${ok}x-a: b\r\nx-`), expect: failed(/^connection (reset|closed)/) },
  { name: 'close-mid-headers', act: sayAndEnd(`${ok}x-a: b\r\nx-`), expect: failed(/./) },
  {
    name: '200-then-reset',
    act: sayAndReset(`${ok}content-length: 10\r\n\r\nhal`),
    expect: delivered(/^the response ended after 3 of 10 bytes; connection (reset|closed)/, 200, /^hal$/),
  },
  {
    name: '200-truncated',
    act: sayAndEnd(`${ok}content-length: 10\r\n\r\nhal`),
    expect: delivered(/^the response ended after 3 of 10 bytes; connection closed/, 200, /^hal$/),
  },
  {
    name: '200-truncated-and-closed',
    act: sayAndEnd(`${ok}connection: close\r\ncontent-length: 10\r\n\r\nhal`),
    expect: delivered(/^the response ended after 3 of 10 bytes/, 200, /^hal$/),
  },
  {
    name: '200-truncated-chunk',
    act: sayAndEnd(`${ok}transfer-encoding: chunked\r\n\r\n5\r\nhal`),
    expect: delivered(/./, 200, /^hal$/),
  },
  {
    name: '200-bad-chunk',
    act: say(`${ok}transfer-encoding: chunked\r\n\r\n3\r\nhal\r\nZZ\r\n`),
    expect: delivered(/^malformed HTTP response/, 200, /^hal$/),
  },
  {
    name: 'longer-than-length',
    act: say(`${ok}content-length: 2\r\n\r\nokay, and more`),
    expect: delivered(/^the response goes on after its 2 bytes$/, 200, /^ok$/),
  },
  {
    name: 'longer-than-length-and-closed',
    act: sayAndEnd(`${ok}connection: close\r\ncontent-length: 2\r\n\r\nokay, and more`),
    expect: delivered(/^the response goes on after its 2 bytes$/, 200, /^ok$/),
  },
  {
    name: 'equal-lengths-twice',
    act: say(`${ok}content-length: 2\r\ncontent-length: 2\r\n\r\nok`),
    expect: failed(/content-length/),
  },
  {
    name: 'second-response',
    act: say(`${ok}content-length: 2\r\n\r\nok${ok}content-length: 4\r\n\r\nevil`),
    expect: delivered(/^the response goes on after its 2 bytes$/, 200, /^ok$/),
  },
  {
    name: 'two-lengths',
    act: say(`${ok}content-length: 2\r\ncontent-length: 3\r\n\r\nok`),
    expect: failed(/^malformed HTTP response|content-length/),
  },
  {
    name: 'negative-length',
    act: say(`${ok}content-length: -1\r\n\r\nok`),
    expect: failed(/^malformed HTTP response|content-length/),
  },
  {
    name: 'length-and-chunked',
    act: say(`${ok}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`),
    expect: failed(/^malformed HTTP response|content-length/),
  },
  { name: 'http-0.9', act: sayAndEnd('<html>hello</html>'), expect: failed(/^malformed HTTP response/) },
  {
    name: 'http-2-preface',
    act: say(Buffer.from('000012040000000000', 'hex')),
    expect: failed(/^malformed HTTP response/),
  },
  { name: 'tls-alert', act: say(Buffer.from('15030100020228', 'hex')), expect: failed(/^malformed HTTP response/) },
  {
    name: 'garbage',
    act: sayAndEnd(Buffer.from(Array.from({ length: 4_096 }, (_, i) => (i * 7_919) & 255))),
    expect: failed(/^malformed HTTP response/),
  },
  { name: 'nul-bytes', act: sayAndEnd(Buffer.alloc(10_000)), expect: failed(/^malformed HTTP response/) },
  { name: 'smtp-banner', act: say('220 mail.example ESMTP\r\n'), expect: failed(/^malformed HTTP response/) },
  { name: 'status-000', act: withStatus('000 Nothing'), expect: failed(/^malformed HTTP response/) },
  { name: 'status-099', act: withStatus('099 Nothing'), expect: failed(/./) },
  { name: 'status-999', act: withStatus('999 Much'), expect: failed(/^receiver answered 999$/, 999) },
  { name: 'status-600', act: withStatus('600 Much'), expect: failed(/^receiver answered 600$/, 600) },
  { name: 'status-20', act: withStatus('20 Short'), expect: failed(/^malformed HTTP response/) },
  { name: 'status-2000', act: withStatus('2000 Long'), expect: failed(/^malformed HTTP response/) },
  {
    name: 'nul-in-header',
    act: say(`${ok}x-a: a\0b\r\ncontent-length: 0\r\n\r\n`),
    expect: failed(/^malformed HTTP response/),
  },
  {
    name: 'prototype-headers',
    act: say(`${ok}__proto__: a\r\nconstructor: b\r\ntoString: c\r\nconstructor: d\r\ncontent-length: 0\r\n\r\n`),
    expect: delivered(null),
  },
  {
    name: 'latin1-header',
    act: say(Buffer.from(`${ok}x-a: \xff\xe9\r\ncontent-length: 0\r\n\r\n`, 'latin1')),
    expect: delivered(null),
  },
  {
    name: 'nul-in-body',
    act: say(`${ok}content-length: 3\r\n\r\na\0b`),
    expect: delivered(null, 200, /^a\ufffdb\n\[cleaned: .*\]$/),
  },
  {
    name: 'invalid-utf8-body',
    act: say(Buffer.from(`${ok}content-length: 8\r\n\r\nA\xff\xfe\xed\xa0\x80\xc0\x80`, 'latin1')),
    expect: delivered(null, 200, /^A\ufffd+\n\[cleaned: .*\]$/),
  },
  {
    name: 'cut-inside-a-character',
    act: say(`${ok}content-length: ${1 + 3 * 6_000}\r\n\r\nx${'\u20ac'.repeat(6_000)}`),
    expect: delivered(null, 200, /\u20ac\n\[cut after 16384 bytes\]$/),
  },
  {
    name: 'half-closes',
    act: sayAndEnd(`${ok}connection: keep-alive\r\ncontent-length: 2\r\n\r\nok`),
    expect: delivered(null),
  },
  ...['301 Moved', '302 Found', '303 See Other', '307 Temporary', '308 Permanent', '300 Many', '399 Odd'].map(
    (status): Hostility => ({
      name: `redirect-${status.slice(0, 3)}`,
      act: withStatus(status, 'location: http://127.0.0.1:1/forbidden\r\n'),
      expect: failed(
        new RegExp(`^receiver answered ${status.slice(0, 3)}, redirects are not followed$`),
        Number(status.slice(0, 3)),
      ),
    }),
  ),
  ...[
    '/relative',
    '//127.0.0.1/',
    'file:///etc/passwd',
    'javascript:1',
    '',
    'http://[::1]/',
    'http://user:p@127.0.0.1/',
    '%',
    `http://a/${'x'.repeat(9_000)}`,
  ].map(
    (location, i): Hostility => ({
      name: `location-${i}`,
      act: withStatus('307 Temporary', `location: ${location}\r\n`),
      expect: failed(/^receiver answered 307, redirects are not followed$/, 307),
    }),
  ),
];

/** A raw socket server. The request's path chooses the hostile behaviour. It counts connections and requests. */
export async function startHostileReceiver(address: string, acts: readonly Hostility[] = hostilities) {
  const byName = new Map(acts.map(({ name, act }) => [name, act]));
  const sockets = new Set<net.Socket>();
  const counted = { connections: 0, requests: 0, peak: 0 };
  const server = net.createServer({ allowHalfOpen: true }, socket => {
    counted.connections++;
    sockets.add(socket);
    counted.peak = Math.max(counted.peak, sockets.size);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('end', () => socket.end());
    socket.on('data', data => {
      const path = /^POST \/([^ ]*) HTTP/.exec(data.toString('latin1'))?.[1];
      if (path === undefined) return;
      counted.requests++;
      byName.get(path)?.(socket);
    });
  });
  await new Promise<void>(resolve => server.listen(0, address, resolve));
  return {
    counted,
    sockets,
    origin: `http://${address}:${(server.address() as net.AddressInfo).port}`,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
