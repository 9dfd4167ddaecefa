import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { openPool, type Pool } from '../../src/database/pool.ts';
import { createLog } from '../../src/log.ts';
import { createClaimer, type Delivery } from '../../src/outbound/claim.ts';
import { allEvents, type Claimed, claimBySql, record, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';
import { until } from '../support/runner.ts';

const { connect, database } = await useServer();
const pools: Pool[] = [];
t.teardown(() => Promise.all(pools.map(pool => pool.end({ timeout: 1 }))));

const log = createLog('error', () => {});

function claimer(url: string, patienceMs?: number, max = 4) {
  const pool = openPool(url, { max });
  pools.push(pool);
  const claim = createClaimer(pool, null, { log, ...(patienceMs && { patienceMs }) });
  return (deliveries: number, perEndpoint: number, everything?: 'everything') =>
    claim({ deliveries, bytes: 16_000_000, perEndpoint }, { everything: everything === 'everything' });
}

/** A database with an attached table t and no endpoint. */
async function prepared() {
  const made = await database();
  await made.sql`create table t (id int generated always as identity primary key, n int not null default 0, data json)`;
  await made.sql`select collecta.attach_module('t', 't')`;
  return made;
}

/** Queues `count` deliveries of one event to an endpoint, each due one microsecond after the previous one. */
const fill = (sql: Sql, endpoint: string, count: number) => sql`
  with event as (
    insert into collecta.events (event_id, routed_at, sequence, position, module, event, occurred_at, body)
    values (collecta.new_id('evt'), clock_timestamp(), 0, 0, 'bulk', 'test', now(), '{}') returning event_id, routed_at)
  insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, routed_at, due_at, bytes)
  select g, 0, ${endpoint}, event_id, routed_at, now() - interval '1 s' + g * interval '1 us', 2
    from event, generate_series(1, ${count}) g`;

const lapse = (sql: Sql) =>
  sql`update collecta.delivery_queue set leased_until = now() - interval '1 s' where leased_until is not null`;
const leased = async (sql: Sql, endpoint: string) =>
  Number(
    (
      await sql`select count(*) from collecta.delivery_queue where endpoint_id = ${endpoint} and leased_until > now()`
    )[0]!.count,
  );
const count = (deliveries: Delivery[], endpoint: string) =>
  deliveries.filter(each => each.endpoint.id === endpoint).length;
const records = (deliveries: { body: string }[]) =>
  deliveries.map(({ body }) => JSON.parse(body).record_id as string).sort();

t.test('a change is routed and claimed in one call', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created']);
  await sql`insert into t (n) values (1)`;
  const { deliveries, routed } = await claimBySql(sql);
  t.equal(routed, 1);
  t.strictSame(records(deliveries), ['1']);
});

t.test('a claim that routes leases no more than max_in_flight allows', async t => {
  const { sql } = await prepared();
  const plain = await subscribe(sql, ['record_created'], { max_in_flight: 1_000 });
  const small = await subscribe(sql, ['record_created'], { max_in_flight: 2 });
  const ordered = await subscribe(sql, ['record_created', 'record_updated'], { ordered: true });
  const paused = await subscribe(sql, ['record_created']);
  const held = await subscribe(sql, ['record_created']);
  await sql`select collecta.pause_endpoint(${paused})`;
  await sql`insert into collecta.endpoint_flow (endpoint_id, held_until) values (${held}, now() + interval '1 hour')`;
  await sql`insert into t (n) select g from generate_series(1, 5) g`;
  await sql`update t set n = 0 where id = 1`;
  const first = await claimBySql(sql);
  const claimed = (id: string) => first.deliveries.filter(({ endpoint }) => endpoint === id);
  t.equal(first.routed, 6);
  t.strictSame(
    claimed(plain).map(({ awaited }) => awaited),
    [false, false, false, false, false],
  );
  t.strictSame(
    claimed(small).map(({ awaited }) => awaited),
    [true, true],
    'more deliveries are due than may be in flight',
  );
  t.equal(claimed(ordered).length, 5, 'the update waits for its creation');
  t.strictSame([claimed(paused).length, claimed(held).length], [0, 0]);
  const second = await claimBySql(sql, { cursor: first.next_cursor });
  t.strictSame(second.deliveries, [], 'nothing is claimed twice');
  await record(sql, claimed(small).slice(0, 1));
  t.match((await claimBySql(sql, { cursor: second.next_cursor })).deliveries, [{ endpoint: small }]);
});

t.test('a claim planned on empty tables reads no more rows when they are full', async t => {
  const { sql, url } = await prepared();
  const endpoint = await subscribe(sql, ['record_created'], { max_in_flight: 50 });
  await sql`alter table collecta.delivery_queue set (autovacuum_enabled = off)`;
  const session = connect(url, { max: 1 });
  const round = async () => record(session, (await claimBySql(session)).deliveries);
  for (let i = 0; i < 8; i++) {
    await sql`insert into t (n) values (1)`;
    await sql.unsafe('vacuum analyze');
    t.equal(await round(), 1);
  }
  await sql`insert into t (n) select g from generate_series(1, 20000) g`;
  for (let routed = 1; routed > 0; ) routed = (await sql`select routed from collecta.route_changes(5000)`)[0]!.routed;
  await fill(sql, endpoint, 20_000);
  await session.begin(async tx => {
    const { deliveries } = await claimBySql(tx as unknown as Sql);
    t.equal(deliveries.length, 50);
    t.equal(await record(tx as unknown as Sql, deliveries), 50);
    const read = await tx`
      select split_part(relname, '_', 1) as of, sum(idx_tup_fetch + seq_tup_read)::int as rows
        from pg_stat_xact_all_tables
      where schemaname = 'collecta' group by 1 having sum(idx_tup_fetch + seq_tup_read) > 500`;
    t.strictSame([...read], [], 'of 40,000 queue rows and as many events');
  });
});

t.test('a backlog of 20,000 for one endpoint delays no other; endpoints take turns', async t => {
  const { sql, url } = await prepared();
  const busy = await subscribe(sql, allEvents, { max_in_flight: 10_000 });
  const other = await subscribe(sql);
  await fill(sql, busy, 20_000);
  const claim = claimer(url);
  for (let i = 0; i < 5; i++) t.equal(count((await claim(100, 50)).deliveries, busy), 50);
  await sql`select collecta.send_test_event(${other})`;
  const { deliveries } = await claim(100, 50);
  t.equal(count(deliveries, other), 1, 'the delivery of another endpoint is in the next claim');
  t.equal(count(deliveries, busy), 50);

  const many: string[] = [];
  for (let i = 0; i < 30; i++) {
    many.push(await subscribe(sql, allEvents, { max_in_flight: 1_000 }));
    await fill(sql, many[i]!, 50);
  }
  const served = new Map<string, number>();
  for (let i = 0; i < 8; i++)
    for (const { endpoint } of (await claim(20, 5)).deliveries)
      served.set(endpoint.id, (served.get(endpoint.id) ?? 0) + 1);
  t.ok(
    [busy, ...many].every(id => (served.get(id) ?? 0) >= 5),
    'in 8 claims of 20, each of 31 endpoints got its 5 deliveries',
  );
});

t.test('max_in_flight holds over all runners', async t => {
  const { sql, url } = await prepared();
  const endpoint = await subscribe(sql, allEvents, { max_in_flight: 10 });
  await fill(sql, endpoint, 500);
  const replicas = Array.from({ length: 4 }, () => claimer(url, undefined, 1));
  const claimAll = async () =>
    (await Promise.all(replicas.map(claim => claim(100, 100)))).flatMap(({ deliveries }) => deliveries);
  const first = await claimAll();
  t.equal(first.length, 10, 'four claims at once');
  t.ok(
    first.every(({ awaited }) => awaited),
    'which says that more is due',
  );
  let open = first;
  let most = 0;
  for (let i = 0; i < 15; i++) {
    const finished = open.splice(0, 1 + (i % 7));
    const [, again] = await Promise.all([record(sql, finished, i % 3 === 0 ? 'failed' : 'delivered'), claimAll()]);
    open = [...open, ...again];
    most = Math.max(most, await leased(sql, endpoint));
  }
  t.equal(most, 10);
  t.equal(new Set(open.map(({ id }) => id)).size, open.length, 'nothing was claimed twice');
  await sql`select collecta.update_endpoint(${endpoint}, max_in_flight => 3)`;
  await record(sql, open.splice(0, 6));
  t.equal((await claimAll()).length, 0, 'lowered: the surplus finishes first');
});

t.test('a row that another session has locked is skipped, and claimed later', async t => {
  const { sql, url } = await prepared();
  const endpoint = await subscribe(sql);
  await fill(sql, endpoint, 5);
  const dba = connect(url, { max: 1 });
  await dba`begin`;
  await dba`select from collecta.delivery_queue where change_id = 1 for update`;
  const started = performance.now();
  const { deliveries, next_cursor: cursor } = await claimBySql(sql);
  t.equal(deliveries.length, 4);
  t.ok(performance.now() - started < 2_000, 'without waiting');
  await record(sql, deliveries);
  await dba`commit`;
  t.equal((await claimBySql(sql, { cursor })).deliveries.length, 1, 'the hint does not pass it');
});

const release = (sql: Sql, { id, lease }: Pick<Delivery, 'id' | 'lease'>) =>
  sql`select collecta.release_deliveries(array[${String(id)}::text::bigint], array[${String(lease)}::text::bigint])`;

t.test('a result with an expired lease is refused; only an answered request is an attempt', async t => {
  const { sql } = await prepared();
  const endpoint = await subscribe(sql, allEvents, { retry_max: 1 });
  await fill(sql, endpoint, 1);
  const history = async () =>
    (
      await sql`select attempt, outcome, next_attempt_at is not null as again from collecta.delivery_attempts
        order by id`
    ).map(row => `${row.attempt} ${row.outcome}${row.again ? '' : ', the last'}`);
  const dueNow = () => sql`update collecta.delivery_queue set due_at = now()`;
  const [first] = (await claimBySql(sql)).deliveries;
  t.equal((await claimBySql(sql)).deliveries.length, 0, 'leased');
  await lapse(sql);
  const [second] = (await claimBySql(sql)).deliveries;
  t.equal(second!.id, first!.id);
  t.strictSame(await history(), ['1 lost'], 'what vanished is in the history');
  t.equal(await record(sql, [first!]), 0, 'a late result changes nothing');
  t.equal(await record(sql, [first!], 'failed'), 0);
  await release(sql, first!);
  t.equal(await leased(sql, endpoint), 1, 'nor does giving back what is no longer theirs');
  t.equal(await record(sql, [second!], 'failed'), 1);
  t.equal(await record(sql, [second!], 'failed'), 0, 'a result whose commit’s answer was lost is not recorded twice');
  t.strictSame(await history(), ['1 lost', '1 failed'], 'the first attempt is the first that was answered');

  await dueNow();
  const [third] = (await claimBySql(sql)).deliveries;
  await release(sql, third!);
  t.equal(await record(sql, [third!]), 0, 'a result of what was given back');
  for (let i = 0; i < 16; i++) {
    await dueNow();
    await claimBySql(sql);
    await lapse(sql);
  }
  const waits = (
    await sql`select extract(epoch from next_attempt_at - finished_at)::int as s from collecta.delivery_attempts
      where outcome = 'lost' order by id`
  ).map(({ s }) => s as number);
  t.ok(
    waits.every((wait, i) => i < 3 || wait > waits[i - 1]!),
    `lost in a row, it waits longer each time: ${waits} s`,
  );
  t.notOk((await history()).includes('lost, the last'), 'lost is never the last outcome');
  t.match(
    [...(await sql`select problem from collecta.health where subject = ${endpoint}`)],
    [{ problem: 'deliveries are lost again and again' }],
  );
  await claimBySql(sql);
  await dueNow();
  const [last] = (await claimBySql(sql)).deliveries;
  await record(sql, [last!], 'blocked');
  t.equal((await history()).at(-1), '2 exhausted, the last', 'whatever refused it');
  t.equal((await sql`select from collecta.delivery_queue`).length, 0);
});

t.test('after a failover, a result of a lost claim is not recorded for another with its number', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created']);
  await sql`insert into t (n) values (1), (2)`;
  const forgotten: Claimed[] = [];
  await sql
    .begin(async tx => {
      forgotten.push(...(await claimBySql(tx as unknown as Sql)).deliveries);
      throw new Error('forgotten');
    })
    .catch(() => {});
  // The state of a promoted standby that had not received the claim.
  await sql`select setval('collecta.delivery_queue_delivery_id_seq', ${String(forgotten[0]!.id)}::text::bigint, false)`;
  await sql`delete from collecta.outbox where new ->> 'n' = '1'`;
  const { deliveries } = await claimBySql(sql);
  t.match(deliveries, [{ id: forgotten[0]!.id, lease: Number }]);
  t.equal(deliveries[0]!.body, forgotten[1]!.body, 'routed again: the same bytes under the same id');
  t.equal(await record(sql, forgotten.slice(0, 1)), 0);
  t.equal(await record(sql, deliveries), 1);
});

t.test('the hint of an ordered endpoint does not pass a change that may not have committed yet', async t => {
  const { sql, url } = await prepared();
  await subscribe(sql, ['record_created', 'record_updated'], { ordered: true });
  const claim = claimer(url);
  const claimed = async (everything: boolean) => {
    const { deliveries } = await claim(100, 100, everything ? 'everything' : undefined);
    await record(sql, deliveries);
    return deliveries.map(({ body }) => JSON.parse(body)).map(({ event, record_id }) => `${event} ${record_id}`);
  };
  const slow = connect(url, { max: 1 });
  await slow`begin`;
  await slow`insert into t (id) overriding system value values (1)`;
  for (let id = 2; id <= 5; id++) {
    await sql`insert into t (id) overriding system value values (${id})`;
    t.strictSame(await claimed(true), [`record_created ${id}`]);
  }
  await slow`commit`;
  await sql`update t set n = 1 where id = 1`;
  t.strictSame(await claimed(false), ['record_created 1'], 'it was overtaken, and comes before what was done to it');
  t.strictSame(await claimed(false), ['record_updated 1']);

  for (let id = 6; id <= 9; id++) {
    await sql`insert into t (id) overriding system value values (${id})`;
    await claimed(true);
  }
  // The number goes back, so that a change comes below the hint; no running transaction could still commit such a one.
  const restart = (at: number) => sql`select setval(pg_get_serial_sequence('collecta.outbox', 'change_id'), ${at})`;
  await restart(1);
  await sql`insert into t (id) overriding system value values (10)`;
  await restart(100);
  await sql`insert into t (id) overriding system value values (11)`;
  t.strictSame(await claimed(false), ['record_created 11'], 'changes below the hint are not read');
  t.strictSame(await claimed(true), ['record_created 10'], 'unless the whole is');
});

t.test('an ordered record continues after a predecessor was lost or given up, without maintain', async t => {
  const { sql } = await prepared();
  await subscribe(sql, allEvents, { ordered: true, retry_max: 0 });
  await sql`insert into t (n) values (1)`;
  await sql`update t set n = 2`;
  t.equal((await claimBySql(sql)).deliveries.length, 1);
  await lapse(sql);
  const { deliveries } = await claimBySql(sql);
  t.match(
    deliveries.map(({ body }) => JSON.parse(body).record.n),
    [1],
    'the same one again, and not its successor',
  );
  await record(sql, deliveries, 'failed');
  const next = await claimBySql(sql);
  t.match(
    next.deliveries.map(({ body, awaited }) => [JSON.parse(body).record.n, awaited]),
    [[2, true]],
  );
});

t.test('deliveries of a dead runner continue within seconds; a frozen runner keeps its lease', async t => {
  const { sql, url } = await prepared();
  const plain = await subscribe(sql, ['record_created'], { max_in_flight: 1 });
  await subscribe(sql, ['record_created', 'record_updated'], { ordered: true });
  await sql`insert into t (n) values (1)`;
  await sql`update t set n = 2`;
  const lifelines = [connect(url, { max: 1 }), connect(url, { max: 1 })];
  const [frozen, dead] = (
    await Promise.all(lifelines.map(session => session`select collecta.hold_lifeline() as runner`))
  ).map(([row]) => row!.runner as number);
  t.not(frozen, dead);
  t.equal((await claimBySql(sql, { runner: dead! })).deliveries.length, 2);
  await sql`insert into t (n) values (3)`;
  await sql`select pg_terminate_backend(pid) from pg_locks
    where locktype = 'advisory' and objid = ${dead!} and classid = 1668246639`;
  await until('it is missed', async () => {
    const { deliveries } = await claimBySql(sql);
    t.notOk(
      deliveries.some(({ endpoint }) => endpoint === plain),
      'at first the runner may come back',
    );
    return (await sql`select from collecta.runners where missing_since is not null`).length === 1;
  });
  t.equal(await leased(sql, plain), 1);
  await sql`update collecta.runners set missing_since = missing_since - interval '6 s' where missing_since is not null`;
  const { deliveries } = await claimBySql(sql);
  t.equal(deliveries.length, 2, 'then what it had is claimed by another, ordered ones too');
  t.match(
    [...(await sql`select runner, missing_since from collecta.runners`)],
    [{ runner: frozen, missing_since: null }],
  );

  const [again] = await lifelines[1]!`select collecta.hold_lifeline(${dead!}) as runner`;
  t.equal(again!.runner, dead, 'a session that was ended comes back under its number');
  const taken = await sql`select collecta.hold_lifeline(${frozen!})`.catch(error => error as { code: string });
  t.equal((taken as { code: string }).code, '55P03', 'which nobody else can take');
});

t.test('hints never pass deliveries that are leased, paused or committed late', async t => {
  const { sql, url } = await prepared();
  const endpoint = await subscribe(sql, ['record_created']);
  await fill(sql, endpoint, 20);
  const first = await claimBySql(sql, { batch: 1 });
  const second = await claimBySql(sql, { batch: 10, cursor: first.next_cursor });
  t.equal(second.deliveries.length, 10);
  await record(sql, second.deliveries);
  const third = await claimBySql(sql, { batch: 1, cursor: second.next_cursor });
  await lapse(sql);
  const lapsed = await claimBySql(sql, { batch: 1, cursor: third.next_cursor });
  t.equal(lapsed.deliveries[0]?.id, first.deliveries[0]?.id, 'a lapsed lease is found from a hint');
  await sql`select collecta.pause_endpoint(${endpoint})`;
  const nothing = await claimBySql(sql, { cursor: lapsed.next_cursor });
  t.equal(nothing.deliveries.length, 0);
  await sql`select collecta.resume_endpoint(${endpoint})`;
  const rest = await claimBySql(sql, { cursor: nothing.next_cursor });
  t.equal(rest.deliveries.length, 9, 'paused, then resumed (one is leased)');

  // Three changes that were committed after later ones.
  const claim = claimer(url);
  const writer = connect(url, { max: 1 });
  await claim(100, 100, 'everything');
  await writer`begin`;
  await writer`insert into t (n) values (100)`;
  const router = connect(url, { max: 1 });
  await router`begin`;
  await fill(router, endpoint, 1);
  await sql`select pg_sleep(0.01)`;
  let seen: string[] = [];
  const keepBusy = async () => {
    await sql`insert into t (n) values (0)`;
    const { deliveries } = await claim(100, 100);
    await record(sql, deliveries);
    seen = [...seen, ...deliveries.map(({ body }) => body)];
  };
  for (let i = 0; i < 5; i++) await keepBusy();
  await writer`commit`;
  await router`commit`;
  const late = () => seen.includes('{}') && seen.some(body => body !== '{}' && JSON.parse(body).record.n === 100);
  const started = performance.now();
  await until('both are found by a busy runner', async () => {
    await keepBusy();
    return late();
  });
  t.ok(performance.now() - started < 3_000, 'within about a second');

  await writer`begin`;
  await writer`insert into t (n) values (200)`;
  await sql`insert into t (n) values (0)`;
  for (let found = 1; found > 0; ) {
    const { deliveries } = await claim(100, 100);
    await record(sql, deliveries);
    found = deliveries.length;
  }
  await writer`commit`;
  const { deliveries } = await claim(100, 100, 'everything');
  t.match(
    deliveries.map(({ body }) => JSON.parse(body).record.n),
    [200],
    'and by the look at everything before sleeping',
  );
});

t.test('an endpoint whose secret was deleted gets nothing and blocks no other', async t => {
  const { sql, url } = await prepared();
  const [broken] = await sql`select endpoint_id from collecta.create_endpoint('https://a.example', '{record_created}')`;
  const [whole] = await sql`select endpoint_id from collecta.create_endpoint('https://b.example', '{record_created}')`;
  await sql`delete from collecta.endpoint_secrets where endpoint_id = ${broken!.endpoint_id}`;
  await sql`insert into t default values`;
  const { deliveries, locked } = await claimer(url)(100, 100);
  t.strictSame([deliveries.map(each => each.endpoint.id), locked], [[whole!.endpoint_id], []]);
});

t.test('a body that somebody wrote by hand, with the separators of a claim in it, arrives whole', async t => {
  const { sql, url } = await prepared();
  const endpoint = await subscribe(sql, ['record_created']);
  const byHand = ['\u001e', 'a\u001eb\u001fc', '\u001f\u001f\u001f\u001f\u001e', 'the next'];
  await fill(sql, endpoint, byHand.length);
  for (const [index, body] of byHand.entries())
    await sql`
      with written as (
        insert into collecta.events (event_id, routed_at, sequence, position, module, event, occurred_at, body)
        values (collecta.new_id('evt'), clock_timestamp(), 0, 0, 'bulk', 'test', now(), ${body})
        returning event_id, routed_at)
      update collecta.delivery_queue q set event_id = w.event_id, routed_at = w.routed_at
      from written w where q.change_id = ${index + 1}`;
  const { deliveries } = await claimer(url)(100, 100);
  t.strictSame(
    deliveries.map(({ body }) => body),
    byHand,
  );
});

t.test('a claim tells the runner to sleep only when it has looked at everything', async t => {
  const { sql, url } = await prepared();
  await subscribe(sql, ['record_created']);
  const claim = claimer(url);
  const router = connect(url, { max: 1 });
  await router`begin`;
  await router`select pg_advisory_xact_lock(1668246636, 2)`;
  t.match(await claim(10, 10, 'everything'), { routed: -1, next: 'wait', deliveries: [] }, 'another session routes');
  await router`commit`;
  t.match(await claim(10, 10, 'everything'), { routed: 0, next: 'sleep' });
  await sql`insert into t (n) select generate_series(1, 30)`;
  const first = await claim(10, 10);
  t.match([first.deliveries.length, first.next], [10, 'now']);
});

t.test('a claim says that routing failed, also after a claim that found nothing', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created']);
  const first = await claimBySql(sql);
  t.equal(first.next, 'sleep');
  await sql`alter table collecta.events add constraint no_poison check (body not like '%poison%')`;
  await sql`insert into t (data) values ('"poison"')`;
  // So long after the last look at everything that a second claim without a result looks at everything again.
  const lastLookTook = first.next_cursor.split(',')[9]!;
  await sql`select pg_sleep_for(5 * ${lastLookTook}::interval)`;
  t.match((await claimBySql(sql, { cursor: first.next_cursor })).trouble, /^23514 /);
});

t.test('a change that cannot be routed is set aside alone, and its neighbours arrive', async t => {
  const { sql, url } = await prepared();
  await subscribe(sql, ['record_created'], { max_in_flight: 1_000 });
  await sql`alter table collecta.events add constraint no_poison check (body not like '%poison%')`;
  await sql`insert into t (n, data) select g, case when g in (17, 18) then '"poison"'::json end
    from generate_series(1, 40) g`;
  const claim = claimer(url);
  const arrived: Delivery[] = [];
  for (let i = 0; i < 40 && arrived.length < 38; i++) arrived.push(...(await claim(100, 100)).deliveries);
  const wanted = Array.from({ length: 40 }, (_, i) => String(i + 1)).filter(id => id !== '17' && id !== '18');
  t.strictSame(records(arrived), wanted.sort());
  await claim(100, 100);
  const aside = await sql`select record_id, endpoint_id, reason from collecta.unrouted order by change_id`;
  t.match(aside, [
    { record_id: '17', endpoint_id: '', reason: /no_poison/ },
    { record_id: '18', reason: /no_poison/ },
  ]);
  t.equal((await sql`select from collecta.outbox`).length, 0);
  t.equal(
    (await sql`select from collecta.health where problem = 'changes are set aside'`).length,
    1,
    'and health says so',
  );
  await sql`alter table collecta.events drop constraint no_poison`;
  await sql`select collecta.route_again()`;
  t.strictSame(records((await claim(100, 100, 'everything')).deliveries), ['17', '18'], 'mended, then routed again');
});

t.test('while one change is isolated, other commits and set-asides are not mistaken for it', async t => {
  const { sql, url } = await prepared();
  await subscribe(sql, ['record_created'], { max_in_flight: 1_000 });
  await sql`alter table collecta.events add constraint no_poison check (body not like '%poison%')`;
  const other = claimer(url);
  const writer = connect(url, { max: 1 });
  const setAside = async () =>
    (await sql`select record_id from collecta.unrouted order by change_id`).map(({ record_id }) => record_id);

  /** Claims until nothing is left. `meanwhile` runs once, before the call that sets something aside. */
  async function claimAll(meanwhile: () => Promise<unknown>) {
    const pool = openPool(url, { max: 1 });
    pools.push(pool);
    let due = true;
    const observed = {
      within:
        (ms: number) =>
        async (text: TemplateStringsArray, ...values: string[]) => {
          if (due && text.join('').includes('set_aside_change')) {
            due = false;
            await meanwhile();
          }
          return pool.within(ms)(text, ...values);
        },
    } as unknown as Pool;
    const claim = createClaimer(observed, null, { log });
    const arrived: Delivery[] = [];
    for (let left = 1; left > 0; left = (await sql`select from collecta.outbox`).length)
      arrived.push(
        ...(await claim({ deliveries: 100, bytes: 16_000_000, perEndpoint: 100 }, { everything: true })).deliveries,
      );
    t.notOk(due);
    return arrived;
  }

  await sql`insert into t (n, data) values (1, '"poison"'), (2, null), (3, null)`;
  let others: Delivery[] = [];
  const mine = await claimAll(async () => {
    for (let i = 0; i < 9 && (await setAside()).length === 0; i++) others.push(...(await other(100, 100)).deliveries);
  });
  t.strictSame(await setAside(), ['1'], 'by the other runner');
  t.strictSame(records([...mine, ...others]), ['2', '3']);

  await writer`begin`;
  await writer`insert into t (n) values (4)`;
  await sql`insert into t (n, data) values (5, '"poison"'), (6, null)`;
  others = await claimAll(() => writer`commit`);
  t.strictSame(await setAside(), ['1', '5']);
  t.strictSame(records(others), ['4', '6']);
});

t.test('no change is set aside because a partition is missing', async t => {
  const { sql, url } = await prepared();
  await subscribe(sql, ['record_created']);
  await sql`insert into t (n) values (1)`;
  const [today] = await sql`select 'collecta.events_' || to_char(now() at time zone 'UTC', 'YYYYMMDD') as name`;
  await sql.unsafe(`drop table ${today?.name}`);
  const claim = claimer(url);
  t.match(await claim(10, 10), { deliveries: [], trouble: /^23514 /, next: 'wait' });
  t.equal((await sql`select from collecta.unrouted`).length, 0);
  t.equal((await sql`select from collecta.health where problem = 'partition is missing'`).length, 1);
  await sql`select collecta.maintain()`;
  t.equal((await claim(10, 10, 'everything')).deliveries.length, 1);
});

t.test('a filter that raises an error affects its own endpoint only', async t => {
  const { sql, url } = await prepared();
  const plain = await subscribe(sql, ['record_created']);
  const filtered = await subscribe(sql, ['record_created'], { filter: '$.record.n > 1' });
  const raising = await subscribe(sql, ['record_created'], { filter: '$.record.n' });
  await sql`insert into t (n, data) values (1, '5'), (2, '{"a": "\\u0000"}'), (3, '{"a": 1}')`;
  const { deliveries } = await claimer(url)(100, 100);
  const to = (id: string) => records(deliveries.filter(({ endpoint }) => endpoint.id === id));
  t.strictSame(to(plain), ['1', '2', '3'], 'an endpoint without a filter gets everything');
  t.strictSame(to(filtered), ['3']);
  t.strictSame(to(raising), []);
  const aside = await sql`select record_id, endpoint_id, reason from collecta.unrouted order by change_id, endpoint_id`;
  t.match(aside.map(row => [row.record_id, row.endpoint_id === filtered ? 'filtered' : 'raising']).sort(), [
    ['1', 'raising'],
    ['2', 'filtered'],
    ['2', 'raising'],
    ['3', 'raising'],
  ]);
});

t.test('an event whose filter runs too long is set aside and blocks no other', async t => {
  const { sql, url } = await prepared();
  const plain = await subscribe(sql, ['record_created']);
  const nested = (depth: number): string =>
    depth === 0 ? '@ < 0' : `exists($.record.data[*] ? (${nested(depth - 1)}))`;
  const slow = await subscribe(sql, ['record_created'], { filter: nested(4) });
  const long = JSON.stringify(Array.from({ length: 2_000 }, (_, i) => i));
  await sql`insert into t (n, data) select g, case when g = 3 then ${long}::text::json else '[-1]' end
    from generate_series(1, 5) g`;
  const claim = claimer(url, 400);
  const arrived: Delivery[] = [];
  const started = performance.now();
  for (let i = 0; i < 20 && arrived.length < 9; i++) arrived.push(...(await claim(100, 100)).deliveries);
  t.comment(`${Math.round(performance.now() - started)} ms`);
  const to = (id: string) => records(arrived.filter(({ endpoint }) => endpoint.id === id));
  t.strictSame(to(plain), ['1', '2', '3', '4', '5']);
  t.strictSame(to(slow), ['1', '2', '4', '5']);
  t.match(await sql`select record_id, endpoint_id, reason from collecta.unrouted`, [
    { record_id: '3', endpoint_id: slow, reason: /too long/ },
  ]);
  await pause(50);
  t.equal(
    (
      await sql`select from pg_stat_activity where state = 'active' and query like '%claim_deliveries%'
        and pid <> pg_backend_pid() and datname = current_database()`
    ).length,
    0,
    'nothing runs on',
  );
});
