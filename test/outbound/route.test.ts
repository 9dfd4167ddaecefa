import t from 'tap';
import { allEvents, brief, deliver, type Payload, route, routeBodies, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';

const { database, connect } = await useServer();
const table = `create table t (id int primary key, n int, status text, tenant text, data jsonb, secret text);
  select collecta.attach_module('t', 't', status_column => 'status', custom_data_column => 'data',
    scope_column => 'tenant')`;
async function prepared(ddl = table) {
  const made = await database();
  await made.sql.unsafe(ddl);
  return made;
}
type Queued = { event: string; record_id: string; waits: boolean };
/** The endpoint's queue, in order. */
const queued = async (sql: Sql, endpoint: string) =>
  [
    ...(await sql<Queued[]>`
    select v.event || ' ' || v.record_id as what, q.due_at = 'infinity' as waits, q.delivery_id, q.attempt, v.body
    from collecta.delivery_queue q join collecta.events v using (event_id, payload_role)
    where q.endpoint_id = ${endpoint} order by q.change_id, q.position`),
  ] as unknown as { what: string; waits: boolean; delivery_id: string; attempt: number; body: string }[];
const whats = async (sql: Sql, endpoint: string) => (await queued(sql, endpoint)).map(({ what }) => what);
const unrouted = (sql: Sql) =>
  sql`select change_id, position, endpoint_id, module, record_id, reason from collecta.unrouted
    order by change_id, position, endpoint_id`;
t.test('filters may be true, false, unknown or raise an error', async t => {
  const { sql } = await prepared();
  const wanting = await subscribe(sql, ['record_created'], { filter: '$.record.n > 10' });
  const raising = await subscribe(sql, ['record_created'], { filter: '$.record.data.size' });
  const plain = await subscribe(sql, ['record_created']);
  await sql.unsafe(
    `insert into t (id, n, data) values (1, 11, '{"size": true}'), (2, 5, '{"size": true}'), (3, null, '{"size": 7}'),
      (4, 20, '{}')`,
  );
  t.strictSame(
    brief(await route(sql)),
    ['created 1', 'created 2', 'created 3', 'created 4'],
    'the event is written whoever wants it',
  );
  t.strictSame(
    await whats(sql, wanting),
    ['record_created 1', 'record_created 4'],
    'only events for which the filter is true, not unknown',
  );
  t.strictSame(
    await whats(sql, plain),
    ['record_created 1', 'record_created 2', 'record_created 3', 'record_created 4'],
    'a filter that raises stops nobody else',
  );
  t.strictSame(await whats(sql, raising), ['record_created 1', 'record_created 2']);
  t.match(
    [...(await unrouted(sql))],
    [
      { endpoint_id: raising, record_id: '3', module: 't', reason: /^filter: / },
      { endpoint_id: raising, record_id: '4' },
    ],
    'set aside per change and endpoint, with the reason',
  );

  t.equal((await sql`select collecta.route_again(${raising}) as n`)[0]!.n, 0, 'without a repair nothing is routed');
  await sql`select collecta.update_endpoint(${raising}, filter => '$.record.n > 10')`;
  t.equal((await sql`select collecta.route_again(${raising}) as n`)[0]!.n, 2);
  t.strictSame(
    await whats(sql, raising),
    ['record_created 1', 'record_created 2', 'record_created 4'],
    'the mended filter decides',
  );
  t.equal((await unrouted(sql)).length, 0);
});

t.test('a payload that jsonb refuses is set aside for endpoints with a filter and reaches others', async t => {
  const { sql } = await prepared(
    `create table t (id int primary key, j json); select collecta.attach_module('t', 't')`,
  );
  const filtering = await subscribe(sql, ['record_created'], { filter: '$.record.id > 0' });
  const plain = await subscribe(sql, ['record_created']);
  await sql`insert into t values (1, '"\\u0000"'), (2, '"\\ud800"'), (3, '1e200000'), (4, '1')`;
  await route(sql);
  t.strictSame(
    await whats(sql, plain),
    [1, 2, 3, 4].map(id => `record_created ${id}`),
  );
  t.strictSame(await whats(sql, filtering), ['record_created 4']);
  t.strictSame(
    (await unrouted(sql)).map(u => u.record_id),
    ['1', '2', '3'],
  );
});

t.test('an endpoint with a scope gets that scope’s events only', async t => {
  const { sql } = await prepared();
  const acme = await subscribe(sql, allEvents, { scope: 'acme' });
  const everything = await subscribe(sql, allEvents);
  await sql`insert into t (id, tenant) values (1, 'acme'), (2, 'other'), (3, null)`;
  await sql`update t set tenant = 'acme' where id = 2`;
  await sql`delete from t where id = 1`;
  await route(sql);
  t.strictSame(
    await whats(sql, acme),
    ['record_created 1', 'record_updated 2', 'record_deleted 1'],
    'its records, as they are after the change',
  );
  t.equal((await whats(sql, everything)).length, 5);
  await sql`select collecta.update_endpoint(${acme}, scope => 'other')`;
  await sql`update t set n = 1`;
  await route(sql);
  t.equal((await whats(sql, acme)).length, 3, 'another scope from then on');
  await sql`select collecta.update_endpoint(${acme}, scope => '')`;
  await sql`update t set n = 2`;
  await route(sql);
  t.equal((await whats(sql, acme)).length, 5, 'and none');
});

t.test('an endpoint gets only changes made after it was created', async t => {
  const { sql } = await prepared();
  const first = await subscribe(sql, ['record_created']);
  await sql`insert into t (id) values (1)`;
  const second = await subscribe(sql, ['record_created', 'record_deleted']);
  await sql`insert into t (id) values (2)`;
  await sql`delete from t where id = 2`;
  await sql`select collecta.update_endpoint(${first}, events => '{record_created,record_deleted}')`;
  await sql`delete from t where id = 1`;
  await route(sql);
  t.strictSame(
    await whats(sql, first),
    ['record_created 1', 'record_created 2', 'record_deleted 1'],
    'and an event that it takes up later, after that',
  );
  t.strictSame(await whats(sql, second), ['record_created 2', 'record_deleted 2', 'record_deleted 1']);
});

t.test('payload_role limits the payload to the role’s columns', async t => {
  const { sql } = await prepared();
  const reader = `reader_${process.pid}`;
  await sql.unsafe(`create role ${reader}; grant select (id, n, status) on t to ${reader}`);
  const limited = await subscribe(sql, allEvents, { payload_role: reader });
  const full = await subscribe(sql, allEvents);
  await sql`insert into t (id, n, secret, data) values (1, 1, 'psst', '{"a": 1}')`;
  await sql`update t set n = 2, secret = 'psst2', status = 'x'`;
  await sql`update t set secret = 'psst3', data = '{"a": 2}'`;
  await route(sql);
  const seen = await queued(sql, limited);
  t.strictSame(
    seen.map(({ what }) => what),
    ['record_created 1', 'record_updated 1', 'status_change 1'],
    'a change of which it may see nothing is no event',
  );
  t.notMatch(JSON.stringify(seen), /psst|secret|data/);
  t.match(JSON.parse(seen[1]!.body), { record_id: '1', record: { id: 1, n: 2, status: 'x' }, previous: { n: 1 } });
  t.equal((await whats(sql, full)).length, 5);
  t.match((await queued(sql, full))[0]!.body, /psst/);
  t.strictSame(
    [...(await sql`select event_id from collecta.events group by event_id, payload_role having count(*) > 1`)],
    [],
    'a body for each role, once',
  );
  t.equal(JSON.parse(seen[0]!.body).id, JSON.parse((await queued(sql, full))[0]!.body).id, 'the same event to both');

  await sql.unsafe(`revoke select (id) on t from ${reader}`);
  await sql`insert into t (id, n) values (2, 3)`;
  await route(sql);
  t.match(
    JSON.parse((await queued(sql, limited)).at(-1)!.body),
    { record_id: null, record: { n: 3 } },
    'a key that it may not see is not its record_id either',
  );
  await sql`insert into t (id, n) values (4, 5)`;
  await sql.unsafe(`drop owned by ${reader}; drop role ${reader}`);
  await route(sql);
  t.match(JSON.parse((await queued(sql, limited)).at(-1)!.body), { record: {} }, 'the role is gone: no column');
  await sql`insert into t (id, n, secret) values (5, 5, 'psst')`;
  await sql`drop table t`;
  t.match(
    (await route(sql)).at(-1),
    { record_id: '5', record: { secret: 'psst' } },
    'a table that is gone: what was captured still routes',
  );
  t.strictSame(JSON.parse((await queued(sql, limited)).at(-1)!.body).record, {}, 'and shows a role nothing');
});

t.test('routing serves twenty endpoints: all modules, new modules, paused, deleted', async t => {
  const { sql } = await prepared();
  const many = await Promise.all(Array.from({ length: 20 }, () => subscribe(sql, ['record_created'])));
  const only = await subscribe(sql, ['record_created'], { modules: ['t'] });
  await sql.unsafe("create table later (id int primary key); select collecta.attach_module('later', 'later')");
  await sql`select collecta.pause_endpoint(${many[0]!})`;
  await sql`insert into t (id) values (1)`;
  await sql`insert into later values (1)`;
  await sql`select collecta.delete_endpoint(${many[1]!})`;
  t.equal((await routeBodies(sql)).length, 2, 'each event is written once');
  t.equal((await sql`select from collecta.events`).length, 2);
  for (const endpoint of [many[0]!, many[2]!, many[19]!])
    t.equal((await whats(sql, endpoint)).length, 2, 'paused or not, of modules attached later too');
  t.equal((await whats(sql, many[1]!)).length, 0, 'deleted: nothing');
  t.equal((await whats(sql, only)).length, 1, 'one module');
  t.equal((await sql`select from collecta.outbox`).length, 0);
});

t.test('slices are routed in order and once, even if a trigger’s change was captured first', async t => {
  const { sql } = await prepared(`${table}; create function again() returns trigger language plpgsql as $$
      begin update t set n = new.n + 100 where id = new.id and n < 100; return null; end$$;
    create trigger again after insert on t for each row when (new.n is not null) execute function again()`);
  await subscribe(sql);
  await sql.begin(async tx => {
    await tx`insert into t (id) values (1)`;
    await tx`insert into t (id, n) values (2, 1), (3, 1)`;
    await tx`update t set status = 'x'`;
  });
  await sql`insert into t (id) values (9)`;
  for (let left = 1; left > 0; left = (await sql`select from collecta.outbox where version is not null`).length)
    await sql`select collecta.route_changes(2)`;
  const events = await sql`select event, record_id from collecta.events order by sequence, position`;
  for (const id of ['2', '3'])
    t.strictSame(
      events.filter(e => e.record_id === id).map(e => e.event),
      ['record_created', 'record_updated', 'record_updated', 'status_change'],
    );
  await sql`insert into t (id) select g from generate_series(10, 29) g`;
  t.strictSame(
    brief(await route(sql, 3)),
    Array.from({ length: 20 }, (_, i) => `created ${i + 10}`),
  );
  t.strictSame(
    [...(await sql`select routed, next_change from collecta.route_changes(5, 1000000)`)],
    [{ routed: 0, next_change: '1000000' }],
    'a hint beyond the end',
  );
});

t.test('putting a transaction in order does not move it past changes between its own', async t => {
  const { sql, url } =
    await prepared(`${table}; create table log (id int primary key); select collecta.attach_module('log', 'log');
    create function note() returns trigger language plpgsql as $$
      begin insert into log values (new.id); return null; end$$;
    create trigger note after insert on t for each row execute function note()`);
  const ordered = await subscribe(sql, allEvents, { ordered: true });
  await sql`insert into t (id, n) values (1, 0)`;
  await route(sql);
  await deliver(sql);
  const long = connect(url, { max: 1 });
  await long`begin`;
  await long`insert into t (id) values (2)`;
  await sql`update t set n = 1 where id = 1`;
  await long`update t set n = 2 where id = 1`;
  await long`commit`;
  await sql`insert into t (id) values (3)`;
  await route(sql, 1);
  const own = (await queued(sql, ordered)).filter(({ what }) => what === 'record_updated 1');
  t.strictSame(
    own.map(({ body, waits }) => [JSON.parse(body).record.n, waits]),
    [
      [1, false],
      [2, true],
    ],
  );
});

t.test('the end of dead rows is told when the outbox is empty, never beyond a writer’s change', async t => {
  const { sql, url } = await prepared();
  await subscribe(sql);
  const holder = connect(url, { max: 1 });
  await holder`begin isolation level repeatable read`;
  await holder`select from collecta.outbox`;
  await sql`insert into collecta.outbox (version, operation, captured_at) select 0, 'I', now()
      from generate_series(1, 150000)`;
  await sql`delete from collecta.outbox`;
  const [last] = await sql`select collecta.last_change_id() + 1 as next_change`;
  t.match([...(await sql`select routed, next_change from collecta.route_changes()`)], [{ routed: 0, ...last }]);
  const writer = connect(url, { max: 1 });
  await writer`begin`;
  await writer`insert into t (id) values (1)`;
  t.match(
    [...(await sql`select routed, next_change from collecta.route_changes()`)],
    [{ routed: 0, next_change: '0' }],
    'a writer holds an id among them',
  );
  await writer`commit`;
  t.match([...(await sql`select routed from collecta.route_changes()`)], [{ routed: 1 }]);
  await holder`rollback`;
});

t.test('an event’s id depends on its change only: routing again gives the same id', async t => {
  const { sql } = await prepared();
  await subscribe(sql);
  await sql.unsafe(`insert into t (id, n, status, data) select g, g, 'open', '{}' from generate_series(1, 3) g`);
  await sql.unsafe(`update t set n = 0, status = 'closed', data = '{"a": 1}' where id < 3`);
  await sql.unsafe(`update t set id = id + 10`);
  await sql.unsafe(`delete from t where id = 11; truncate t`);
  const forgotten = async (max: number) => {
    const found: Record<string, unknown>[] = [];
    const routing = sql.begin(async tx => {
      while ((await tx`select from collecta.outbox`).length > 0) await tx`select collecta.route_changes(${max})`;
      found.push(...(await tx`select event_id, body from collecta.events order by sequence, position`));
      throw new Error('forgotten');
    });
    await t.rejects(routing, /forgotten/);
    return found;
  };
  const together = await forgotten(100);
  const ids = together.map(({ event_id }) => String(event_id));
  t.equal(together.length, 18);
  t.equal(new Set(ids).size, ids.length, 'each event has its own');
  t.ok(
    ids.every(id => /^evt_[0-9a-f]{12}7[0-9a-f]{3}8[0-9a-f]{15}$/.test(id)),
    'UUIDv7-shaped',
  );
  t.strictSame(await forgotten(1), together, 'one by one too');
});

t.test('a large transaction whose changes must be put in order delays its own module only', async t => {
  const { sql, url } = await prepared(`
    create table t (id int primary key, n int, total int); create table other (id int primary key);
    create function set_total() returns trigger language plpgsql as $$
      begin update t set total = new.n * 2 where id = new.id; return null; end $$;
    create trigger set_total after insert on t for each row execute function set_total();
    select collecta.attach_module('t', 't'); select collecta.attach_module('other', 'other')`);
  await subscribe(sql, ['record_created', 'record_updated', 'record_deleted']);
  const records = 3_000;
  const routeSome = async () => (await sql`select routed, reordering from collecta.route_changes(250)`)[0]!;
  const waiting = async () =>
    (await sql`select module_id from collecta.reorderings where ended_in is null`).map(row => row.module_id as number);

  await sql`insert into t select i, i from generate_series(1, ${records}) i`;
  await sql`insert into other values (1)`;
  t.match(await routeSome(), { routed: 1, reordering: true }, 'the other module goes on');
  t.equal((await waiting()).length, 1);
  await sql`insert into other values (0)`;
  const [first] = await sql`
    select count(*)::int as n, bool_and(o.version = (
      select v.version from collecta.module_versions v where v.slug = 'other')) as others
    from unnest(collecta.first_changes(50)) id join collecta.outbox o on o.change_id = id`;
  t.match(first, { n: 1, others: true }, 'a failing change of another module is found behind them');
  t.match(await routeSome(), { routed: 1 });

  // A runner is at it, and dies. Another one begins again, and a writer commits in the meantime.
  const runner = connect(url, { max: 1 });
  await runner`begin`;
  await runner`select collecta.put_module_in_order()`;
  t.equal((await sql`select collecta.put_module_in_order() as module`)[0]!.module, null, 'one at a time');
  await runner`rollback`;
  t.equal((await waiting()).length, 1, 'it is noted until it is done');
  await runner`begin isolation level repeatable read`;
  await runner`select collecta.put_module_in_order()`;
  await sql`insert into t values (${records + 1}, 7)`;
  await sql`insert into other values (2)`;
  const [between] = await sql`select routed from collecta.route_changes(250)`;
  t.equal(between!.routed, 1, 'what comes later in the module waits for it');
  const seen = (await sql`select pg_current_snapshot()::text as now`)[0]!.now;
  await runner`commit`;
  // A router whose hint says that all it saw is in order looks again.
  for (let routed = 1; routed > 0; )
    routed = (await sql`select routed from collecta.route_changes(500, in_order => ${seen}::text::pg_snapshot)`)[0]!
      .routed as number;
  const all = (await sql`select body from collecta.events where module = 't' order by sequence, position`).map(
    row => JSON.parse(row.body) as Payload,
  );
  t.equal(all.length, 2 * (records + 1), 'each change once');
  const wrong = Array.from({ length: records + 1 }, (_, index) => String(index + 1)).filter(id => {
    const [first, second] = all.filter(payload => payload.record_id === id);
    return first?.event !== 'record_created' || second?.event !== 'record_updated' || second.record!.total === null;
  });
  t.strictSame(wrong, [], 'created before updated, also what committed in the meantime');
});

t.test('a large statement that changes keys is put in order apart, too', async t => {
  const { sql } = await prepared();
  await subscribe(sql, ['record_created', 'record_deleted']);
  await sql`insert into t select i from generate_series(1, 6000) i`;
  await route(sql);
  await sql`update t set id = id + 1000000`;
  await sql`delete from collecta.events`;
  const payloads = await route(sql);
  t.equal(payloads.length, 12_000);
  const place = new Map(payloads.map(({ event, record_id }, index) => [`${event} ${record_id}`, index]));
  t.ok(
    Array.from({ length: 6000 }, (_, i) => i + 1).every(
      id => place.get(`record_deleted ${id}`)! < place.get(`record_created ${id + 1_000_000}`)!,
    ),
    'deleted before created',
  );
  t.equal((await sql`select count(*)::int as n from collecta.reorderings where ended_in is not null`)[0]!.n, 1);
});

t.test('only one session routes at a time', async t => {
  const { sql, url } = await prepared();
  await subscribe(sql);
  await sql`insert into t (id) values (1)`;
  const other = connect(url, { max: 1 });
  await other`begin`;
  t.match((await other`select * from collecta.route_changes()`)[0], { routed: 1 });
  t.match((await sql`select * from collecta.route_changes()`)[0], { routed: -1 }, 'the second is told');
  await other`rollback`;
  t.match(
    (await sql`select * from collecta.route_changes()`)[0],
    { routed: 1 },
    'and what the first did not finish is there',
  );
});

/** The next claim of a runner handles route_again in this way. */
const takeBack = (sql: Sql) => sql`select collecta.mend_queue(clock_timestamp())`;

t.test('when routing fails, one change is tried alone, routed without filters, or set aside', async t => {
  const { sql } = await prepared();
  const filtering = await subscribe(sql, ['record_created'], { filter: '$.record.id > 0' });
  const plain = await subscribe(sql, ['record_created']);
  await sql`insert into t (id) values (1), (2), (3)`;
  const [first] = await sql`select collecta.first_changes(10)::text[] as ids`;
  const [one, two] = first!.ids as [string, string];
  t.equal(first!.ids.length, 3);
  t.match([...(await sql`select collecta.route_change(${one}, only_try => true) as fault`)], [{ fault: null }]);
  t.equal((await sql`select from collecta.outbox`).length, 3, 'a try changes nothing');
  await sql`select collecta.route_change(${one}, 'too slow')`;
  t.strictSame(await whats(sql, plain), ['record_created 1']);
  t.match([...(await unrouted(sql))], [{ endpoint_id: filtering, record_id: '1', reason: 'too slow' }]);
  for (const gone of [one, '0'])
    t.match([...(await sql`select collecta.set_aside_change(${gone}, 'it') as done`)], [{ done: false }]);
  await sql`select collecta.set_aside_change(${two}, 'broken', read_key => true)`;
  t.match([...(await unrouted(sql))], [{}, { endpoint_id: '', record_id: '2', module: 't', reason: 'broken' }]);
  t.equal((await sql`select from collecta.health where problem = 'changes are set aside'`).length, 2);
  t.equal((await sql`select collecta.route_again() as n`)[0]!.n, 2);
  await takeBack(sql);
  await route(sql);
  for (const endpoint of [plain, filtering])
    t.strictSame(await whats(sql, endpoint), ['record_created 1', 'record_created 2', 'record_created 3']);
  t.equal((await unrouted(sql)).length, 0);
  t.match([...(await sql`select collecta.first_changes(10) as ids`)], [{ ids: [] }]);
});

t.test('a filter that runs too long ends the batch and loses nothing', async t => {
  const { sql, url } = await prepared(
    `create table t (id int primary key, j jsonb); select collecta.attach_module('t', 't')`,
  );
  await subscribe(sql, ['record_created'], {
    filter: '$.record.j[*] ? (@ like_regex "^(a+)+$" && $.record.j[*] > 1 && $.record.j[*] > 1).x == 1',
  });
  await sql`insert into t select 1, jsonb_agg(g) from generate_series(1, 3000) g`;
  await sql`update collecta.endpoints
    set filter = '$.record.j[*] ? (exists($.record.j[*] ? (exists ($.record.j[*] ? (@ == -1))))) == 1'`;
  const runner = connect(url, { max: 1 });
  await runner`set statement_timeout = 300`;
  const error = await runner`select collecta.route_changes()`.catch(e => e);
  t.equal(error.code, '57014');
  t.equal((await sql`select from collecta.outbox`).length, 1);
  await runner`select collecta.route_change(change_id, 'too slow') from collecta.outbox`;
  t.match([...(await unrouted(sql))], [{ record_id: '1', reason: 'too slow' }]);
});

t.test('an ordered endpoint gets one change of a record at a time', async t => {
  const { sql } = await prepared();
  const ordered = await subscribe(sql, ['record_created', 'record_updated', 'record_deleted'], { ordered: true });
  await sql`insert into t (id, n) values (1, 0), (2, 0)`;
  await sql`update t set n = 1`;
  await route(sql);
  t.strictSame(
    (await queued(sql, ordered)).map(({ what, waits }) => [what, waits]),
    [
      ['record_created 1', false],
      ['record_created 2', false],
      ['record_updated 1', true],
      ['record_updated 2', true],
    ],
    'behind its predecessor it waits',
  );
  await sql`update t set n = 2 where id = 1`;
  await route(sql);
  t.equal((await queued(sql, ordered)).at(-1)!.waits, true, 'in a later batch too');
  t.strictSame(brief(await deliver(sql)), ['created 1', 'created 2']);
  t.strictSame(
    (await queued(sql, ordered)).map(({ waits }) => waits),
    [false, false, true],
    'until that is done',
  );
  t.strictSame(brief(await deliver(sql, 'failed')), ['updated 1', 'updated 2']);
  t.strictSame(await deliver(sql), [], 'a failed one keeps its place');
  await sql`update collecta.delivery_queue set due_at = now() where due_at < 'infinity'`;
  t.strictSame(brief(await deliver(sql)), ['updated 1', 'updated 2']);
  t.strictSame(brief(await deliver(sql)), ['updated 1']);
  await sql`update t set n = 3 where id = 1`;
  await route(sql);
  t.strictSame(
    (await queued(sql, ordered)).map(({ waits }) => waits),
    [false],
    'with nothing before it, it begins at once',
  );
});

t.test('a change behind the hint is sent first when its record is ordered', async t => {
  const { sql, url } = await prepared();
  const ordered = await subscribe(sql, ['record_created', 'record_updated'], { ordered: true });
  const plain = await subscribe(sql, ['record_created', 'record_updated']);
  const slow = connect(url, { max: 1 });
  await slow`begin`;
  await slow`insert into t (id, n) select i, 1 from generate_series(1, 3) i`; // captured, but not committed yet
  await sql`insert into t (id, n) values (4, 1)`;
  const [first] = await sql`select next_change from collecta.route_changes(10)`;
  await slow`commit`;
  await sql`insert into t (id, n) values (5, 1)`;
  await sql`update t set n = 2 where id = 2`;
  const [second] = await sql`select * from collecta.route_changes(3, ${first!.next_change}::bigint)`;
  t.equal(second!.routed, 3, 'as many as were requested');
  const [third] = await sql`select * from collecta.route_changes(3, ${second!.next_change}::bigint)`;
  t.equal(third!.routed, 2, 'and the others next time');
  for (const endpoint of [ordered, plain])
    t.strictSame(
      (await queued(sql, endpoint)).map(({ what, waits }) => [what, waits]),
      [
        ['record_created 1', false],
        ['record_created 2', false],
        ['record_created 3', false],
        ['record_created 4', false],
        ['record_created 5', false],
        ['record_updated 2', endpoint === ordered],
      ],
    );
  t.equal((await sql`select from collecta.outbox`).length, 0);
});

t.test('an event that is set aside holds back only its record at an ordered endpoint', async t => {
  const { sql } = await prepared();
  const ordered = await subscribe(sql, ['record_created', 'record_updated'], {
    ordered: true,
    filter: '$.record.data.size',
  });
  const free = await subscribe(sql, ['record_created', 'record_updated'], { filter: '$.record.data.size' });
  await sql`insert into t (id, data) values (1, '{"size": 7}'), (2, '{"size": true}')`;
  await sql`update t set n = 1, data = '{"size": true}'`;
  await route(sql);
  t.strictSame(
    (await queued(sql, ordered)).map(({ what, waits }) => [what, waits]),
    [
      ['record_created 2', false],
      ['record_updated 1', true],
      ['record_updated 2', true],
    ],
  );
  t.strictSame(
    (await queued(sql, free)).map(({ waits }) => waits),
    [false, false, false],
  );
  await sql`update t set n = 2 where id = 1`;
  await route(sql);
  t.ok((await queued(sql, ordered)).filter(({ what }) => what.endsWith(' 1')).every(({ waits }) => waits));
  await sql`select * from collecta.maintain()`;
  t.ok(
    (await queued(sql, ordered)).filter(({ what }) => what.endsWith(' 1')).every(({ waits }) => waits),
    'maintain does not let it go',
  );
  await sql`select collecta.update_endpoint(${ordered}, filter => '')`;
  await sql`select collecta.route_again()`;
  await takeBack(sql);
  t.strictSame(
    (await queued(sql, ordered)).filter(({ what }) => what.endsWith(' 1')).map(({ what, waits }) => [what, waits]),
    [
      ['record_created 1', false],
      ['record_updated 1', true],
      ['record_updated 1', true],
    ],
    'routed again it comes first',
  );
});

t.test('a change that is set aside holds back its record, and is first again when routed', async t => {
  const { sql } = await prepared();
  const ordered = await subscribe(sql, ['record_created', 'record_updated'], { ordered: true });
  await sql`alter table t rename status to state`;
  await sql`insert into t (id, n) values (1, 1)`;
  await sql`alter table t rename state to status`;
  await sql`update t set n = 2`;
  await sql`insert into t (id, n) values (2, 1)`;
  await route(sql);
  t.match([...(await unrouted(sql))], [{ endpoint_id: '', record_id: '1' }]);
  t.strictSame(
    (await queued(sql, ordered)).map(({ what, waits }) => [what, waits]),
    [
      ['record_updated 1', true],
      ['record_created 2', false],
    ],
  );
  await sql`alter table t rename status to state`;
  await sql`select collecta.attach_module('t', 't', status_column => 'state')`;
  await sql`select collecta.route_again()`;
  await takeBack(sql);
  t.strictSame(
    (await queued(sql, ordered)).map(({ what, waits }) => [what, waits]),
    [
      ['record_created 1', false],
      ['record_updated 1', true],
      ['record_created 2', false],
    ],
  );
  t.strictSame(brief(await deliver(sql)).sort(), ['created 1', 'created 2']);
  t.strictSame(brief(await deliver(sql)), ['updated 1']);
});

t.test('records of two modules with the same key do not hold back each other', async t => {
  const { sql } =
    await prepared(`create table a (id int primary key, ok int); create table b (id int primary key, ok boolean);
    select collecta.attach_module('a', 'a'), collecta.attach_module('b', 'b')`);
  const ordered = await subscribe(sql, ['record_created', 'record_updated'], { ordered: true, filter: '$.record.ok' });
  await sql.unsafe(
    'insert into a values (1, 7); insert into b values (1, true); update b set ok = true where id = 1; ' +
      'insert into b values (2, true)',
  );
  await route(sql);
  t.match([...(await unrouted(sql))], [{ module: 'a', record_id: '1' }]);
  t.strictSame(
    (await queued(sql, ordered)).map(({ what, waits }) => [what, waits]),
    [
      ['record_created 1', false],
      ['record_created 2', false],
    ],
  );
  await sql`insert into a values (3, 7)`;
  await sql`insert into b values (3, true)`;
  await sql`update b set id = 4 where id = 3`;
  await route(sql);
  t.strictSame(brief(await deliver(sql)).sort(), ['created 1', 'created 2', 'created 3', 'created 4']);
});

t.test('a detached and forgotten module version is set aside, not lost', async t => {
  const { sql } = await prepared();
  await subscribe(sql);
  await sql`insert into t (id) values (1)`;
  await sql`alter table collecta.module_versions disable trigger all`;
  await sql`delete from collecta.module_versions`;
  t.strictSame(await route(sql), []);
  t.match([...(await unrouted(sql))], [{ endpoint_id: '', reason: /version/ }]);
});
