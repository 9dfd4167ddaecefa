import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { openPool, type Pool } from '../../src/database/pool.ts';
import { createClaimer } from '../../src/outbound/claim.ts';
import { allEvents, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';

const { database, connect } = await useServer();
const table = `create table t (id int primary key, n int, status text, tenant text, data jsonb, touched int, secret text);
  select collecta.attach_module('t', 't', status_column => 'status', custom_data_column => 'data', scope_column => 'tenant', ignore_columns => '{touched}');
  insert into t (id, n, status, tenant, data) values (1, 1, 'open', 'a', '{"a": 1}'), (2, 2, 'open', 'b', null)`;

/** All that a claim gives and leaves, without what depends on when it was made. */
async function outcome(t: Test, sql: Sql, atOnce: number) {
  let seen: { short: boolean; what: unknown } | undefined;
  const forgotten = new Error('forgotten');
  const claiming = sql.begin(async tx => {
    const rows = await tx`
      select * from collecta.claim_deliveries(100, 250, 0, '', '{}', 100, null, null, null, 0, ${atOnce})`;
    const status = rows.find(row => row.routed !== null)!;
    const deliveries = rows
      .filter(row => row.delivery_id !== null)
      .map(({ attempt, endpoint_id, event_id, body, ordered }) => ({ attempt, endpoint_id, event_id, body, ordered }));
    deliveries.sort((a, b) => (a.event_id + a.endpoint_id < b.event_id + b.endpoint_id ? -1 : 1));
    const endpoints = new Map(
      (status.endpoints ?? []).flatMap((each: { endpoint_id: string } | null) =>
        each ? [[each.endpoint_id, each]] : [],
      ),
    );
    const [written] = await tx`
      select
        (select json_agg(to_jsonb(e) - 'routed_at' order by change_id, position, payload_role) from collecta.events e) as events,
        (select json_agg(to_jsonb(q) - '{delivery_id,routed_at,due_at,leased_until}'::text[] order by change_id, position, endpoint_id) from collecta.delivery_queue q) as queue,
        (select count(*) from collecta.delivery_queue q where q.due_at <= now() + interval '1 s'
          and q.leased_until between now() + interval '50 s' and now() + interval '70 s') as leased,
        (select count(*) from collecta.delivery_queue q join collecta.events e using (event_id, payload_role, routed_at)) as with_event,
        (select json_agg(o.change_id) from collecta.outbox o) as left_behind,
        (select json_agg(to_jsonb(u) - 'set_aside_at' order by change_id) from collecta.unrouted u) as unrouted`;
    const [recorded] = await tx`
      select collecta.record_deliveries(array_agg(x.id), array_agg(x.lease), array_agg('delivered'::text), array_agg('https://example.com'::text)) as recorded
      from json_to_recordset(${JSON.stringify(rows.filter(row => row.delivery_id !== null).map(row => ({ id: row.delivery_id, lease: row.lease })))}::text::json) x (id bigint, lease bigint)`;
    seen = {
      short: status.snapshot === null,
      what: {
        deliveries,
        endpoints: deliveries.map(each => endpoints.get(each.endpoint_id)),
        next_change: status.next_change,
        ...written,
        recorded: recorded!.recorded,
      },
    };
    throw forgotten;
  });
  await t.rejects(claiming, forgotten);
  return seen!;
}

const endpoint = { of: allEvents, options: {} as Record<string, unknown> };
const cases: Record<
  string,
  { short: boolean; changes: string; endpoints?: Partial<typeof endpoint>[]; setUp?: string }
> = {
  'an INSERT': { short: true, changes: `insert into t values (3, 3, 'new', 'a', '{"b": "ü\\u0001"}')` },
  'an UPDATE': { short: true, changes: `update t set n = 5 where id = 1` },
  'of status': { short: true, changes: `update t set status = 'closed' where id = 1` },
  'from null': { short: true, changes: `update t set data = '{}' where id = 2` },
  'of all three, to two endpoints': {
    short: true,
    changes: `update t set n = 7, status = null, data = null where id = 1`,
    endpoints: [{}, {}],
  },
  'a DELETE': { short: true, changes: `delete from t where id = 1` },
  'two rows': { short: true, changes: `delete from t` },
  'some changes, one record twice': {
    short: true,
    changes: `insert into t values (3); update t set n = 1 where id = 3; update t set n = 2 where id = 3; delete from t where id = 3`,
  },
  'a transaction with a context': {
    short: true,
    changes: `begin; set local collecta.context = '{"user": "maria"}'; update t set n = 8 where id = 1; commit`,
  },
  'one kind of event only': {
    short: true,
    changes: `update t set n = 7, status = 'x' where id = 1; insert into t values (3)`,
    endpoints: [{ of: ['status_change'] }, { of: ['record_created'] }],
  },
  'what is no event, and what is': { short: true, changes: `update t set touched = 1; insert into t values (3)` },
  'what is no event': { short: false, changes: `update t set touched = 1` },
  nothing: { short: false, changes: '' },
  'secrets in rotation, and headers': {
    short: true,
    changes: `insert into t values (3)`,
    endpoints: [{ options: { headers: { 'X-Tenant': 'a' } } }],
    setUp: 'select collecta.rotate_secret(endpoint_id) from collecta.endpoints',
  },
  'a key of two columns': {
    short: true,
    changes: `insert into pair values ('x', 1); update pair set n = 2; delete from pair`,
    setUp: `create table pair (a text, b int, n int, primary key (a, b)); select collecta.attach_module('pair', 'pair')`,
  },
  'eight deliveries': { short: true, changes: `insert into t select generate_series(11, 18)` },
  'more of them': { short: false, changes: `insert into t select generate_series(11, 19)` },
  'more endpoints': {
    short: false,
    changes: `insert into t values (3)`,
    endpoints: Array.from({ length: 9 }, () => ({})),
  },
  'a filter': {
    short: false,
    changes: `insert into t values (3); insert into t values (4)`,
    endpoints: [{}, { options: { filter: '$.record.id == 4' } }],
  },
  'its scope': { short: false, changes: `update t set n = 8`, endpoints: [{}, { options: { scope: 'a' } }] },
  'another’s scope': {
    short: false,
    changes: `insert into t (id, tenant) values (3, 'c')`,
    endpoints: [{ options: { scope: 'a' } }],
  },
  'a scope where there is none': {
    short: false,
    changes: `insert into u values (1)`,
    endpoints: [{ options: { scope: 'a' } }],
    setUp: `create table u (id int primary key); select collecta.attach_module('u', 'u')`,
  },
  'in order': { short: false, changes: `insert into t values (3)`, endpoints: [{}, { options: { ordered: true } }] },
  'a payload_role': {
    short: false,
    changes: `insert into t values (3)`,
    endpoints: [{ options: { payload_role: 'pg_read_all_data' } }],
  },
  'a paused endpoint': {
    short: false,
    changes: `insert into t values (3)`,
    endpoints: [{}, {}],
    setUp: `select collecta.pause_endpoint(min(endpoint_id)) from collecta.endpoints`,
  },
  'a deleted endpoint': {
    short: true,
    changes: `insert into t values (3)`,
    endpoints: [{}, {}],
    setUp: `select collecta.delete_endpoint(min(endpoint_id)) from collecta.endpoints`,
  },
  'a deleted secret': {
    short: false,
    changes: `insert into t values (3)`,
    setUp: `delete from collecta.endpoint_secrets`,
  },
  'little in flight': {
    short: false,
    changes: `insert into t values (3)`,
    endpoints: [{ options: { max_in_flight: 7 } }],
  },
  'an endpoint that came later': {
    short: false,
    changes: `insert into t values (3); select collecta.create_endpoint('https://example.com/late', '{record_created}')`,
  },
  'a changed key': { short: false, changes: `update t set id = 9 where id = 1` },
  'a trigger that changes its row again': {
    short: false,
    changes: `insert into t values (3)`,
    setUp: `create function again() returns trigger language plpgsql as $$ begin update t set n = 77 where id = new.id; return null; end $$;
      create trigger again after insert on t for each row execute function again()`,
  },
  'a TRUNCATE': { short: true, changes: `truncate t` },
  'a large TRUNCATE': {
    short: false,
    changes: `truncate t`,
    setUp: `update collecta.settings set max_truncate_records = 1`,
  },
  'a large record': {
    short: false,
    changes: `update t set secret = (select string_agg(md5(g::text), '') from generate_series(1, 60000) g) where id = 1`,
  },
  'a renamed column': {
    short: false,
    changes: `insert into t values (3); alter table t rename status to state; insert into t values (4)`,
  },
  'a forgotten version': {
    short: false,
    changes: `insert into t values (3); delete from collecta.module_versions`,
  },
  'what was muted': {
    short: false,
    changes: `begin; set local collecta.muted = on; update t set n = 8; commit; insert into t values (3)`,
  },
};
for (const [name, { short, changes, endpoints = [{}], setUp = '' }] of Object.entries(cases))
  t.test(`the short way and the other come to the same: ${name}`, async t => {
    const { sql, url } = await database();
    await sql.unsafe(table);
    for (const { of, options } of endpoints) await subscribe(sql, of ?? allEvents, options);
    await sql.unsafe(setUp);
    const writer = connect(url, { max: 1 });
    for (const statement of changes.split('; ')) await writer.unsafe(statement);
    const other = await outcome(t, sql, 0);
    const quick = await outcome(t, sql, 8);
    t.strictSame(quick.what, other.what);
    t.strictSame([other.short, quick.short], [false, short]);
  });

t.test('max_in_flight holds', async t => {
  const { sql } = await database();
  await sql.unsafe(table);
  await subscribe(sql, ['record_created'], { max_in_flight: 20 });
  const claimed: number[] = [];
  const short: boolean[] = [];
  for (let id = 11; id < 36; id++) {
    await sql`insert into t (id) values (${id})`;
    const rows = await sql`select * from collecta.claim_deliveries(100, at_once => 8)`;
    claimed.push(rows.filter(row => row.delivery_id !== null).length);
    short.push(rows.some(row => row.routed !== null && row.snapshot === null));
  }
  t.strictSame(
    claimed,
    Array.from({ length: 25 }, (_, i) => (i < 20 ? 1 : 0)),
  );
  t.strictSame(
    short,
    Array.from({ length: 25 }, (_, i) => i < 13),
  );
});

t.test('when a runner takes it', async t => {
  const { sql, url } = await database();
  await sql.unsafe(table);
  const endpoint = await subscribe(sql, ['record_created']);
  const pool = openPool(url, { max: 1 });
  t.teardown(() => pool.end({ timeout: 1 }));
  let asked: unknown;
  const observed = {
    within:
      (ms: number) =>
      (text: TemplateStringsArray, ...values: string[]) => {
        asked ??= values.at(-1);
        return pool.within(ms)(text, ...values);
      },
  } as unknown as Pool;
  const claim = createClaimer(observed, null);
  let id = 10;
  async function claimOne(
    hints: { changed?: boolean; due?: boolean; everything?: boolean },
    perEndpoint = 100,
    text = 'x',
  ) {
    await sql`insert into t (id, secret) values (${++id}, ${text})`;
    asked = undefined;
    const { deliveries } = await claim(100, perEndpoint, hints);
    return { asked, deliveries: deliveries.length };
  }
  t.strictSame(await claimOne({}), { asked: 0, deliveries: 1 }, 'nobody called');
  t.strictSame(await claimOne({}), { asked: 8, deliveries: 1 }, 'there was something just now');
  t.match(await claim(100, 100), { deliveries: [], drained: false }, 'nothing any more: what the other way found');
  for (let drained = false; !drained; ) ({ drained } = await claim(100, 100));
  t.strictSame(await claimOne({ changed: true }), { asked: 8, deliveries: 1 }, 'somebody called');
  t.strictSame(await claimOne({ changed: true, due: true }), { asked: 0, deliveries: 1 });
  t.strictSame(await claimOne({ changed: true, everything: true }), { asked: 0, deliveries: 1 });
  t.strictSame(await claimOne({ changed: true }, 7), { asked: 0, deliveries: 1 }, 'no room for as many');

  // What is due already is not passed over for long.
  await sql`update collecta.delivery_queue set leased_until = null`;
  t.strictSame(await claimOne({ changed: true }), { asked: 8, deliveries: 1 }, 'for a moment');
  await pause(60);
  t.strictSame(await claimOne({ changed: true }), { asked: 0, deliveries: 7 });
  t.strictSame(await claimOne({ changed: true }), { asked: 8, deliveries: 1 });

  await sql`delete from collecta.delivery_queue`;
  await sql`insert into t (id) select generate_series(1001, 1250)`;
  const cut = await claim(5, 100);
  t.match([cut.deliveries.length, cut.routed, cut.full], [5, 250, true]);
  t.strictSame(await claimOne({ changed: true }), { asked: 0, deliveries: 45 }, 'more was due, up to max_in_flight');
  asked = undefined;
  t.match(await claim(100, 100, { changed: true }), { deliveries: [] });
  t.equal(asked, 0, 'and still is');
  await sql`delete from collecta.delivery_queue`;
  await claim(100, 100);

  await sql`select collecta.update_endpoint(${endpoint}, filter => '$.record.id > 0')`;
  t.strictSame(await claimOne({ changed: true }), { asked: 8, deliveries: 1 }, 'it leads nowhere');
  t.strictSame(await claimOne({ changed: true }), { asked: 0, deliveries: 1 }, 'not tried again');
  await pause(1_010);
  t.strictSame(await claimOne({ changed: true }), { asked: 8, deliveries: 1 }, 'for a second');

  await sql`select collecta.update_endpoint(${endpoint}, filter => '')`;
  await sql`alter table collecta.events add constraint refused check (body not like '%refuse me%')`;
  await pause(1_010);
  t.strictSame(await claimOne({ changed: true }, 100, 'refuse me'), { asked: 8, deliveries: 0 }, 'what fails');
  t.match(await sql`select reason from collecta.unrouted`, [{ reason: /"refused"/ }], 'is set aside by the other way');
  t.match(await claimOne({ changed: true }), { deliveries: 1 });
});
