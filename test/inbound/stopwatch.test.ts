/**
 * What large inbound bodies may cost: deliveries continue beside them, and requests above the bound in bytes are
 * refused.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { useServer } from '../support/database.ts';
import { makeEndpoint, makeModule, post, startReceiving } from '../support/inbound.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';

const { database } = await useServer();
const mebibyte = 1024 * 1024;

/** Sends the same request over one connection without a pause, and counts the statuses. */
function flood(port: number, request: Buffer, statuses: Map<number, number>): { stop(): void } {
  let stopped = false;
  let socket: Socket;
  const open = () => {
    socket = connectTcp(port, '127.0.0.1');
    const send = () => socket.write(request);
    socket.on('connect', send);
    socket.on('data', data => {
      const status = Number(/^HTTP\/1\.1 (\d+)/.exec(data.toString('latin1'))?.[1] ?? 0);
      if (status > 0) statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (!stopped) send();
    });
    socket.on('error', () => {});
    // A refusal before the body is read closes the connection.
    socket.on('close', () => !stopped && setTimeout(open, 1));
  };
  open();
  return {
    stop() {
      stopped = true;
      socket.destroy();
    },
  };
}

const requestOf = (path: string, body: Buffer, length = body.length) =>
  Buffer.concat([
    Buffer.from(
      `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`,
    ),
    body,
  ]);

const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;

t.test('8 connections that flood a rate-limited endpoint with 1 MiB bodies do not slow deliveries', async t => {
  const { url, sql } = await database();
  await makeModule(sql);
  await sql`create table ticks (id int primary key, at timestamptz default clock_timestamp())`;
  await sql`select collecta.attach_module('ticks', 'ticks')`;
  const receiver = await startReceiver();
  await createEndpoint(sql, receiver, '/ticks', { modules: ['ticks'], events: ['record_created'] });
  const { path } = await makeEndpoint(
    sql,
    { '$.sku': 'product_code' },
    { rate_limit_per_minute: 1, max_body_bytes: 2 * mebibyte },
  );
  const runner = await startRunner(url, { command: 'run', env: { COLLECTA_PORT: '0' } });
  t.teardown(() => runner.stop());
  const { port } = (await runner.logged('inbound listens')) as unknown as { port: number };

  let id = 0;
  const measure = async () => {
    const times: number[] = [];
    for (const end = Date.now() + 3_000; Date.now() < end; ) {
      const before = receiver.to('/ticks').length;
      const began = performance.now();
      await sql`insert into ticks values (${++id})`;
      await until('it is delivered', () => receiver.to('/ticks').length > before, 60_000, 1);
      times.push(performance.now() - began);
      await pause(20);
    }
    return times;
  };
  await measure(); // to warm up
  const body = Buffer.from(JSON.stringify({ sku: 'A', padding: 'x'.repeat(mebibyte) }));
  const statuses = new Map<number, number>();
  const without: number[] = [];
  const during: number[] = [];
  for (let turn = 0; turn < 2; turn++) {
    without.push(...(await measure()));
    const floods = Array.from({ length: 8 }, () => flood(port, requestOf(path, body), statuses));
    during.push(...(await measure()));
    for (const each of floods) each.stop();
    await pause(200);
  }
  const [alone, beside] = [median(without), median(during)];
  t.comment(`median commit to receipt: ${alone.toFixed(1)} ms alone, ${beside.toFixed(1)} ms beside the flood`);
  t.comment(`answers: ${[...statuses].map(([status, n]) => `${status}: ${n}`).join(', ')}`);
  t.ok((statuses.get(429) ?? 0) > 20, 'the flood of requests is answered');
  t.ok((statuses.get(202) ?? 0) <= 1, 'and the budget is kept');
  t.ok(beside < Math.max(10 * alone, 250), `${beside} ms beside ${alone} ms`);
});

t.test('bodies in flight are bounded in bytes: requests above the bound are refused until it falls', async t => {
  const target = await database();
  await makeModule(target.sql);
  const { path } = await makeEndpoint(
    target.sql,
    { '$.sku': 'product_code' },
    { rate_limit_per_minute: 1000, max_body_bytes: 10 * mebibyte },
  );
  const receiving = await startReceiving(target);
  t.teardown(() => receiving.stop());
  const ten = Buffer.from(JSON.stringify({ sku: 'A', padding: 'x'.repeat(10 * mebibyte - 100) }));
  const small = { sku: 'B' };
  t.equal((await post(receiving.port, path, small)).status, 202);
  t.equal((await post(receiving.port, path, `"${'x'.repeat(10 * mebibyte)}"`)).status, 413, 'one that is too large');

  // Six bodies of 10 MiB have arrived except for their end: 60 of 64 MiB.
  const held = await Promise.all(
    Array.from({ length: 6 }, async () => {
      const socket = connectTcp(receiving.port, '127.0.0.1');
      let answer = '';
      socket.on('data', data => {
        answer += data.toString('latin1');
      });
      await new Promise<void>(done =>
        socket.write(requestOf(path, ten.subarray(0, ten.length - 1), ten.length), () => done()),
      );
      return { socket, answer: () => answer };
    }),
  );
  const refused = await until('they are counted', async () => {
    const reply = await post(receiving.port, path, ten);
    return reply.status === 503 && reply;
  });
  t.equal(refused.headers['retry-after'], '1');
  t.equal((await post(receiving.port, path, small)).status, 202, 'a small one fits');
  for (const { socket, answer } of held) {
    socket.write(ten.subarray(ten.length - 1));
    await until('it is answered', () => answer() !== '');
    t.match(answer(), /^HTTP\/1\.1 202/, 'what was under way is taken');
    socket.destroy();
  }
  t.equal((await post(receiving.port, path, ten)).status, 202, 'large ones are taken again');

  // When senders disconnect, their bytes are released.
  for (let i = 0; i < 6; i++) {
    const socket = connectTcp(receiving.port, '127.0.0.1');
    await new Promise<void>(done => socket.write(requestOf(path, Buffer.from('{'), ten.length), () => done()));
    socket.destroy();
  }
  await until('they are gone', async () => (await post(receiving.port, path, ten)).status === 202);
});
