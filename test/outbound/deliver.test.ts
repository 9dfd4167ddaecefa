import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import type { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import t from 'tap';
import { createDeliverer, type DeliveryResult } from '../../src/outbound/deliver.ts';
import { createGuard, type Guard } from '../../src/outbound/destination.ts';
import { startFakeDns } from '../support/fake-dns.ts';
import { hostilities } from '../support/hostile-receiver.ts';
import { good } from '../support/vectors/dns.ts';
import { authority, certificate, privateKey } from '../support/vectors/tls.ts';

const local = createGuard({ allowHttp: true, allowDestinations: ['127.0.0.0/8'], dnsServers: [] });
const make = (more: Partial<Parameters<typeof createDeliverer>[0]> = {}) => {
  const deliverer = createDeliverer({ guard: local, userAgent: 'collecta-webhooks/test', ...more });
  t.teardown(() => deliverer.close());
  return deliverer;
};
const headers = { 'content-type': 'application/json', 'webhook-id': 'evt_1' };
const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));

const uncaught: unknown[] = [];
process.on('uncaughtExceptionMonitor', error => uncaught.push(error));

async function serve(handler: http.RequestListener) {
  const server = http.createServer(handler);
  let connections = 0;
  server.on('connection', () => connections++);
  await new Promise<void>(resolve => server.listen(0, good, resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    origin: `http://${good}:${(server.address() as net.AddressInfo).port}`,
    connections: () => connections,
    server,
  };
}

t.test('the body is sent byte for byte, with the given headers', async t => {
  const seen: { request: http.IncomingMessage; body: Buffer }[] = [];
  const { origin, connections } = await serve(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    seen.push({ request, body: Buffer.concat(chunks) });
    response.setHeader('set-cookie', 'session=1').end('thanks');
  });
  const deliverer = make();
  const body = '{"n": 1.10, "s": "Zoë \\u0000 🚀"}';
  const results: DeliveryResult[] = [];
  for (const sent of [body, Buffer.from(body), '{}', '{}', '{}'])
    results.push(await deliverer.deliver({ url: `${origin}/hook/a%20b?x=1&y=%2F`, headers, body: sent }));
  // undici frees a connection one turn of the event loop after its response.
  t.ok(connections() <= 2, 'connections are used again');
  t.same(
    seen.map(({ body }) => body.toString()),
    [body, body, '{}', '{}', '{}'],
  );
  for (const { request } of seen) {
    t.equal(request.method, 'POST');
    t.equal(request.url, '/hook/a%20b?x=1&y=%2F');
    t.equal(request.headers['user-agent'], 'collecta-webhooks/test');
    t.equal(request.headers['webhook-id'], 'evt_1');
    t.equal(request.headers.cookie, undefined, 'no cookie comes back');
    t.equal(request.headers['accept-encoding'], undefined);
    t.equal(request.headers['transfer-encoding'], undefined);
  }
  const [first, second] = results as [DeliveryResult, DeliveryResult];
  t.match(first, { outcome: 'delivered', status: 200, responseBody: 'thanks', error: null, retryAfterSeconds: null });
  t.equal(first.lookupMs, 0);
  for (const result of results) {
    t.ok(result.connectMs! >= 0 && result.firstByteMs! > 0);
    t.ok(result.totalMs >= result.connectMs! + result.firstByteMs!);
  }
  t.ok(second.connectMs! < first.totalMs);
});

t.test('only a 2xx answer counts as delivered', async t => {
  const { origin } = await serve((request, response) => response.writeHead(Number(request.url!.slice(1))).end());
  const deliverer = make();
  for (const status of [
    200, 201, 202, 204, 205, 226, 299, 300, 301, 304, 307, 400, 401, 404, 410, 422, 429, 500, 503,
  ]) {
    const result = await deliverer.deliver({ url: `${origin}/${status}`, headers, body: '{}' });
    t.match(result, { status, outcome: status < 300 ? 'delivered' : 'failed' });
    if (status < 300) t.equal(result.error, null);
    else t.match(result.error, new RegExp(`^receiver answered ${status}`));
  }
});

t.test('Retry-After of a 429 or 503 may be seconds or a date, for up to a day', async t => {
  let answer = { status: 429, value: '5' };
  const { origin } = await serve((_, response) =>
    response.writeHead(answer.status, { 'retry-after': answer.value }).end(),
  );
  const deliverer = make();
  const asked = async (status: number, value: string) => {
    answer = { status, value };
    return (await deliverer.deliver({ url: origin, headers, body: '{}' })).retryAfterSeconds;
  };
  for (const status of [429, 503]) {
    t.equal(await asked(status, '5'), 5);
    t.equal(await asked(status, '0'), 0);
    t.equal(await asked(status, '-1'), 0);
    t.equal(await asked(status, '1000000000'), 86_400);
    t.equal(await asked(status, '9'.repeat(400)), 86_400);
    const inAMinute = await asked(status, new Date(Date.now() + 60_000).toUTCString());
    t.ok(inAMinute! > 55 && inAMinute! <= 60);
    t.equal(await asked(status, new Date(0).toUTCString()), 0);
    t.equal(await asked(status, new Date(8e15).toUTCString()), 86_400);
    for (const garbage of ['', 'soon', '1e9', '0x10', '5 minutes', '5.5', 'Mon, 99 Foo 2026', '2026-01-01', '5, 6'])
      t.equal(await asked(status, garbage), null, garbage);
  }
  for (const status of [200, 500, 302, 404]) t.equal(await asked(status, '5'), null, `not of a ${status}`);
});

t.test('header values that carry credentials are masked, and names are lower case', async t => {
  const { origin } = await serve((_, response) => {
    response.setHeader('Set-Cookie', ['a=s3cret', 'b=s3cret']);
    for (const name of [
      'Authorization',
      'X-Api-Key',
      'X-Auth-Token',
      'X-Webhook-Signature',
      'X-Secret',
      'WWW-Authenticate',
    ])
      response.setHeader(name, 's3cret');
    response.setHeader('X-Request-Id', 'r1').setHeader('Vary', ['a', 'b']).end();
  });
  const { responseHeaders } = await make().deliver({ url: origin, headers, body: '{}' });
  t.notMatch(JSON.stringify(responseHeaders), /s3cret/);
  t.match(responseHeaders, { 'set-cookie': '***', authorization: '***', 'x-request-id': 'r1' });
  t.same(
    Object.values(responseHeaders!).filter(value => typeof value !== 'string'),
    [],
  );
});

t.test('a request that cannot be sent is an ordinary failure', async t => {
  const { origin } = await serve((_, response) => response.end());
  const deliverer = make();
  const bad: Record<string, string>[] = [
    { 'x-a': 'line\r\nbreak' },
    { 'x-a': '☃' },
    { 'x-a': 'nul\0' },
    { 'x a': 'b' },
    { '': 'b' },
    { 'content-length': '7' },
    { 'transfer-encoding': 'chunked' },
    { connection: 'upgrade', upgrade: 'websocket' },
    { expect: '100-continue' },
  ];
  for (const more of bad) {
    const result = await deliverer.deliver({ url: origin, headers: { ...headers, ...more }, body: '{"secret":1}' });
    t.match(result, { outcome: 'failed', status: null, responseBody: null }, JSON.stringify(more));
    t.ok(result.error);
    t.notMatch(result.error, /"secret"|line|☃/, 'which quotes neither value nor body');
  }
  const closedPort = await serve(() => {});
  await new Promise(resolve => closedPort.server.close(resolve));
  t.match(await deliverer.deliver({ url: closedPort.origin, headers, body: '{}' }), {
    outcome: 'failed',
    error: 'connection refused',
    status: null,
  });
  t.match(await deliverer.deliver({ url: 'http://10.0.0.1/', headers, body: '{}' }), {
    outcome: 'blocked',
    error: 'blocked: 10.0.0.1 is private (10.0.0.0/8)',
    responseHeaders: null,
  });
  const broken = make({ guard: { check: () => Promise.reject(new TypeError('bug')) } });
  t.match(await broken.deliver({ url: origin, headers, body: '{}' }), { outcome: 'failed', error: 'TypeError: bug' });
});

t.test('the deadline covers look-up, connection and exchange', async t => {
  const slowGuard: Guard = { check: url => pause(800).then(() => local.check(url)) };
  const requests: string[] = [];
  const { origin } = await serve((request, response) => {
    requests.push(request.url!);
    if (request.url !== '/hangs') response.end();
  });
  const timed = async (deliverer: ReturnType<typeof make>, path: string) => {
    const started = performance.now();
    const result = await deliverer.deliver({ url: origin + path, headers, body: '{}' });
    t.ok(performance.now() - started < 700, `${path} ended in time`);
    return result;
  };
  t.match(await timed(make({ guard: slowGuard, deadlineMs: 300 }), '/looked-up-late'), {
    outcome: 'failed',
    error: 'timeout after 0.3 s while looking up the host',
    lookupMs: null,
  });
  const one = make({ deadlineMs: 300, connections: 1 });
  const [first, queued] = await Promise.all([timed(one, '/hangs'), timed(one, '/queued')]);
  t.match(first, { error: 'timeout after 0.3 s while waiting for the response', connectMs: Number, firstByteMs: null });
  t.match(queued, { error: 'timeout after 0.3 s while connecting', connectMs: null });
  await pause(900);
  t.same(requests, ['/hangs'], 'what was recorded as failed is not sent afterwards');
  t.match(await timed(one, '/later'), { outcome: 'delivered' });
});

t.test('an abort signal ends an exchange or prevents it', async t => {
  let requests = 0;
  const { origin } = await serve(() => requests++);
  const deliverer = make();
  const stop = new AbortController();
  const started = performance.now();
  const under = Promise.all(
    Array.from({ length: 20 }, () => deliverer.deliver({ url: origin, headers, body: '{}' }, stop.signal)),
  );
  await pause(100);
  stop.abort();
  for (const result of await under) t.match(result, { outcome: 'lost', error: /^stopped while waiting/ });
  t.ok(performance.now() - started < 600);
  const before = requests;
  t.match(await deliverer.deliver({ url: origin, headers, body: '{}' }, stop.signal), {
    outcome: 'withdrawn',
    error: 'stopped before it was sent',
  });
  t.equal(requests, before);
});

t.test('close waits for requests in flight and leaves no connection open', async t => {
  const { origin, server } = await serve((_, response) => void setTimeout(() => response.end('late'), 200));
  const deliverer = createDeliverer({ guard: local, userAgent: 'x' });
  const result = deliverer.deliver({ url: origin, headers, body: '{}' });
  await pause(50);
  await deliverer.close();
  t.match(await result, { outcome: 'delivered', responseBody: 'late' });
  await pause(50);
  t.equal(await promisify(server.getConnections.bind(server))(), 0);
});

/**
 * A raw server. The function decides what it does with each request, by the number of the connection and of the request
 * on it.
 */
async function serveRaw(act: (socket: net.Socket, connection: number, request: number) => void) {
  const seen: string[] = [];
  let connections = 0;
  const server = net.createServer(socket => {
    const connection = ++connections;
    let request = 0;
    socket.on('error', () => {});
    socket.on('data', data => {
      if (!data.toString('latin1').includes('POST ')) return;
      seen.push(`${connection}.${++request}`);
      act(socket, connection, request);
    });
  });
  await new Promise<void>(resolve => server.listen(0, good, resolve));
  t.teardown(() => server.close());
  return { origin: `http://${good}:${(server.address() as net.AddressInfo).port}`, seen };
}
const answer = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';

t.test('a reused connection that ends before a byte of the answer is not an attempt', async t => {
  const ends: [name: string, end: (socket: net.Socket) => void][] = [
    ['closed', socket => void socket.end()],
    ['reset', socket => void socket.resetAndDestroy()],
    ['destroyed', socket => void socket.destroy()],
  ];
  for (const [name, end] of ends) {
    const { origin, seen } = await serveRaw((socket, connection, request) =>
      connection === 1 && request === 2 ? end(socket) : socket.write(answer),
    );
    const deliverer = make({ connections: 1 });
    const deliver = () => deliverer.deliver({ url: origin, headers, body: '{}' });
    t.match(await deliver(), { outcome: 'delivered' });
    await pause(20);
    t.match(await deliver(), { outcome: 'delivered', status: 200, responseBody: 'ok', error: null }, name);
    t.same(seen, ['1.1', '1.2', '2.1'], `${name}: it goes out once more, on a new connection`);
    t.match(await deliver(), { outcome: 'delivered' }, `${name}: and the next one as always`);
  }
});

t.test('a connection that was new, had answered a byte, or ended twice makes it an attempt', async t => {
  const cases: [name: string, act: Parameters<typeof serveRaw>[0], seen: string[], error: RegExp][] = [
    [
      'a byte of the answer',
      (socket, _, n) => (n === 1 ? socket.write(answer) : socket.end('H')),
      ['1.1', '1.2'],
      /closed/,
    ],
    [
      'an interim answer',
      (socket, _, n) => (n === 1 ? socket.write(answer) : socket.end('HTTP/1.1 100 Continue\r\n\r\n')),
      ['1.1', '1.2'],
      /closed/,
    ],
    [
      'twice',
      (socket, connection, n) => (connection === 1 && n === 1 ? socket.write(answer) : socket.end()),
      ['1.1', '1.2', '2.1'],
      /closed/,
    ],
    [
      'no answer at all',
      (socket, connection, n) => {
        if (connection === 1 && n === 1) socket.write(answer);
        else if (connection === 1) socket.end();
      },
      ['1.1', '1.2', '2.1'],
      /^timeout after 0.6 s while waiting for the response$/,
    ],
  ];
  for (const [name, act, expected, error] of cases) {
    const { origin, seen } = await serveRaw(act);
    const deliverer = make({ connections: 1, deadlineMs: 600 });
    t.match(await deliverer.deliver({ url: origin, headers, body: '{}' }), { outcome: 'delivered' });
    await pause(20);
    const result = await deliverer.deliver({ url: origin, headers, body: '{}' });
    t.match(result, { outcome: 'failed', status: null, error }, name);
    t.ok(result.totalMs < 900, `${name}: within one deadline`);
    t.same(seen, expected, name);
  }
  const fresh = await serveRaw(socket => socket.end());
  t.match(await make().deliver({ url: fresh.origin, headers, body: '{}' }), { outcome: 'failed', error: /closed/ });
  t.same(fresh.seen, ['1.1'], 'a new connection that ends');
});

t.test('nothing is lost when receivers close idle connections without notice', async t => {
  let requests = 0;
  const { origin } = await serve((request, response) => {
    requests++;
    response.end('ok', () => setTimeout(() => request.socket.destroy(), 3));
  });
  const deliverer = make();
  for (let i = 0; i < 300; i++) {
    const { outcome, error } = await deliverer.deliver({ url: origin, headers, body: '{}' });
    if (outcome !== 'delivered') t.fail(`${i}: ${error}`);
    await pause(1 + (i % 4));
  }
  t.ok(requests >= 300, `${requests} requests`);
});

t.test('a request whose time to begin is over when its connection is ready is not sent', async t => {
  let requests = 0;
  const { origin } = await serve((_, response) => {
    requests++;
    response.end();
  });
  const deliverer = make();
  const late = await deliverer.deliver({ url: origin, headers, body: '{}', mayBegin: () => false });
  t.match(late, { outcome: 'withdrawn', status: null, error: /too late/ });
  t.equal(requests, 0);
  t.match(await deliverer.deliver({ url: origin, headers, body: '{}', mayBegin: () => true }), {
    outcome: 'delivered',
  });
});

t.test('thousands of origins leave no sockets and little memory behind', async t => {
  const { origin, server } = await serve((_, response) => response.end());
  const port = new URL(origin).port;
  const names = createGuard({
    allowHttp: true,
    allowDestinations: [good],
    dnsServers: [
      await startFakeDns(({ type }) => (type === 'A' ? { records: [{ type: 'A', data: good }] } : {})).then(dns => {
        t.teardown(dns.close);
        return dns.address;
      }),
    ],
  });
  const deliverer = make({ guard: names });
  for (let i = 0; i < 1_320; i += 40) {
    const results = await Promise.all(
      Array.from({ length: 40 }, (_, j) =>
        deliverer.deliver({ url: `http://host-${i + j}.test:${port}/`, headers, body: '{}' }),
      ),
    );
    t.ok(results.every(({ outcome }) => outcome === 'delivered'));
  }
  const open = await promisify(server.getConnections.bind(server))();
  t.ok(open! <= 1_001, `${open} connections at once, over 1,320 hosts`);
});

t.test('hostile receivers cause no memory growth or unhandled error and delay no other', async t => {
  const child = spawn(process.execPath, [...process.execArgv, 'test/support/vectors/run-hostile.ts'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill());
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const hostile = line.toString().trim();
  const { origin } = await serve((_, response) => response.end('ok'));
  const deliverer = make({ deadlineMs: 1_000 });
  const patient = make();
  const round = () =>
    Promise.all(hostilities.map(({ name }) => deliverer.deliver({ url: `${hostile}/${name}`, headers, body: '{}' })));
  await round();
  const used = () => process.memoryUsage().rss + process.memoryUsage().external;
  const before = used();
  const times: number[] = [];
  let running = true;
  const others = (async () => {
    while (running) {
      const result = await patient.deliver({ url: origin, headers, body: '{}' });
      t.equal(result.outcome, 'delivered');
      times.push(result.totalMs);
      await pause(20);
    }
  })();
  for (let i = 0; i < 4; i++)
    for (const result of await round()) {
      t.ok(result.outcome === 'delivered' || result.error, 'a failure says why');
      t.ok((result.responseBody?.length ?? 0) < 16_600);
      t.ok((result.error?.length ?? 0) <= 250);
      t.notMatch(JSON.stringify(result), /\\u0000|\\ud[89a-f]/, 'PostgreSQL can store it');
    }
  running = false;
  await others;
  t.ok(used() - before < 100_000_000, `${Math.round((used() - before) / 1e6)} MB more`);
  // Half of the hostile ones' deadline. A busy machine may hold up a single one.
  const slow = times.filter(each => each >= 500);
  t.ok(slow.length <= times.length / 20, `${slow.length} of ${times.length} others took 500 ms or longer: ${slow}`);
  await pause(300);
  const left = process.getActiveResourcesInfo().filter(name => name === 'TCPSocketWrap').length;
  t.ok(left < 40, `${left} sockets are left open`);
  t.same(uncaught, []);
});

t.test('TLS connects to the checked address and verifies the certificate for the host name', async t => {
  const servernames: unknown[] = [];
  let requests = 0;
  const server = https.createServer({ cert: certificate, key: privateKey }, (request, response) => {
    requests++;
    // A connection that has carried an earlier request ends without an answer.
    if (request.url === '/ends' && requests === 3) request.socket.destroy();
    else response.end('ok');
  });
  server.on('secureConnection', (socket: TLSSocket & { servername?: unknown }) => servernames.push(socket.servername));
  server.on('tlsClientError', () => {});
  await new Promise<void>(resolve => server.listen(0, good, resolve));
  const dns = await startFakeDns(({ type }) => (type === 'A' ? { records: [{ type: 'A', data: good }] } : {}));
  t.teardown(async () => {
    server.closeAllConnections();
    server.close();
    await dns.close();
  });
  const { port } = server.address() as net.AddressInfo;
  const ca = `${t.testdir()}/ca.pem`;
  await writeFile(ca, authority);
  const args = [
    'test/support/vectors/run-tls.ts',
    dns.address,
    `https://tls.test:${port}/`,
    `https://other.test:${port}/`,
    `https://tls.test.:${port}/`,
    `https://tls.test.:${port}/ends`,
  ];
  const allow = [
    '--allow-net=127.0.0.1,127.0.0.2,tls.test,other.test',
    '--allow-env',
    '--allow-read=.',
    '--allow-sys=networkInterfaces',
  ];
  const runs = {
    Node: [process.execPath, [...process.execArgv, ...args], { NODE_EXTRA_CA_CERTS: ca }],
    Deno: ['npx', ['deno', 'run', '--no-prompt', '--cert', ca, ...allow, ...args], {}],
  } as const;
  for (const [runtime, [file, argv, env]] of Object.entries(runs)) {
    servernames.length = requests = 0;
    const { stdout } = await promisify(execFile)(file, argv, { env: { ...process.env, ...env }, timeout: 60_000 });
    const [right, wrong, absolute, ends] = JSON.parse(stdout) as DeliveryResult[];
    t.match(right, { outcome: 'delivered', status: 200, error: null }, runtime);
    t.equal(servernames[0], 'tls.test', 'SNI is the host name');
    t.match(wrong, { outcome: 'failed', status: null, error: /certificate|CERT|TLS/i }, runtime);
    t.match(absolute, { outcome: 'delivered', status: 200, error: null }, 'a name with a dot at its end');
    t.ok(
      servernames.every(name => name === 'tls.test' || name === 'other.test'),
      'which does not go into SNI',
    );
    t.match(ends, { outcome: 'delivered', status: 200, error: null }, 'sent again where the connection had ended');
    t.equal(requests, 4, 'nothing was sent under the wrong name');
  }
});
