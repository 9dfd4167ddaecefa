import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { freePort, type Sql, useServer } from '../support/database.ts';
import {
  type Answer,
  createEndpoint,
  type Endpoint,
  type Received,
  type Runner,
  runtimes,
  startReceiver,
  startRunner,
  until,
} from '../support/runner.ts';

const { admin, connect, database, server } = await useServer();
const receiver = await startReceiver();

/** The history of an endpoint or an event, oldest first; times in seconds. */
const history = (sql: Sql, id: string) => sql`
  select *, extract(epoch from started_at)::float8 as started, extract(epoch from finished_at)::float8 as finished,
    extract(epoch from next_attempt_at)::float8 as next
  from collecta.webhook_deliveries where ${id} in (endpoint_id, event_id) order by started_at`;
const attempts = (sql: Sql, id: string, count: number) =>
  until(`${count} attempts are in the history`, async () => {
    const rows = await history(sql, id);
    return rows.length >= count && rows;
  });
const received = (path: string, count: number) =>
  until(`${count} requests have come to ${path}`, () => {
    const requests = receiver.to(path);
    return requests.length >= count && requests;
  });
const authentic = ({ verified }: Received) => verified.every(each => each.hex && each.standard && each.package);
const inQueue = async (sql: Sql, id: string) =>
  (await sql`select attempt, leased_until, due_at::text from collecta.delivery_queue where endpoint_id = ${id}`).map(
    row => ({ ...row }),
  );

/** Makes an endpoint's next attempt due now, and moves its past attempts back by the same time. */
async function toNextAttempt(sql: Sql, id: string): Promise<void> {
  await sql`
    with moved as (select min(due_at) - now() as by from collecta.delivery_queue
      where endpoint_id = ${id} and attempt > 0),
      queue as (update collecta.delivery_queue set due_at = due_at - by from moved
        where endpoint_id = ${id} and attempt > 0)
    update collecta.delivery_attempts
    set started_at = started_at - by, finished_at = finished_at - by, next_attempt_at = next_attempt_at - by
    from moved where endpoint_id = ${id}`;
  await sql`select collecta.wake_runner()`;
}

for (const runtime of runtimes)
  t.test(runtime, async t => {
    const { sql, url } = await database();
    const runner: Runner = await startRunner(url, { runtime, env: { COLLECTA_POLL_INTERVAL_MS: '100' } });
    await runner.logged('listening');
    let tables = 0;

    /** Creates and attaches a table, with an endpoint that receives only its events. */
    async function subject(options: { answers?: Answer[]; [argument: string]: unknown } = {}) {
      const name = `orders_${++tables}`;
      await sql.unsafe(`
        create table ${name} (id text primary key default collecta.new_id('rec'), product_code text, quantity numeric,
          status text, custom_data jsonb);
        select collecta.attach_module('${name}', '${name}', status_column => 'status',
          custom_data_column => 'custom_data')`);
      const endpoint = await createEndpoint(sql, receiver, `/${runtime}/${name}`, { modules: [name], ...options });
      return {
        name,
        endpoint,
        insert: (values = '(default)', columns = 'id') =>
          sql.unsafe(`insert into ${name} (${columns}) values ${values}`),
      };
    }

    t.test('the five events arrive signed and exactly as stored', async t => {
      const { name, endpoint } = await subject({ headers: { Authorization: 'Bearer hush', 'X-Tenant': 'seven' } });
      const { path } = endpoint;
      const exact = '123456789012345678901234567890.10';
      await sql`insert into ${sql(name)} (id, quantity, status, custom_data)
        values ('r1', ${exact}::text::numeric, 'open', '{"ü": 1}')`;
      await received(path, 1);
      await sql`update ${sql(name)} set status = 'done', custom_data = '{"ü": 2}'`;
      await received(path, 4);
      await sql`delete from ${sql(name)}`;
      const requests = await received(path, 5);
      t.strictSame(requests.map(({ body }) => JSON.parse(body).event).sort(), [
        'custom_data_updated',
        'record_created',
        'record_deleted',
        'record_updated',
        'status_change',
      ]);
      const rows = await attempts(sql, endpoint.id, 5);
      for (const request of requests) {
        const { method, headers, body } = request;
        const payload = JSON.parse(body);
        t.equal(method, 'POST');
        t.ok(authentic(request), `${payload.event} verifies with node:crypto and with standardwebhooks`);
        t.strictSame(
          Object.keys(headers)
            .filter(each => each !== 'connection')
            .sort(),
          [
            'authorization',
            'content-length',
            'content-type',
            'host',
            'user-agent',
            'webhook-id',
            'webhook-signature',
            'webhook-timestamp',
            'x-tenant',
            'x-webhook-signature',
          ],
        );
        t.match(headers, {
          'content-type': 'application/json',
          'webhook-id': payload.id,
          'x-webhook-signature': /^sha256=[0-9a-f]{64}$/,
          'webhook-signature': /^v1,[A-Za-z0-9+/]{43}=$/,
          authorization: 'Bearer hush',
          'x-tenant': 'seven',
        });
        t.ok(Math.abs(Number(headers['webhook-timestamp']) * 1000 - request.at) < 10_000);
        t.ok(body.includes(`"quantity":${exact}`), 'a numeric arrives digit for digit');
        const row = rows.find(each => each.event_id === payload.id)!;
        t.match(row, {
          endpoint_id: endpoint.id,
          module: name,
          event: payload.event,
          record_id: 'r1',
          attempt: 1,
          url: receiver.origin + path,
          outcome: 'delivered',
          request_body: body,
          response_status: 200,
          error: null,
          next_attempt_at: null,
          replay_of: null,
        });
        t.strictSame(
          row.request_headers,
          {
            ...Object.fromEntries(Object.keys(row.request_headers).map(each => [each, headers[each]])),
            authorization: '***',
          },
          'history has the headers as they were sent, without the credential',
        );
        t.ok(
          Number(row.duration_ms) > 0 &&
            row.finished >= row.started &&
            Math.abs(row.started * 1000 - request.at) < 2_000,
          'and the timing',
        );
      }
      const change = JSON.parse(requests.find(({ body }) => body.includes('"status_change"'))!.body);
      t.match(change, {
        module: name,
        record_id: 'r1',
        from: 'open',
        to: 'done',
        previous: { status: 'open' },
        record: { status: 'done' },
      });
      t.strictSame(await inQueue(sql, endpoint.id), [], 'nothing is left in the queue');
      await sql`update ${sql(name)} set status = status`;
      await sql`insert into ${sql(name)} (id) values ('r2')`;
      const [, , , , , next] = await received(path, 6);
      t.match(
        JSON.parse(next!.body),
        { event: 'record_created', record_id: 'r2' },
        'an UPDATE that changes nothing sent nothing',
      );
    });

    t.test('only a 2xx is success, and a redirect is not followed', async t => {
      const answers: [Answer, string, number | null][] = [
        [200, 'delivered', 200],
        [201, 'delivered', 201],
        [204, 'delivered', 204],
        [299, 'delivered', 299],
        ...[301, 302, 303, 307, 308].map((status): [Answer, string, number] => [
          { status, headers: { location: `${receiver.origin}/trap` } },
          'failed',
          status,
        ]),
        [400, 'failed', 400],
        [404, 'failed', 404],
        [500, 'failed', 500],
        [{ drop: true }, 'failed', null],
      ];
      const { name, insert } = await subject();
      const endpoints: Endpoint[] = [];
      for (const [index, [answer]] of answers.entries())
        endpoints.push(
          await createEndpoint(sql, receiver, `/${runtime}/answer/${index}`, { modules: [name], answers: [answer] }),
        );
      await insert();
      for (const [index, [, outcome, status]] of answers.entries()) {
        const [row] = await attempts(sql, endpoints[index]!.id, 1);
        t.match(
          row,
          { outcome, response_status: status, error: outcome === 'delivered' ? null : String },
          `${status}: ${outcome}`,
        );
        if (outcome === 'failed') t.ok(row!.next > row!.finished, 'and is tried again');
      }
      t.equal(receiver.to('/trap').length, 0);
    });

    t.test('a failed delivery is retried after 60, 120, 240, 480 and 960 s; a replay sends the same body', async t => {
      const { endpoint, insert } = await subject({
        answers: [{ status: 500, headers: { 'x-reason': 'out' }, body: 'sorry' }],
      });
      const { id, path } = endpoint;
      await insert();
      for (let attempt = 1; attempt <= 6; attempt++) {
        await attempts(sql, id, attempt);
        t.equal(receiver.to(path).length, attempt, 'nothing comes early');
        if (attempt < 6) await toNextAttempt(sql, id);
      }
      const rows = await history(sql, id);
      t.strictSame(
        rows.map(({ attempt, outcome }) => `${attempt} ${outcome}`),
        ['1 failed', '2 failed', '3 failed', '4 failed', '5 failed', '6 exhausted'],
      );
      const spaces = rows.slice(1).map((row, index) => row.started - rows[index]!.finished);
      for (const [index, wait] of [60, 120, 240, 480, 960].entries()) {
        t.ok(
          Math.abs(rows[index]!.next - rows[index]!.finished - wait) < 0.001,
          `${wait} s after the end of attempt ${index + 1}`,
        );
        t.ok(spaces[index]! >= wait - 0.001 && spaces[index]! < wait + 5, `and then it is made: ${spaces[index]}`);
      }
      const requests = receiver.to(path);
      t.equal(new Set(requests.map(({ body }) => body)).size, 1, 'the same bytes each time');
      for (const [index, row] of rows.entries()) {
        t.match(row, {
          request_body: requests[0]!.body,
          response_status: 500,
          response_body: 'sorry',
          response_headers: { 'x-reason': 'out' },
          error: /answered 500/,
          request_headers: {
            'webhook-id': row.event_id,
            'webhook-signature': requests[index]!.headers['webhook-signature'],
          },
        });
        t.ok(Number(row.duration_ms) > 0);
      }
      t.equal(rows[5]!.next_attempt_at, null);
      t.strictSame(await inQueue(sql, id), []);

      await receiver.script(path, [503, 200]);
      const [{ replayed }] = (await sql`select collecta.replay_delivery(${rows[5]!.id}) as replayed`) as unknown as [
        { replayed: string },
      ];
      t.equal(replayed, rows[0]!.event_id);
      await attempts(sql, id, 7);
      await toNextAttempt(sql, id);
      const [seventh, eighth] = (await attempts(sql, id, 8)).slice(6);
      t.match(
        [seventh, eighth],
        [
          { attempt: 1, outcome: 'failed', replay_of: rows[5]!.id, event_id: replayed },
          { attempt: 2, outcome: 'delivered', replay_of: rows[5]!.id },
        ],
      );
      for (const request of receiver.to(path).slice(6)) {
        t.equal(request.body, requests[0]!.body, 'the same bytes');
        t.equal(request.headers['webhook-id'], requests[0]!.headers['webhook-id'], 'under the same id');
        t.ok(authentic(request));
      }
    });

    t.test('Retry-After holds the endpoint for up to an hour and uses no attempt', async t => {
      const { name, insert } = await subject();
      const waits: [string, number, number][] = [
        ['300', 503, 300],
        ['300', 429, 300],
        ['5', 503, 5],
        ['1000000000', 429, 3600],
        ['soon', 503, 60],
        ['300', 500, 60],
      ];
      const endpoints: Endpoint[] = [];
      for (const [index, [value, status]] of waits.entries())
        endpoints.push(
          await createEndpoint(sql, receiver, `/${runtime}/after/${index}`, {
            modules: [name],
            answers: [{ status, headers: { 'retry-after': value } }],
          }),
        );
      await insert();
      for (const [index, [value, status, wait]] of waits.entries()) {
        const [row] = await attempts(sql, endpoints[index]!.id, 1);
        t.ok(Math.abs(row!.next - row!.finished - wait) < 0.001, `${status} with ${value}: ${wait} s`);
        const used = status !== 500 && Number(value) > 0 ? 0 : 1;
        t.match(await inQueue(sql, endpoints[index]!.id), [{ attempt: used }], `and ${used} attempts used up`);
      }
    });

    t.test('410 pauses an endpoint; changes are queued meanwhile and arrive when it is resumed', async t => {
      const {
        name,
        endpoint: { id, path },
      } = await subject({ answers: [410, 200] });
      await sql`insert into ${sql(name)} (id) values ('first')`;
      t.match(await attempts(sql, id, 1), [{ outcome: 'failed', response_status: 410 }]);
      const state = async () => ({
        ...(await sql`select state, paused_reason from collecta.endpoints where endpoint_id = ${id}`)[0],
      });
      t.match(await state(), { state: 'paused', paused_reason: /410/ });
      await sql`insert into ${sql(name)} (id) values ('second'), ('third')`;
      await until('both are queued', async () => (await inQueue(sql, id)).length === 3);
      await toNextAttempt(sql, id);
      await pause(300);
      t.equal(receiver.to(path).length, 1, 'nothing is sent meanwhile');
      await sql`select collecta.resume_endpoint(${id})`;
      const requests = await received(path, 4);
      t.strictSame(
        requests
          .slice(1)
          .map(({ body }) => JSON.parse(body).record_id)
          .sort(),
        ['first', 'second', 'third'],
      );
      t.match(await state(), { state: 'active', paused_reason: null });

      await sql`select collecta.pause_endpoint(${id}, 'moving house')`;
      await sql`insert into ${sql(name)} (id) values ('fourth')`;
      await until('it is queued', async () => (await inQueue(sql, id)).length === 1);
      t.match(await state(), { state: 'paused', paused_reason: 'moving house' });
      await sql`select collecta.resume_endpoint(${id})`;
      await received(path, 5);
    });

    t.test('both secrets verify during a rotation, and only the new one afterwards', async t => {
      const {
        insert,
        endpoint: { id, secret, path },
      } = await subject();
      const [{ fresh }] = (await sql`select collecta.rotate_secret(${id}) as fresh`) as unknown as [{ fresh: string }];
      await receiver.script(path, [200], [secret, fresh]);
      await insert();
      const [overlapping] = await received(path, 1);
      t.match(overlapping!.verified, [
        { hex: true, standard: true, package: true },
        { hex: false, standard: true, package: true },
      ]);
      await sql`update collecta.endpoint_secrets set previous_until = now() - interval '1 s' where endpoint_id = ${id}`;
      await insert();
      const [, after] = await received(path, 2);
      t.match(after!.verified, [
        { hex: false, standard: false, package: false },
        { hex: true, standard: true, package: true },
      ]);
    });

    t.test('with payload_role the body holds only the columns that the role may see', async t => {
      const role = `partner_${randomBytes(4).toString('hex')}`;
      await sql.unsafe(`create role ${role} nologin`);
      t.teardown(() => sql.unsafe(`drop owned by ${role}; drop role ${role}`));
      const { name, endpoint } = await subject();
      await sql.unsafe(`grant select (id, status) on ${name} to ${role}`);
      const partner = await createEndpoint(sql, receiver, `/${runtime}/partner`, {
        modules: [name],
        payload_role: role,
      });
      await sql`insert into ${sql(name)} (id, product_code, status) values ('r', 'secret-product', 'open')`;
      const [whole] = await received(endpoint.path, 1);
      const [part] = await received(partner.path, 1);
      t.strictSame(JSON.parse(part!.body).record, { id: 'r', status: 'open' });
      t.match(JSON.parse(whole!.body).record, { id: 'r', product_code: 'secret-product' });
      t.ok(authentic(part!));
      t.match(await attempts(sql, partner.id, 1), [{ request_body: part!.body, event_id: JSON.parse(whole!.body).id }]);
    });

    t.test('an ordered endpoint gets each record’s changes one at a time, in order, despite failures', async t => {
      const {
        name,
        endpoint: { id, path },
      } = await subject({
        answers: [
          { status: 500, delayMs: 20 },
          ...[200, 200, 500, 500, 200, 500].map(status => ({ status, delayMs: 20 })),
          { delayMs: 20 },
        ],
        ordered: true,
        retry_base: '0.1 s',
        events: ['record_created', 'record_updated'],
      });
      await sql`insert into ${sql(name)} (id, quantity) values ('a', 0), ('b', 0)`;
      for (let n = 1; n <= 5; n++) await sql`update ${sql(name)} set quantity = ${n}`;
      const rows = await until('all twelve are delivered', async () => {
        const rows = await history(sql, id);
        return rows.filter(({ outcome }) => outcome === 'delivered').length === 12 && rows;
      });
      t.equal(rows.filter(({ outcome }) => outcome === 'failed').length, 4);
      for (const record of ['a', 'b']) {
        const own = receiver.to(path).filter(({ body }) => JSON.parse(body).record_id === record);
        const sent = own.map(({ body, status }) => ({
          n: JSON.parse(body).record.quantity as number,
          ok: status === 200,
        }));
        t.strictSame(
          sent.filter(({ ok }) => ok).map(({ n }) => n),
          [0, 1, 2, 3, 4, 5],
          `${record}: in order`,
        );
        t.ok(
          sent.every(({ n }, index) => index === 0 || n === sent[index - 1]!.n + (sent[index - 1]!.ok ? 1 : 0)),
          'no request began before its predecessor was delivered',
        );
        const times = rows.filter(row => row.record_id === record);
        t.ok(
          times.every(({ started }, index) => index === 0 || started >= times[index - 1]!.finished - 0.005),
          'one at a time',
        );
      }
    });

    t.test('send_test_event is delivered like any event', async t => {
      const {
        endpoint: { id, path },
      } = await subject({ events: ['record_deleted'] });
      const [{ sent }] = (await sql`select collecta.send_test_event(${id}) as sent`) as unknown as [{ sent: string }];
      const [request] = await received(path, 1);
      t.match(JSON.parse(request!.body), { id: sent, event: 'test' });
      t.ok(authentic(request!));
      t.match(await attempts(sql, sent, 1), [{ event: 'test', outcome: 'delivered', endpoint_id: id }]);
    });

    t.test('the log holds no secret and no error, and SIGTERM ends the runner with 0', async t => {
      const { status, ms } = await runner.stop();
      t.equal(status, 0);
      t.ok(ms < 5_000, `${ms} ms`);
      t.notMatch(runner.output(), /whsec_|hush|record_id|postgres:postgres/);
      t.strictSame(
        runner.log.filter(({ level }) => level === 'error' || level === 'warn'),
        [],
      );
    });
  });

for (const runtime of runtimes)
  t.test(`${runtime}: an internal destination is blocked until the allow-list permits it`, async t => {
    const { sql, url } = await database();
    await sql`create table t (id int primary key)`;
    await sql`select collecta.attach_module('t', 't')`;
    const { id, path } = await createEndpoint(sql, receiver, `/${runtime}/blocked`);
    const strict = await startRunner(url, { runtime, env: { COLLECTA_ALLOW_DESTINATIONS: '' } });
    await sql`insert into t values (1)`;
    const [row] = await attempts(sql, id, 1);
    t.match(row, { outcome: 'blocked', attempt: 1, response_status: null, error: /127\.0\.0\.1.*loopback/ });
    t.ok(Math.abs(row!.next - row!.finished - 60) < 0.001, 'and is tried again on schedule');
    t.equal((await strict.stop()).status, 0);
    const mended = await startRunner(url, {
      runtime,
      command: 'run',
      env: { COLLECTA_PORT: String(await freePort()) },
    });
    await mended.logged('dispatching');
    await toNextAttempt(sql, id);
    t.match(await attempts(sql, id, 2), [{ outcome: 'blocked' }, { outcome: 'delivered', attempt: 2 }]);
    t.equal(receiver.to(path).length, 1, 'nothing was sent before');
    t.equal((await mended.stop()).status, 0);
  });

t.test('a restored database, or one of another environment, sends nothing until told to', async t => {
  await database(); // creates the template database
  const name = `production_${randomBytes(4).toString('hex')}`;
  await admin.unsafe(`create database ${name} template collecta_template`);
  const production = connect(server.url(name));
  await production`select collecta.resume_after_restore('production')`;
  await production`create table t (id int primary key)`;
  await production`select collecta.attach_module('t', 't')`;
  const { id, path } = await createEndpoint(production, receiver, '/restored');
  await production`insert into t values (1)`;
  await production.end();
  await admin.unsafe(`create database ${name}_copy template ${name}`);

  const url = server.url(`${name}_copy`);
  const copy = connect(url);
  const runner = await startRunner(url, { env: { COLLECTA_ENVIRONMENT: 'production' } });
  t.match(await runner.logged('claiming failed, it is tried again'), { code: 'CW040', hint: /resume_after_restore/ });
  t.match(await copy`select count(*)::int as changes from collecta.outbox`, [{ changes: 1 }], 'nothing is routed');
  t.equal(receiver.to(path).length, 0);
  await copy`select collecta.resume_after_restore('staging')`;
  t.match(
    await until('the label is refused', () => runner.log.find(({ reason }) => String(reason).includes('staging'))),
    { code: 'CW040' },
  );
  t.equal(receiver.to(path).length, 0, 'nor sent');
  await copy`select collecta.resume_after_restore('production')`;
  await attempts(copy, id, 1);
  t.equal(receiver.to(path).length, 1);
  t.equal((await runner.stop()).status, 0);
});

for (const runtime of runtimes)
  t.test(`${runtime}: on SIGTERM requests finish, unstarted deliveries are released, exit code is 0`, async t => {
    const { sql, url } = await database();
    await sql`create table t (id int primary key)`;
    await sql`select collecta.attach_module('t', 't')`;
    const { id, path } = await createEndpoint(sql, receiver, `/${runtime}/term`, { answers: [{ delayMs: 400 }] });
    await sql`insert into t select generate_series(1, 100)`;
    const runner = await startRunner(url, { runtime, env: { COLLECTA_CONCURRENCY: '10' } });
    await received(path, 1);
    const { status, ms } = await runner.stop();
    t.equal(status, 0);
    t.ok(ms < 5_000, `${ms} ms`);
    const rows = await history(sql, id);
    t.equal(rows.length, receiver.to(path).length, 'every request that was begun is in the history');
    t.ok(rows.length < 100 && rows.every(({ outcome }) => outcome === 'delivered'));
    const left = await inQueue(sql, id);
    t.equal(left.length + rows.length, 100);
    t.ok(
      left.every(({ attempt, leased_until }) => attempt === 0 && leased_until === null),
      'the rest is as if never claimed',
    );

    await receiver.script(path, [{ hang: true }]);
    const before = receiver.to(path).length;
    const stuck = await startRunner(url, {
      runtime,
      env: { COLLECTA_CONCURRENCY: '5', COLLECTA_STOP_TIMEOUT_MS: '300' },
    });
    await received(path, before + 1);
    const stopped = await stuck.stop();
    t.equal(stopped.status, 0);
    t.ok(stopped.ms < 5_000, `a hanging receiver does not hold it: ${stopped.ms} ms`);
    const failed = (await history(sql, id)).slice(rows.length);
    t.ok(
      failed.length >= 1 && failed.every(({ outcome, error }) => outcome === 'lost' && /stopped/.test(error)),
      'history says that nobody waited for the answer',
    );
    t.ok(
      (await inQueue(sql, id)).every(({ attempt, leased_until }) => attempt === 0 && leased_until === null),
      'which uses up no attempt',
    );
  });

for (const runtime of runtimes)
  t.test(`${runtime}: an unreachable database is logged in one clear line and retried`, async t => {
    await database();
    const name = `later_${randomBytes(4).toString('hex')}`;
    const runner = await startRunner(server.url(name), { runtime });
    const line = await runner.logged('waiting for the database');
    t.match(line, { level: 'warn', reason: /does not exist/ });
    t.equal(runner.output().trim().split('\n').length, 1, 'one line');
    await admin.unsafe(`create database ${name} template collecta_template`);
    await runner.logged('dispatching');
    t.equal((await runner.stop()).status, 0);
  });
