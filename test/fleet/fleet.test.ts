import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { freePort, useServer } from '../support/database.ts';
import { attachWorkOrders, createEndpoint, runtimes, startReceiver, startRunner, until } from '../support/runner.ts';

const { database, server } = await useServer();
const receiver = await startReceiver();
const folder = t.testdir();
const file = join(folder, 'databases.json');
const list = (databases: Record<string, unknown>) => writeFileSync(file, JSON.stringify(databases));

async function prepared(path: string, options = {}) {
  const made = await database();
  await attachWorkOrders(made.sql);
  const endpoint = await createEndpoint(made.sql, receiver, path, options);
  const write = (rows = 1) =>
    made.sql`insert into work_orders (product_code) select ${path} from generate_series(1, ${rows}::int)`;
  return { ...made, path, endpoint, write };
}

const received = (path: string, count: number) =>
  until(`${path} has ${count}`, () => receiver.to(path).length >= count, 30_000);

t.test('one process serves many databases; one may be down, and SIGHUP adds and removes them', async t => {
  const [a, b, c] = [await prepared('/a'), await prepared('/b'), await prepared('/c')];
  const empty = await database('empty');
  const down = `postgres://postgres@127.0.0.1:${await freePort()}/nowhere`;
  list({ a: a.url, b: { DATABASE_URL: b.url, COLLECTA_CONCURRENCY: 3 }, down, empty: empty.url, wrong: 'nonsense' });
  const operationsPort = await freePort();
  const runner = await startRunner('', {
    command: 'run',
    env: {
      DATABASE_URL: '',
      COLLECTA_DATABASES: file,
      COLLECTA_PORT: '0',
      COLLECTA_OPERATIONS_PORT: `${operationsPort}`,
    },
  });
  const serving = await runner.logged('serving a fleet');
  t.match(serving, { databases: 4, begun: 4, refused: 1 });
  await Promise.all([a.write(), b.write(3)]);
  await received('/a', 1);
  await received('/b', 3);
  t.match(await runner.logged('waiting for the database'), { database_name: 'down' });
  t.match(await runner.logged('waiting for the install'), { database_name: 'empty' });
  t.match(await runner.logged('a database of the fleet cannot be served'), { database_name: 'wrong' });

  const operations = async (path: string) => (await fetch(`http://127.0.0.1:${operationsPort}${path}`)).text();
  await until('both listen', async () => /2 listening/.test(await operations('/readyz')));
  t.match(await operations('/readyz'), /2 waiting/);
  t.match(await operations('/metrics'), /collecta_fleet_database\{database="down",state="waiting"\} 1/);
  t.equal(await operations('/livez'), 'ok\n');

  // b is removed, c is new, a has another setting, and one entry is invalid. The others go on.
  list({ a: { DATABASE_URL: a.url, COLLECTA_CONCURRENCY: 2 }, c: c.url, down, empty: { DATABASE_URL: 1 } });
  runner.kill('SIGHUP');
  await runner.logged('serving a fleet', 1);
  await c.write();
  await received('/c', 1);
  await a.write();
  await received('/a', 2);
  await until('b has stopped', () => runner.log.some(line => line.event === 'stopped' && line.database_name === 'b'));
  await b.write();
  await pause(1_500);
  t.equal(receiver.to('/b').length, 3, 'nobody serves b any more');

  // A list that cannot be read changes nothing.
  writeFileSync(file, '{');
  runner.kill('SIGHUP');
  await runner.logged('the fleet stays as it is');
  await c.write();
  await received('/c', 2);
  const { status, ms } = await runner.stop();
  t.equal(status, 0);
  t.ok(ms < 8_000, `stopped within ${Math.round(ms)} ms`);
  t.notMatch(runner.output(), /postgres:postgres/, 'no password in the log');
});

for (const runtime of runtimes)
  t.test(`${runtime}: the port serves a console, metrics and POST /NAME/wake for each database`, async t => {
    const [a, b] = [await prepared(`/port-a-${runtime}`), await prepared(`/port-b-${runtime}`)];
    await a.sql.unsafe(`select collecta.pause_endpoint('${a.endpoint.id}')`);
    await a.write(3);
    const release = { COLLECTA_IDLE: 'release', COLLECTA_IDLE_AFTER_MS: '200' };
    list({ a: a.url, b: { DATABASE_URL: b.url, ...release } });
    const port = await freePort();
    const runner = await startRunner('', {
      runtime,
      command: 'run',
      env: {
        DATABASE_URL: '',
        COLLECTA_DATABASES: file,
        COLLECTA_PORT: '0',
        COLLECTA_OPERATIONS_PORT: `${port}`,
        COLLECTA_WAKE_TOKEN: '0123456789abcdef',
      },
    });
    const get = async (path: string, options: RequestInit = {}) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { redirect: 'manual', ...options });
      return { status: response.status, text: await response.text(), headers: response.headers };
    };
    await runner.logged('serving operations');
    await until('one listens and the other rests', async () => {
      const { text } = await get('/readyz');
      return /1 listening/.test(text) && /1 resting/.test(text);
    });
    await until('the figures of a', async () => /^collecta_figures_age_seconds\{/m.test((await get('/metrics')).text));
    const { text: metrics } = await get('/metrics');
    t.match(metrics, /^collecta_delivery_queue_rows\{database="a"\} 3$/m);
    t.match(metrics, /^collecta_endpoints\{.*database="a".*\} 1$/m);
    t.notMatch(metrics, /collecta_outbox_rows\{database="b"\}/, 'b rests, and is not asked');
    t.match(metrics, /^collecta_fleet_database\{database="b",state="resting"\} 1$/m);

    t.match((await get('/')).text, /href="\/console\/a\/".*href="\/console\/b\/"/);
    t.equal((await get('/console/nobody/')).status, 404);
    t.match((await get('/console/a/login')).text, /\/console\/a\//, 'a login of this database');
    const login = async (name: string, target: typeof a) => {
      const { status, headers } = await get(`/console/${name}/login`, {
        method: 'POST',
        headers: {
          origin: `http://127.0.0.1:${port}`,
          'sec-fetch-site': 'same-origin',
          'content-type': 'application/x-www-form-urlencoded',
        },
        body: 'name=postgres&password=postgres',
      });
      t.equal(status, 303);
      const cookie = headers.get('set-cookie')!;
      t.match(cookie, new RegExp(`Path=/console/${name};`, 'i'), 'the cookie is for this console alone');
      const page = await get(`/console/${name}/endpoints`, { headers: { cookie: cookie.split(';')[0]! } });
      t.match(page.text, target.endpoint.id);
      return cookie.split(';')[0]!;
    };
    const cookie = await login('a', a);
    await login('b', b);
    const other = await get('/console/b/endpoints', { headers: { cookie } });
    t.notMatch(other.text, b.endpoint.id, 'a session at a is none at b');

    await b.write();
    const wake = (path: string, token: string) =>
      get(path, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
    t.equal((await wake('/b/wake', 'wrong')).status, 401);
    t.equal((await wake('/nobody/wake', '0123456789abcdef')).status, 404);
    t.equal((await wake('/b/wake', '0123456789abcdef')).status, 204);
    await received(b.path, 1);
    t.equal((await runner.stop()).status, 0);
  });

for (const runtime of runtimes)
  t.test(`${runtime}: an idle database has at most three sessions; a server that returns is served`, async t => {
    const [a, b] = [await prepared(`/idle-a-${runtime}`), await prepared(`/idle-b-${runtime}`)];
    list({ a: a.url, b: b.url });
    const runner = await startRunner('', {
      command: 'run',
      runtime,
      env: { DATABASE_URL: '', COLLECTA_DATABASES: file, COLLECTA_PORT: '0' },
    });
    await Promise.all([a.write(), b.write()]);
    await received(a.path, 1);
    const sessions = async () => {
      const rows = await a.sql`
      select datname, count(*)::int as sessions from pg_stat_activity
      where application_name like 'collecta-webhooks%' and datname in (${a.name}, ${b.name}) group by datname`;
      return rows.map(row => row.sessions as number);
    };
    await until('three sessions each', async () => (await sessions()).every(count => count <= 3), 30_000, 200);
    for (let looks = 0; looks < 10; looks++) {
      const counts = await sessions();
      t.ok(counts.length === 2 && counts.every(count => count <= 3), `sessions: ${counts}`);
      await pause(200);
    }
    await server.restart('fast', 500);
    await until('b answers again', () =>
      b.write().then(
        () => true,
        () => false,
      ),
    );
    await received(b.path, 2);
    t.equal((await runner.stop()).status, 0);
  });

t.test('inbound: the path or the host name selects the database', async t => {
  const [a, b] = [await prepared('/in-a'), await prepared('/in-b')];
  const create = async ({ sql }: typeof a) => {
    const [made] = await sql`
      select path from collecta.create_inbound_endpoint('work-orders', '{"$.code": "product_code"}')`;
    return made!.path as string;
  };
  const [pathA, pathB] = [await create(a), await create(b)];
  const down = `postgres://postgres@127.0.0.1:${await freePort()}/nowhere`;
  list({ a: a.url, b: { DATABASE_URL: b.url, COLLECTA_INBOUND_HOST: 'hooks.b.example.com' }, down });
  const port = await freePort();
  const runner = await startRunner('', {
    command: 'run',
    env: { DATABASE_URL: '', COLLECTA_DATABASES: file, COLLECTA_PORT: `${port}` },
  });
  await runner.logged('inbound listens');
  await until('a and b deliver', () => runner.log.filter(({ event }) => event === 'listening').length >= 2);
  const { request } = await import('undici');
  const post = async (path: string, host = `127.0.0.1:${port}`) => {
    const { statusCode, body } = await request(`http://127.0.0.1:${port}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', host },
      body: '{"code": "A-1"}',
    });
    await body.dump();
    return statusCode;
  };
  t.equal(await post(`/a${pathA}`), 202);
  t.equal(await post(pathB, 'hooks.b.example.com'), 202);
  t.equal(await post(`/b${pathB}`), 202, 'the path works for it too');
  t.equal(await post(pathA), 404, 'without a database');
  t.equal(await post(`/b${pathA}`), 404, 'a token of another database');
  t.equal(await post(pathA, 'hooks.b.example.com'), 404);
  t.equal(await post(`/down${pathA}`), 503);
  t.equal(await post(`/unknown${pathA}`), 404);
  const count = async ({ sql }: typeof a) => (await sql`select count(*)::int as n from work_orders`)[0]!.n;
  t.equal(await count(a), 1);
  t.equal(await count(b), 2);
  // A changed mapping takes effect at once, because both directions share the listening session.
  await b.sql`select collecta.pause_inbound_endpoint(inbound_endpoint_id) from collecta.inbound_endpoints`;
  await until('it is paused', async () => (await post(`/b${pathB}`)) === 404);
  t.equal((await runner.stop()).status, 0);
});

for (const runtime of runtimes)
  t.test(`${runtime}: a long queue to slow receivers in one database does not delay the others`, async t => {
    const long = await prepared(`/long-${runtime}`, { answers: Array(4000).fill({ delayMs: 200 }) });
    const shortQueue = await prepared(`/short-${runtime}`);
    list({ long: long.url, short: shortQueue.url });
    const runner = await startRunner('', {
      runtime,
      command: 'run',
      env: { DATABASE_URL: '', COLLECTA_DATABASES: file, COLLECTA_PORT: '0', COLLECTA_CONCURRENCY: '4' },
    });
    await until('both listen', () => runner.log.filter(({ event }) => event === 'listening').length >= 2);
    await long.write(400);
    await received(long.path, 8);
    const before = performance.now();
    await shortQueue.write(10);
    await received(shortQueue.path, 10);
    const took = performance.now() - before;
    const others = receiver.to(long.path).length;
    t.ok(others < 400, `the long queue is not through (${others})`);
    t.ok(took < 8_000, `ten deliveries took ${Math.round(took)} ms beside a queue of 20 s`);
    t.equal((await runner.stop()).status, 0);
  });

t.test('settings that contradict each other are refused', async t => {
  list({});
  const both = await startRunner('postgres://127.0.0.1/x', { command: 'run', env: { COLLECTA_DATABASES: file } });
  t.equal((await both.ended).status, 2);
  list({ wrong: 'nonsense' });
  const none = await startRunner('', { command: 'run', env: { DATABASE_URL: '', COLLECTA_DATABASES: file } });
  t.equal((await none.ended).status, 2);
  t.match(none.output(), /wrong \(of COLLECTA_DATABASES\)/);
});
