import t from 'tap';
import {
  allEvents,
  brief,
  claimBySql,
  deliver,
  record,
  refusal,
  refuses,
  route,
  subscribe,
} from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';

const { database, connect } = await useServer();
const table = "create table t (id int primary key, n int); select collecta.attach_module('t', 't')";
async function prepared(ddl = table) {
  const made = await database();
  await made.sql.unsafe(ddl);
  return made;
}
const create = (sql: Sql, options: Record<string, unknown>) => subscribe(sql, ['record_created'], options);
const endpoint = async (sql: Sql, id: string) =>
  (await sql`select * from collecta.endpoints where endpoint_id = ${id}`)[0]!;
const failingFor = (sql: Sql, id: string, time: string) => sql`
  insert into collecta.endpoint_flow (endpoint_id, failing_since) values (${id}, now() - ${time}::interval)
  on conflict on constraint endpoint_flow_pkey do update set failing_since = excluded.failing_since`;
const queue = async (sql: Sql, id: string) => [
  ...(await sql`
  select event_id, attempt, replay_of, due_at <= now() as due, due_at = 'infinity' as waits from collecta.delivery_queue
    where endpoint_id = ${id} order by change_id, position, delivery_id`),
];

t.test('invalid endpoint options are refused, each with a hint', async t => {
  const { sql } = await prepared();
  const undone = new Error('undone');
  /** The hint is a statement that runs as it stands. */
  const refusesAndHelps = async (...[t, statement, code, message]: Parameters<typeof refuses>) => {
    const { hint = '' } = (await refuses(t, statement, code, message)) ?? {};
    const run = sql.begin(async tx => {
      await tx.unsafe(hint);
      throw undone;
    });
    await t.rejects(run, undone, `${message}: ${hint}`);
  };
  const good = [
    'https://example.com',
    'http://example.com:8080/a/b?c=d',
    'https://[2001:db8::1]:443/x',
    'https://bücher.example/',
    'https://example.com/a@b',
    'http://127.0.0.1/',
    `https://example.com/${'x'.repeat(2028)}`,
  ];
  for (const url of good) t.ok(await create(sql, { url }), `${url.slice(0, 40)} is one`);
  const urls: (string | null)[] = [
    null,
    '',
    'example.com',
    'ftp://example.com',
    'HTTPS://example.com',
    'https://',
    'https:///path',
    'https://?x',
    'https://user@example.com',
    'https://user:pw@example.com/',
    'https://example.com/#here',
    'https://exa mple.com',
    'https://example.com/\n',
    'https://example.com\\@evil',
    'https://example.com:99999/',
    'https://example.com:0x50/',
    'https://example.com:/:',
    'https://[::1',
    'https://exam%70le.com/',
    'https://<host>/',
    ' https://example.com',
    `https://example.com/${'x'.repeat(2048)}`,
    'javascript:alert(1)',
  ];
  for (const url of urls)
    await refusesAndHelps(t, create(sql, { url }), 'CW011', `URL ${JSON.stringify(url)?.slice(0, 40)}`);
  const { badPorts } = (await import('undici/lib/web/fetch/constants.js' as string)).default;
  t.ok(badPorts.length > 80);
  for (const port of badPorts)
    await refusesAndHelps(t, create(sql, { url: `https://example.com:${port}/x` }), 'CW011', `port ${port}`);

  for (const events of [null, [], ['nope'], ['record_created', null], ['RECORD_CREATED'], ['test']])
    await refusesAndHelps(t, create(sql, { events }), 'CW012', `events ${JSON.stringify(events)}`);
  for (const modules of [[], ['nope'], ['t', null], ['T']])
    await refusesAndHelps(t, create(sql, { modules }), 'CW013', `modules ${JSON.stringify(modules)}`);
  for (const secret of ['', 'whsec_', 'whsec_not base64', 'whsec_abcde', 'whsec_YWJj=a', 'a\nb', 'x'.repeat(513)])
    if (secret !== 'whsec_')
      await refusesAndHelps(t, create(sql, { secret }), 'CW014', `secret ${JSON.stringify(secret).slice(0, 30)}`);
  for (const filter of ['$.', 'n > 1', '$.record.n >', '{}'])
    await refusesAndHelps(t, create(sql, { filter }), 'CW015', `filter ${filter}`);
  const wrong: Record<string, unknown>[] = [
    { payload_role: 'no_such_role' },
    ...[
      'Host',
      'content-type',
      'Content-Length',
      'transfer-encoding',
      'Connection',
      'keep-alive',
      'TE',
      'trailer',
      'upgrade',
      'expect',
      'proxy-authorization',
      'webhook-id',
      'Webhook-Signature',
      'X-Webhook-Signature',
      'accept-encoding',
      'user-agent',
      '',
      'a b',
      'a:b',
      'é',
      'a\r\nb',
    ].map(name => ({ headers: JSON.stringify({ [name]: 'x' }) })),
    ...['a\r\nb: c', 'a\nb', 'é', '\u0001', 'x'.repeat(4097)].map(value => ({
      headers: JSON.stringify({ 'x-a': value }),
    })),
    ...['null', '[]', '"x"', '{"x-a": 1}', '{"x-a": null}', '{"x-a": {}}'].map(headers => ({ headers })),
    { headers: null },
  ];
  for (const options of wrong) {
    const { headers, ...rest } = options;
    const statement =
      'headers' in options
        ? sql`select collecta.create_endpoint('https://example.com', '{record_created}',
          headers => ${headers as string | null}::text::jsonb)`
        : create(sql, rest);
    await refusesAndHelps(t, statement, 'CW016', JSON.stringify(options).slice(0, 60));
  }
  for (const options of [
    { retry_max: -1 },
    { retry_max: 21 },
    { retry_base: '0 s' },
    { retry_base: '2 days' },
    { max_in_flight: 0 },
    { max_in_flight: 10_001 },
    { max_per_second: 0 },
    { max_per_second: 10_001 },
  ])
    await refusesAndHelps(t, create(sql, options), 'CW016', JSON.stringify(options));
  t.equal((await sql`select from collecta.endpoints`).length, good.length, 'nothing of it was kept');

  for (const name of [
    'pause_endpoint',
    'resume_endpoint',
    'rotate_secret',
    'send_test_event',
    'delete_endpoint',
    'update_endpoint',
  ])
    await refusesAndHelps(t, sql.unsafe(`select collecta.${name}('ep_nope')`), 'CW010', `${name} of none`);
  await refusesAndHelps(t, sql`select collecta.pause_endpoint(null)`, 'CW010', 'of null');
  await refusesAndHelps(t, sql`select collecta.replay_delivery('dlv_nope')`, 'CW020', 'replay of none');
  const id = await create(sql, {});
  const changes: [string, string][] = [
    ["url => 'nope'", 'CW011'],
    ["events => '{}'", 'CW012'],
    ["modules => '{}'", 'CW013'],
    ["filter => '$.'", 'CW015'],
    ["payload_role => 'no_such_role'", 'CW016'],
    [`headers => '{"host": "x"}'`, 'CW016'],
  ];
  for (const [change, code] of changes)
    await refusesAndHelps(
      t,
      sql.unsafe(`select collecta.update_endpoint('${id}', ${change})`),
      code,
      `update: ${change}`,
    );
  for (const overlap of ['-1 s', '91 days', null])
    await refusesAndHelps(
      t,
      sql`select collecta.rotate_secret(${id}, ${overlap}::interval)`,
      'CW016',
      `overlap ${overlap}`,
    );
});

t.test('create_endpoint returns the id and the secret, and names are unique', async t => {
  const { sql } = await prepared();
  const [made] = await sql`select * from collecta.create_endpoint('https://example.com/a', '{record_created}')`;
  t.strictSame(Object.keys(made!), ['endpoint_id', 'secret']);
  t.match(made!.secret, /^whsec_[A-Za-z0-9+/]{43}=$/, 'a secret of 32 bytes is generated');
  const [given] =
    await sql`select * from collecta.create_endpoint('https://example.com/a', '{record_created}', secret => 'mine')`;
  t.equal(given!.secret, 'mine');
  t.not(given!.endpoint_id, made!.endpoint_id, 'without a name each call makes one');

  const named = (url: string, rest = '') =>
    sql.unsafe(`select * from collecta.create_endpoint('${url}', '{record_created}', name => 'erp'${rest})`);
  const [first] = await named('https://example.com/1', ", filter => '$.record.n > 1', ordered => true, retry_max => 1");
  await sql`select collecta.pause_endpoint(${first!.endpoint_id})`;
  const [second] = await named('https://example.com/2');
  t.strictSame(second, first, 'the same name: the same endpoint, the same secret');
  t.match(
    await endpoint(sql, first!.endpoint_id),
    { url: 'https://example.com/2', filter: null, ordered: false, retry_max: 5, state: 'paused' },
    'updated to what the call says',
  );
  const [third] = await named('https://example.com/2', ", secret => 'other'");
  t.strictSame(third, { endpoint_id: first!.endpoint_id, secret: 'other' });
  await sql`select collecta.delete_endpoint(${first!.endpoint_id})`;
  const [fourth] = await named('https://example.com/3');
  t.not(fourth!.endpoint_id, first!.endpoint_id, 'ids are never used again');
});

t.test('update_endpoint changes the given options and leaves those that are null', async t => {
  const { sql } = await prepared();
  const id = await subscribe(sql, ['record_created'], {
    modules: ['t'],
    filter: '$.record.n > 1',
    scope: 'acme',
    payload_role: 'postgres',
    headers: { 'x-a': 'b' },
    retry_max: 2,
  });
  const before = await endpoint(sql, id);
  await sql`select collecta.update_endpoint(${id})`;
  t.strictSame(await endpoint(sql, id), before, 'without arguments nothing changes');
  await sql`select collecta.update_endpoint(${id}, url => 'https://example.com/new', ordered => true,
    max_in_flight => 7)`;
  t.strictSame(await endpoint(sql, id), { ...before, url: 'https://example.com/new', ordered: true, max_in_flight: 7 });
  await sql`select collecta.update_endpoint(${id}, filter => '', scope => '', payload_role => '', all_modules => true)`;
  t.match(await endpoint(sql, id), { filter: null, scope: null, payload_role: '', modules: null });
  t.match(
    [...(await sql`select module_id, event, scope from collecta.subscriptions`)],
    [{ event: 'record_created', scope: null }],
  );
  await sql`select collecta.update_endpoint(${id}, events => '{record_deleted}')`;
  await sql.unsafe('insert into t values (1, 2); delete from t');
  t.strictSame(brief(await route(sql)), ['deleted 1']);
});

t.test('rotate_secret keeps the old secret valid for the overlap', async t => {
  const { sql } = await prepared();
  const [made] = await sql`select * from collecta.create_endpoint('https://example.com/a', '{record_created}')`;
  const id = made!.endpoint_id;
  const secrets = async () => {
    await sql`insert into t select coalesce(max(id), 0) + 1 from t`;
    return (await claimBySql(sql)).endpoints[0]!.secrets;
  };
  const [{ fresh }] = (await sql`select collecta.rotate_secret(${id}) as fresh`) as unknown as [{ fresh: string }];
  t.match(fresh, /^whsec_[A-Za-z0-9+/]{43}=$/);
  t.strictSame(await secrets(), [made!.secret, fresh], 'both during the overlap, the old one first');
  await sql`update collecta.endpoint_secrets set previous_until = now() - interval '1 s'`;
  t.strictSame(await secrets(), [fresh]);
  const [{ leaked }] = (await sql`select collecta.rotate_secret(${id}, '0') as leaked`) as unknown as [
    { leaked: string },
  ];
  t.strictSame(await secrets(), [leaked], 'no overlap after a leak');
});

t.test('an endpoint can be paused, resumed and deleted', async t => {
  const { sql } = await prepared();
  const id = await create(sql, {});
  await sql`select collecta.pause_endpoint(${id}, 'maintenance')`;
  t.match(
    [...(await sql`select problem, detail, hint from collecta.health where subject = ${id}`)],
    [{ problem: 'endpoint is paused', detail: 'maintenance', hint: /resume_endpoint/ }],
  );
  await sql`insert into t values (1)`;
  t.strictSame(await deliver(sql), [], 'paused: nothing is claimed');
  t.equal((await queue(sql, id)).length, 1, 'and nothing dropped');
  await failingFor(sql, id, '1 day');
  await sql`select collecta.resume_endpoint(${id})`;
  t.match(await endpoint(sql, id), { state: 'active', paused_reason: null });
  t.match([...(await sql`select failing_since from collecta.endpoint_flow`)], [{ failing_since: null }]);
  t.strictSame(brief(await deliver(sql)), ['created 1']);

  await sql`insert into t values (2), (3)`;
  const { deliveries } = await claimBySql(sql, { batch: 1 });
  await sql`select collecta.delete_endpoint(${id})`;
  t.equal((await queue(sql, id)).length, 1, 'what is in flight finishes');
  t.equal(await record(sql, deliveries, 'failed'), 1);
  t.equal((await queue(sql, id)).length, 0, 'and is not tried again');
  t.strictSame(
    (await sql`select outcome from collecta.webhook_deliveries where endpoint_id = ${id} order by started_at`).map(
      row => row.outcome,
    ),
    ['delivered', 'exhausted'],
    'its history stays',
  );
  t.equal((await sql`select from collecta.endpoint_secrets`).length, 0, 'its secret is gone');
  await refuses(t, sql`select collecta.resume_endpoint(${id})`, 'CW010', 'deleted');
  const [{ id: delivery }] = (await sql`select id from collecta.webhook_deliveries limit 1`) as unknown as [
    { id: string },
  ];
  await refuses(t, sql`select collecta.replay_delivery(${delivery})`, 'CW010', 'a replay to a deleted endpoint');
});

t.test('replay_delivery sends an event again', async t => {
  const { sql } = await prepared();
  const id = await create(sql, {});
  await sql`insert into t values (1)`;
  await deliver(sql);
  const [first] = await sql`select * from collecta.webhook_deliveries`;
  t.equal(
    (await sql`select collecta.replay_delivery(${first!.id}) as event`)[0]!.event,
    first!.event_id,
    "returns the event's id",
  );
  t.match(await queue(sql, id), [{ event_id: first!.event_id, attempt: 0, replay_of: first!.id, due: true }]);
  await sql`select collecta.replay_delivery(${first!.id})`;
  t.equal((await queue(sql, id)).length, 1, 'twice asked, once queued');
  await deliver(sql);
  const [, second] = await sql`select * from collecta.webhook_deliveries order by started_at`;
  t.match(
    second,
    { event_id: first!.event_id, attempt: 1, replay_of: first!.id, request_body: first!.request_body },
    'the same bytes, attempts from 1',
  );

  await sql`insert into t values (2)`;
  await deliver(sql, 'failed');
  t.match(await queue(sql, id), [{ attempt: 1, due: false }], 'one that is to be tried again');
  const [failed] = await sql`select id from collecta.webhook_deliveries where outcome = 'failed'`;
  await sql`select collecta.replay_delivery(${failed!.id})`;
  t.match(
    await queue(sql, id),
    [{ attempt: 1, due: true, replay_of: null }],
    'one delivery is due now, and no second one',
  );

  const ordered = await create(sql, { ordered: true, events: ['record_created', 'record_updated'] });
  await sql.unsafe('insert into t values (5, 1); update t set n = 2 where id = 5');
  await deliver(sql);
  const [done] = await sql`select id from collecta.webhook_deliveries where endpoint_id = ${ordered}`;
  await sql`select from collecta.claim_deliveries(100)`;
  await sql`select collecta.replay_delivery(${done!.id})`;
  t.match(
    await queue(sql, ordered),
    [{ waits: true }, { waits: false }],
    'ordered: it waits for what is being sent of its record',
  );
});

t.test('send_test_event sends an event to one endpoint', async t => {
  const { sql } = await prepared();
  const id = await create(sql, {});
  const other = await create(sql, {});
  const [{ event }] = (await sql`select collecta.send_test_event(${id}) as event`) as unknown as [{ event: string }];
  t.match(event, /^evt_/);
  t.equal((await queue(sql, other)).length, 0);
  const [body] = await deliver(sql);
  t.match(body, { id: event, event: 'test', record_id: null });
  t.match(
    [...(await sql`select event_id, event, endpoint_id, outcome from collecta.webhook_deliveries`)],
    [{ event_id: event, event: 'test', endpoint_id: id, outcome: 'delivered' }],
  );
});

t.test('new_id returns unique ids that sort by time', async t => {
  const { sql } = await prepared();
  const ids = (await sql`select collecta.new_id('rec') as id from generate_series(1, 1000)`).map(
    ({ id }) => id as string,
  );
  t.equal(new Set(ids).size, 1000);
  for (const id of ids.slice(0, 20)) t.match(id, /^rec_[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  const at = Number.parseInt(ids[0]!.slice(4, 16), 16);
  t.ok(Math.abs(at - Date.now()) < 60_000, 'begins with the milliseconds');
  const [later] = await sql`select collecta.new_id('rec') as id from pg_sleep(0.002)`;
  t.ok(later!.id > ids[0]!, 'and sorts by time');
});

t.test('maintain creates partitions, applies the retention and pauses failing endpoints', async t => {
  const { sql, url } = await prepared();
  const id = await create(sql, {});
  const maintain = async () =>
    [...(await sql`select * from collecta.maintain()`)] as unknown as { done: string; subject: string }[];
  t.strictSame(await maintain(), [], 'the install made them');
  t.equal(
    (await sql`select from pg_inherits where inhparent = 'collecta.events'::regclass`).length,
    4,
    'today and three days ahead',
  );
  await sql`do $$ begin execute format('drop table collecta.%I, collecta.%I',
    to_char(now() at time zone 'UTC', '"events_"YYYYMMDD'), to_char(now() at time zone 'UTC',
    '"delivery_attempts_"YYYYMMDD')); end $$`;
  t.match(
    [...(await sql`select severity, hint from collecta.health where problem = 'partition is missing'`)],
    [{ severity: 'error', hint: /maintain/ }, {}],
  );
  t.equal((await maintain()).filter(({ done }) => done === 'made partition').length, 2);

  /** Creates the partitions of both tables for the day that was `days` days ago. */
  const old = (days: number) =>
    sql.unsafe(`do $$ declare day date := (now() at time zone 'UTC')::date - ${days}; parent text;
      begin foreach parent in array '{events,delivery_attempts}'::text[] loop
    execute format('create table collecta.%I partition of collecta.%I for values from (%L) to (%L)',
    parent || to_char(day, '_YYYYMMDD'), parent, day || ' 00:00+00', (day + 1) || ' 00:00+00'); end loop; end $$`);
  for (const days of [29, 31, 33]) await old(days);
  const momentOf = (days: number) =>
    sql`select (date_trunc('day', now() at time zone 'UTC') - make_interval(days => ${days}))
      at time zone 'UTC' + interval '1 hour' as at`;
  const at = (await momentOf(33))[0]!.at as Date;
  await sql`insert into collecta.events (event_id, routed_at, sequence, position, module, event, occurred_at, body)
    values ('evt_old', ${at}, 1, 0, 't', 'record_created', ${at}, '{}')`;
  await sql`insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, routed_at, due_at)
    values (1, 0, ${id}, 'evt_old', ${at}, 'infinity')`;
  const dropped = await maintain();
  t.equal(
    dropped.filter(({ done }) => done === 'dropped partition').length,
    2,
    'past retention: dropped; within it or with a queued event: not',
  );
  t.equal((await sql`select from collecta.events where event_id = 'evt_old'`).length, 1);
  t.match(
    [...(await sql`select severity, detail from collecta.health where problem = 'partition is kept'`)],
    [{ severity: 'warning' }, {}],
    'and health says so',
  );
  const reader = connect(url, { max: 1 });
  await reader`begin`;
  await reader`select from collecta.events`;
  await sql`delete from collecta.delivery_queue`;
  t.match(
    (await maintain()).map(({ done }) => done).sort(),
    ['dropped partition', 'left for next time, somebody is reading it'],
    'a reader is not waited for',
  );
  await reader`commit`;
  t.match(await maintain(), [{ done: 'dropped partition' }]);
  t.equal((await sql`select from collecta.health where problem like 'partition%'`).length, 0);

  await failingFor(sql, id, '4 days');
  t.strictSame(await maintain(), []);
  t.match([...(await sql`select problem from collecta.health where subject = ${id}`)], [{ problem: 'endpoint fails' }]);
  await failingFor(sql, id, '6 days');
  t.match(await maintain(), [{ done: 'paused a failing endpoint', subject: id }]);
  t.match(await endpoint(sql, id), { state: 'paused', paused_reason: /without one success since/ });
  const [one, two] = [connect(url, { max: 1 }), connect(url, { max: 1 })];
  await one`begin`;
  await one`select from collecta.maintain()`;
  t.strictSame([...(await two`select * from collecta.maintain()`)], [], 'one at a time; the other does not wait');
  await one`rollback`;
});

t.test('maintain deletes old module versions and muted changes that nobody needs', async t => {
  const { sql } = await prepared();
  await create(sql, {});
  await sql`insert into t values (1)`;
  await sql`select collecta.attach_module('t', 't')`;
  await sql`update collecta.module_versions set made_at = now() - interval '40 days'`;
  await sql`select from collecta.maintain()`;
  t.equal((await sql`select from collecta.module_versions`).length, 2, 'an outbox row still names the old one');
  await route(sql);
  await sql`select from collecta.maintain()`;
  t.equal((await sql`select from collecta.module_versions`).length, 1);
  await sql`select collecta.detach_module('t')`;
  await sql`select from collecta.maintain()`;
  t.equal(
    (await sql`select from collecta.module_versions`).length + (await sql`select from collecta.subscriptions`).length,
    0,
  );
});

t.test('settings outside their limits are refused', async t => {
  const { sql } = await prepared();
  for (const change of [
    "lease = '30 s'",
    "retention = '1 hour'",
    'max_record_bytes = 1',
    'max_truncate_records = -1',
    "pause_after = '1 minute'",
  ])
    t.equal((await refusal(sql.unsafe(`update collecta.settings set ${change}`)))?.code, '23514', change);
  t.equal((await refusal(sql`insert into collecta.settings (singleton) values (false)`))?.code, '23514', 'one row');
});

t.test('webhook_deliveries shows an attempt with all its details', async t => {
  const { sql } = await prepared();
  const id = await subscribe(sql, allEvents);
  await sql`insert into t values (1, 1)`;
  await deliver(sql, 'failed');
  const [row] = await sql`select * from collecta.webhook_deliveries`;
  t.match(row, {
    endpoint_id: id,
    module: 't',
    event: 'record_created',
    record_id: '1',
    attempt: 1,
    url: 'https://example.com/hook',
    outcome: 'failed',
    next_attempt_at: Date,
    replay_of: null,
  });
  t.equal(JSON.parse(row!.request_body).id, row!.event_id);
  t.ok(Math.abs(row!.next_attempt_at - row!.finished_at - 60_000) < 5, '60 s after the failed attempt ended');
  for (const name of [
    'request_headers',
    'response_status',
    'response_headers',
    'response_body',
    'error',
    'started_at',
    'duration_ms',
  ])
    t.ok(name in row!, name);
});
