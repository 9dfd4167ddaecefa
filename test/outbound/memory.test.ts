import { readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { useServer } from '../support/database.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';

const { database } = await useServer();
const receiver = await startReceiver();

/** Takes every request and answers none. */
async function startHanging() {
  let requests = 0;
  const server = createServer(socket => {
    requests++;
    socket.on('error', () => {}).resume();
    t.teardown(() => socket.destroy());
  });
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  t.teardown(() => server.close());
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests: () => requests };
}

t.test('24 hanging receivers with 0.9 MB bodies use bounded memory and delay no other', async t => {
  const { sql, url } = await database();
  await sql`create table big (id int primary key, data text)`;
  await sql`create table small (id int generated always as identity primary key)`;
  await sql`select collecta.attach_module('big', 'big'), collecta.attach_module('small', 'small')`;
  const events = ['record_created'];
  const hanging = await startHanging();
  for (let i = 0; i < 24; i++)
    await sql`select collecta.create_endpoint(${`${hanging.origin}/${i}`}, ${events}, modules => '{big}')`;
  const healthy = await createEndpoint(sql, receiver, '/healthy', { events, modules: ['small'] });
  const runner = await startRunner(url);
  await runner.logged('listening');
  await sql`insert into big select g, repeat('x', 900000) from generate_series(1, 40) g`;
  await until('they hang', () => hanging.requests() >= 24, 60_000);
  const unrouted = async () => (await sql`select from collecta.outbox limit 1`).length > 0;
  await until('all are routed', async () => !(await unrouted()), 60_000, 50);
  const slowest: number[] = [];
  for (let i = 0; i < 20; i++) {
    const before = receiver.to(healthy.path).length;
    await sql`insert into small default values`;
    const committed = Date.now();
    await until('it arrives', () => receiver.to(healthy.path).length > before, 40_000, 2);
    slowest.push(receiver.to(healthy.path).at(-1)!.at - committed);
    await pause(200);
  }
  const [, peak] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${runner.pid}/status`, 'utf8')) ?? [];
  const megabytes = Math.round(Number(peak) / 1024);
  t.comment(`${megabytes} MB at most; a change beside them took at most ${Math.max(...slowest)} ms: ${slowest}`);
  t.ok(megabytes < 600, `${megabytes} MB, where the bodies are 860 MB and were held three times`);
  t.ok(Math.max(...slowest) < 5_000, 'a healthy endpoint waits for none of them');
  runner.kill('SIGKILL');
});
