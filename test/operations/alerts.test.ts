import postgres from 'postgres';
import t from 'tap';
import { type Sql, useServer } from '../support/database.ts';
import { until } from '../support/runner.ts';

const { server, database } = await useServer();

/** A database with an endpoint that is watched and an endpoint that receives the alerts. */
async function prepared() {
  const { sql, url } = await database();
  await sql.unsafe(`create table orders (id int primary key); select collecta.attach_module('orders', 'orders')`);
  const make = async (name: string, events: string[]) =>
    (await sql`select endpoint_id from collecta.create_endpoint('https://x.example/', ${events}, name => ${name})`)[0]
      ?.endpoint_id as string;
  const watched = await make('shop', ['record_created']);
  const [{ all } = {}] = await sql`select collecta.alert_events() as all`;
  const told = await make('oncall', all);
  let n = 0;
  const attempt = async (outcome: string, attempt = 1, endpoint = watched, event = 'record_created') => {
    n++;
    await sql`with made as (select collecta.new_id('evt') as event_id, now() as at), event as (
        insert into collecta.events (event_id, routed_at, sequence, position, module, event, occurred_at, body)
        select event_id, at, ${n}, 0, 'orders', ${event}, at, '{}' from made)
      insert into collecta.delivery_attempts (id, event_id, routed_at, endpoint_id, attempt, outcome, url, started_at,
        finished_at)
      select collecta.new_id('dlv'), event_id, at, ${endpoint}, ${attempt}, ${outcome}, 'https://x.example/', at, at
        from made`;
  };
  return { sql, url, watched, told, attempt, observe: () => observe(sql), alerts: () => alerts(sql, told) };
}

/** Calls observe() as if the runner did so half a minute later: attempts are read only when they are old enough. */
async function observe(sql: Sql): Promise<void> {
  await sql.unsafe(`update collecta.delivery_attempts
    set id = 'dlv_' || lpad(to_hex(('x' || substr(id, 5, 12))::bit(48)::bigint - 30000), 12, '0') || substr(id, 17)
    where id >= collecta.attempt_id_at(now() - interval '20 s');
    update collecta.unrouted set set_aside_at = set_aside_at - interval '30 s'
      where set_aside_at > now() - interval '20 s';
    update collecta.inbound_requests set received_at = received_at - interval '30 s'
      where received_at > now() - interval '20 s';
    update collecta.observation set counted_until = now() - interval '40 s';
    select collecta.observe();
    delete from collecta.delivery_attempts; delete from collecta.unrouted; delete from collecta.inbound_requests`);
}

/** The alerts that were queued for an endpoint since the last call. */
async function alerts(sql: Sql, endpoint: string) {
  const rows =
    await sql`with gone as (delete from collecta.delivery_queue where endpoint_id = ${endpoint} returning event_id)
    select v.event, v.record_id, v.body::json -> 'record' as record, v.body
      from gone join collecta.events v using (event_id) order by v.sequence`;
  return rows.map(row => ({ event: row.event, subject: row.record_id, record: row.record, body: row.body }));
}
/** Moves the time of the last alerts back by more than the interval between two alerts of a kind. */
const later = (sql: Sql) =>
  sql`update collecta.alerts set sent =
    (select coalesce(jsonb_object_agg(key, (value #>> '{}')::timestamptz - interval '11 minutes'), '{}')
      from jsonb_each(sent))`;

t.test('an endpoint alert is sent once at half of the retries, and ends with the first success', async t => {
  const { sql, watched, attempt, observe, alerts } = await prepared();
  for (const n of [1, 2]) await attempt('failed', n);
  await observe();
  t.strictSame(await alerts(), [], 'two of five retries are no half');
  await attempt('failed', 3);
  await observe();
  t.match(await alerts(), [
    { event: 'endpoint.failing', subject: watched, record: { endpoint_id: watched, name: 'shop', state: 'failing' } },
  ]);
  await attempt('failed', 4);
  await observe();
  await later(sql);
  await attempt('failed', 5);
  await observe();
  t.strictSame(await alerts(), [], 'on the change only');
  await attempt('delivered');
  await observe();
  t.match(await alerts(), [{ event: 'endpoint.recovered', subject: watched, record: { state: 'well' } }]);
  await attempt('delivered');
  await observe();
  t.strictSame(await alerts(), []);
});

t.test('at most one alert of a kind is sent in an interval; a state that changed back is not sent', async t => {
  const { sql, attempt, observe, alerts } = await prepared();
  await attempt('failed', 3);
  await observe();
  await attempt('delivered');
  await observe();
  t.match(
    (await alerts()).map(({ event }) => event),
    ['endpoint.failing', 'endpoint.recovered'],
  );
  await attempt('failed', 3);
  await observe();
  t.strictSame(await alerts(), [], 'failing again within ten minutes');
  await attempt('delivered');
  await observe();
  await later(sql);
  await observe();
  t.strictSame(await alerts(), [], 'and well again');
  await attempt('failed', 3);
  await observe();
  t.match(
    (await alerts()).map(({ event }) => event),
    ['endpoint.failing'],
  );
});

t.test('a paused endpoint is alerted with its reason', async t => {
  const { sql, watched, observe, alerts } = await prepared();
  await sql`select collecta.pause_endpoint(${watched}, 'the receiver answered 410 Gone')`;
  await observe();
  t.match(await alerts(), [
    { event: 'endpoint.paused', record: { state: 'paused', reason: 'the receiver answered 410 Gone' } },
  ]);
  await observe();
  t.strictSame(await alerts(), []);
});

t.test('one alert counts deliveries given up, changes set aside and failed inbound requests', async t => {
  const { sql, watched, attempt, observe, alerts } = await prepared();
  for (let i = 0; i < 3; i++) await attempt('exhausted', 6);
  await sql`insert into collecta.unrouted (change_id, module, reason) select n, 'orders', 'secret word'
    from generate_series(1, 4) n`;
  await sql`select from collecta.create_inbound_endpoint('orders', '{"$.id": "id"}', match_columns => '{id}')`;
  await sql`insert into collecta.inbound_requests (request_id, inbound_endpoint_id, received_at, state, reason,
    mapping_version, body)
    select collecta.new_id('req'), inbound_endpoint_id, now(), 'failed', 'secret word', 1, 'secret word'
      from collecta.inbound_endpoints, generate_series(1, 2)`;
  await observe();
  const found = await alerts();
  t.match(
    found.map(({ event, record }) => [event, record.count]),
    [
      ['change.set_aside', 4],
      ['delivery.exhausted', 3],
      ['endpoint.failing', undefined],
      ['inbound.failing', 2],
    ],
  );
  t.equal(found.find(({ event }) => event === 'delivery.exhausted')?.subject, watched);
  t.notMatch(JSON.stringify(found), /secret|whsec_|https:/, 'no reason, URL, body or secret is in them');
  await attempt('exhausted', 6);
  await observe();
  t.strictSame(await alerts(), [], 'within the interval they add up');
  await attempt('exhausted', 6);
  await observe();
  await later(sql);
  await observe();
  t.match(
    (await alerts()).map(({ event, record }) => [event, record.count]),
    [['delivery.exhausted', 2]],
  );
});

t.test('a delivery that waits too long is alerted', async t => {
  const { sql, watched, observe, alerts } = await prepared();
  await sql`insert into orders values (1)`;
  await sql`select from collecta.claim_deliveries(10)`;
  await sql`update collecta.delivery_queue set leased_until = null, due_at = now() - interval '10 minutes'`;
  await observe();
  t.match(await alerts(), [{ event: 'queue.stale', subject: watched }]);
  await observe();
  t.strictSame(await alerts(), []);
  await sql`delete from collecta.delivery_queue`;
  await sql`insert into orders values (2)`;
  await sql`update collecta.outbox set captured_at = now() - interval '2 minutes'`;
  await observe();
  t.match(await alerts(), [{ event: 'queue.stale', subject: null, record: { waiting: 'outbox' } }]);
});

t.test('a failing endpoint that receives alerts does not cause a loop', async t => {
  const { sql, told, attempt, observe } = await prepared();
  const [{ endpoint_id: second } = {}] =
    await sql`select endpoint_id from collecta.create_endpoint('https://y.example/', collecta.alert_events(),
      name => 'second')`;
  await attempt('exhausted', 6, told, 'endpoint.failing');
  await observe();
  t.strictSame(await alerts(sql, told), [], 'not to itself, and nothing about an alert that was given up');
  t.match(
    (await alerts(sql, second)).map(({ event }) => event),
    ['endpoint.failing'],
  );
  await attempt('exhausted', 6, second, 'endpoint.failing');
  await observe();
  t.match(
    (await alerts(sql, told)).map(({ event }) => event),
    ['endpoint.failing'],
  );
  for (let i = 0; i < 5; i++) {
    await later(sql);
    await attempt('exhausted', 6, told, 'endpoint.failing');
    await attempt('exhausted', 6, second, 'endpoint.failing');
    await observe();
    t.strictSame(
      [...(await alerts(sql, told)), ...(await alerts(sql, second))],
      [],
      'both go on failing without another alert',
    );
  }
});

t.test('a flapping endpoint is alerted once in each interval, and finally with its last state', async t => {
  const { sql, attempt, observe, alerts } = await prepared();
  const found: string[] = [];
  for (let minute = 0; minute < 60; minute++) {
    await attempt(minute % 2 === 0 ? 'failed' : 'delivered', 3);
    await observe();
    found.push(...(await alerts()).map(({ event }) => event));
    await sql`update collecta.alerts
      set sent = (select coalesce(jsonb_object_agg(key, (value #>> '{}')::timestamptz - interval '1 minute'), '{}')
        from jsonb_each(sent))`;
  }
  for (const event of ['endpoint.failing', 'endpoint.recovered']) {
    const times = found.filter(each => each === event).length;
    t.ok(times > 1 && times <= 6, `${event}: ${times} in an hour of ten-minute intervals`);
  }
  await later(sql);
  await observe();
  found.push(...(await alerts()).map(({ event }) => event));
  t.equal(found.at(-1), 'endpoint.recovered', 'as it is now');
});

t.test('thousands of simultaneous failures are one alert of each kind and take at most seconds', async t => {
  const { sql, told } = await prepared();
  await sql.unsafe(`
    insert into collecta.endpoints (endpoint_id, name, url, events, after_change_id)
    select 'ep_' || lpad(n::text, 32, '0'), 'n-' || n, 'https://x.example/', '{record_created}', 0
      from generate_series(1, 5000) n;
    insert into collecta.events (event_id, routed_at, sequence, position, module, event, occurred_at, body)
    select 'evt_' || n, now(), n, 0, 'orders', 'record_created', now(), '{}' from generate_series(1, 5000) n;
    insert into collecta.delivery_attempts (id, event_id, routed_at, endpoint_id, attempt, outcome, url, started_at,
      finished_at)
    select collecta.new_id('dlv'), 'evt_' || n, now(), 'ep_' || lpad(n::text, 32, '0'), 6, 'exhausted',
      'https://x.example/', now(), now()
    from generate_series(1, 5000) n`);
  const began = Date.now();
  await observe(sql);
  const took = Date.now() - began;
  t.ok(took < 20_000, `${took} ms`);
  const found = await alerts(sql, told);
  t.match(found, [
    { event: 'delivery.exhausted', subject: null, record: { subjects: 5000, count: 5000 } },
    { event: 'endpoint.failing', subject: null, record: { subjects: 5000 } },
  ]);
  t.equal(found.length, 2);
  t.equal(found[1]?.record.first.length, 20);
  t.match(found[1]?.record.first[0], { endpoint_id: `ep_${'1'.padStart(32, '0')}`, name: 'n-1', state: 'failing' });
  await observe(sql);
  t.strictSame(await alerts(sql, told), []);
});

t.test('an attempt lost by a runner is not a failure of its endpoint', async t => {
  const { sql, watched, attempt, observe, alerts } = await prepared();
  await sql`update collecta.endpoints set retry_max = 1 where endpoint_id = ${watched}`;
  await attempt('lost', 1);
  await observe();
  t.strictSame(await alerts(), []);
  await attempt('failed', 1);
  await observe();
  t.match(await alerts(), [{ event: 'endpoint.failing' }]);
});

t.test('an endpoint that failed for pause_after is paused by maintain and alerted', async t => {
  const { sql, watched, observe, alerts } = await prepared();
  await sql`insert into collecta.endpoint_flow (endpoint_id, failing_since)
    values (${watched}, now() - interval '30 days')`;
  await sql`select from collecta.maintain()`;
  await observe();
  t.match(await alerts(), [
    { event: 'endpoint.paused', subject: watched, record: { reason: /failed without one success/ } },
  ]);
});

t.test('deleted endpoints neither receive alerts nor are alerted about', async t => {
  const { sql, watched, told, attempt, observe, alerts } = await prepared();
  await attempt('failed', 3);
  await observe();
  await attempt('delivered');
  await observe();
  await attempt('failed', 3);
  await observe();
  t.equal((await alerts()).length, 2, 'the third waits for the interval');
  await sql`select collecta.delete_endpoint(${watched})`;
  await later(sql);
  await observe();
  t.strictSame(await alerts(), [], 'nothing is told of an endpoint that is gone');
  t.strictSame([...(await sql`select from collecta.alerts where subject = ${watched}`)], []);
  await sql`select collecta.delete_endpoint(${told})`;
  const [{ endpoint_id: other } = {}] =
    await sql`select endpoint_id from collecta.create_endpoint('https://x.example/', '{record_created}',
      name => 'other')`;
  await attempt('failed', 3, other);
  await observe();
  t.strictSame([...(await sql`select from collecta.delivery_queue`)], [], 'and nobody is alerted any more');
});

t.test('an endpoint with a scope or a payload_role gets no alert about others', async t => {
  const { sql, told, attempt, observe } = await prepared();
  const events = ['endpoint.failing'];
  const [{ endpoint_id: tenant } = {}] =
    await sql`select endpoint_id from collecta.create_endpoint('https://x.example/', ${events}, name => 'acme',
      scope => 'acme')`;
  const [{ endpoint_id: narrow } = {}] =
    await sql`select endpoint_id from collecta.create_endpoint('https://x.example/', ${events}, name => 'narrow',
      payload_role => 'pg_monitor')`;
  await attempt('failed', 3);
  await observe();
  t.equal((await alerts(sql, told)).length, 1);
  t.strictSame([...(await alerts(sql, tenant)), ...(await alerts(sql, narrow))], []);
});

t.test('an alert is sent once although the database restarts while it is made', async t => {
  const { sql, url, told, attempt } = await prepared();
  await attempt('failed', 3);
  await sql`update collecta.delivery_attempts
    set id = 'dlv_' || lpad(to_hex(('x' || substr(id, 5, 12))::bit(48)::bigint - 30000), 12, '0') || substr(id, 17)`;
  await sql`update collecta.observation set counted_until = now() - interval '40 s'`;
  const other = postgres(url, { max: 1, onnotice: () => {} });
  await other.unsafe('begin; select collecta.observe()');
  await server.restart('immediate');
  await other.end({ timeout: 1 }).catch(() => {});
  await until('the server is back', async () => (await sql`select`.catch(() => undefined)) !== undefined);
  t.strictSame(await alerts(sql, told), [], 'nothing was committed');
  await sql`select collecta.observe()`;
  t.match(
    (await alerts(sql, told)).map(({ event }) => event),
    ['endpoint.failing'],
  );
  t.match(await sql`select sum(failed)::int as n from collecta.delivery_rollup where endpoint_id <> ''`, [{ n: 1 }]);
  await sql`select collecta.observe()`;
  t.strictSame(await alerts(sql, told), []);
});

t.test('alerts are ordinary signed webhooks that an endpoint subscribes to', async t => {
  const { sql } = await database();
  await sql.unsafe(`create table orders (id int primary key); select collecta.attach_module('orders', 'orders')`);
  await sql`select from collecta.create_endpoint('https://x.example/', '{endpoint.failing,queue.stale}')`;
  await sql`insert into orders values (1)`;
  t.equal((await sql`select from collecta.outbox`).length, 0);
  t.equal((await sql`select from collecta.subscriptions`).length, 0);
  await t.rejects(sql`select from collecta.create_endpoint('https://x.example/', '{endpoint.fails}')`, {
    code: 'CW012',
  });
  await sql`select from collecta.create_endpoint('https://x.example/', '{endpoint.failing,record_created}')`;
  await sql`insert into orders values (2)`;
  t.equal((await sql`select from collecta.outbox`).length, 1);
});

t.test('each attempt is counted once for its endpoint and once in total, however counts are folded', async t => {
  const { sql, attempt } = await prepared();
  for (let i = 0; i < 20; i++) await attempt(i % 4 === 0 ? 'failed' : 'delivered');
  await sql.unsafe(`update collecta.delivery_attempts
      set total_ms = 40, id = 'dlv_'
        || lpad(to_hex((extract(epoch from now() - interval '20 s' - interval '5 hours' * n.n) * 1000)::bigint),
          12, '0') || substr(id, 17),
      finished_at = now() - interval '20 s' - interval '5 hours' * n.n
    from (select id as old, row_number() over () - 1 as n from collecta.delivery_attempts) n where n.old = id;
    update collecta.observation set counted_until = now() - interval '20 days',
      folded_until = date_trunc('hour', now() - interval '20 days')`);
  while ((await sql`select collecta.observe() as more`)[0]?.more);
  const counts = () =>
    sql`select endpoint_id = '' as whole, sum(delivered)::int as delivered, sum(failed)::int as failed,
        sum(exhausted + blocked + lost)::int as others, collecta.sum_counts(answers) as answers
        from collecta.delivery_rollup group by 1 order by 1`;
  const expected = [
    { whole: false, delivered: 15, failed: 5, others: 0, answers: { 11: 20 } },
    { whole: true, delivered: 15, failed: 5, others: 0, answers: { 11: 20 } },
  ];
  t.strictSame([...(await counts())], expected);
  await sql`select collecta.observe()`;
  t.strictSame([...(await counts())], expected, 'nothing is counted twice');
  await sql`update collecta.observation set counted_until = now() + interval '10 days' - interval '1 minute'`;
  await sql`select collecta.fold_rollup(now() + interval '10 days')`;
  t.strictSame([...(await counts())], expected, 'folded into days');
  t.strictSame(
    [
      ...(await sql`select count(*)::int as n from collecta.delivery_rollup
          where starts_at <> date_trunc('day', starts_at at time zone 'UTC') at time zone 'UTC'`),
    ],
    [{ n: 0 }],
  );
  await sql`select collecta.fold_rollup(now() + interval '100 days')`;
  t.strictSame([...(await counts())], [], 'past rollup_retention they go');
});
