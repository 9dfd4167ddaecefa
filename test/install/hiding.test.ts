import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { tail } from '../../src/operations/tail.ts';
import { claimBySql, record } from '../support/changes.ts';
import { useServer } from '../support/database.ts';
import { allThatIsRead, allThatIsShown, whereIs } from '../support/reading.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';

const { server, admin, connect, database } = await useServer();

const roles = ['collecta_reader', 'collecta_operator'];
await database(); // creates the roles
for (const role of roles) await admin.unsafe(`create role only_${role} login password 'x' in role ${role}`);

t.test('roles subject to row security can read the row’s values nowhere', async t => {
  const target = await database();
  const { name, sql } = target;
  const make = (table: string, word: string) =>
    sql.unsafe(`
    create table ${table} (id text primary key, tenant text not null default 'none', name text);
    select collecta.attach_module('${table}', '${table}', scope_column => 'tenant', on_truncate => 'ignore');
    select set_config('collecta.context', '{"note": "${word}-context"}', true);
    insert into ${table} values ('${word}-id', '${word}-scope', '${word}-value');
    select set_config('collecta.muted', 'on', true);
    update ${table} set name = '${word}-muted';
    select 1`);
  const [{ endpoint_id: endpoint } = {}] = await sql`
    select endpoint_id from collecta.create_endpoint('https://example.com/', '{record_created,record_updated}',
      ordered => true)`;
  await make('plain', 'public');
  await make('secured', 'classified');
  // Row security is enabled after the changes were captured.
  await sql.unsafe(`alter table secured enable row level security; create policy nobody on secured using (false)`);
  const [made] = await sql`
    select * from collecta.create_inbound_endpoint('plain', '{"$.id": "id", "$.name": "name"}', '{id}')`;
  const inbound = made!.inbound_endpoint_id as string;
  // The endpoint is moved to the module by hand: create_inbound_endpoint would refuse it, because the policies withhold
  // from the writer the rights that it needs.
  await sql`update collecta.inbound_endpoints set module = 'secured' where inbound_endpoint_id = ${inbound}`;
  await sql`
    insert into collecta.inbound_requests
      (request_id, inbound_endpoint_id, received_at, state, record_id, error, reason, results, mapping_version, body)
    values ('req_1', ${inbound}, now(), 'failed', 'classified-id', 'classified-error', 'classified-reason',
      '"classified-result"', 1, 'classified-body')`;

  const { deliveries } = await claimBySql(sql);
  t.equal(deliveries.length, 2);
  for (const delivery of deliveries) {
    const word = delivery.body.includes('classified') ? 'classified' : 'public';
    await record(sql, [delivery], 'exhausted', {
      status: 500,
      error: `${word}-error`,
      response_headers: { 'x-echo': `${word}-header` },
      response_body: `${word}-answer`,
    });
  }
  await sql.unsafe(`
    insert into collecta.unrouted (change_id, module, record_id, reason, old, context) values
      (1, 'secured', 'classified-id', 'classified-reason', '"classified-old"', 'classified-context'),
      (3, 'plain', 'public-id', 'public-reason', '"public-old"', 'public-context')`);
  // One change is queued for an ordered endpoint, and another is captured but not routed.
  await sql.unsafe(`insert into secured values ('classified-queued', 'classified-scope', 'classified-value')`);
  await claimBySql(sql, { batch: 1 });
  await sql.unsafe(`
    insert into collecta.routing_trouble (sqlstate, reason) values ('22000', 'classified-reason')
    on conflict (singleton) do update set reason = excluded.reason, seen_at = now();
    select set_config('collecta.context', '{"note": "classified-context"}', true);
    insert into secured values ('classified-captured', 'classified-scope', 'classified-value');
    analyze`);
  const keys = await sql`select record_key::text as key from collecta.delivery_queue where record_key is not null`;
  t.ok(keys.length > 0, 'a hash of a record is queued');
  const markers = ['classified', ...keys.map(({ key }) => key as string)];
  const attempts = await sql`select id, event_id from collecta.delivery_attempts order by id`;
  const ids = [endpoint, inbound, 'req_1', ...attempts.flatMap(({ id, event_id }) => [id, event_id])] as string[];
  const views = [
    '',
    'endpoints',
    'deliveries',
    'deliveries?outcome=exhausted',
    'tail',
    'modules',
    'inbound',
    'unrouted',
    'actions',
  ];
  const paths = [
    ...views,
    `endpoints/${endpoint}`,
    'inbound/req_1',
    `act/replay-given-up?endpoint=${endpoint}`,
    'act/route-again',
    `act/retry-inbound?id=${inbound}`,
    ...attempts.flatMap(({ id, event_id }) => [`deliveries/${id}`, `deliveries?id=${event_id}`, `act/replay?id=${id}`]),
  ];

  const everywhere = whereIs(await allThatIsRead(sql, ids), markers);
  for (const column of [
    'events.body', 'events.record_id', 'events.scope', 'webhook_deliveries.record_id', 'webhook_deliveries.scope',
    'webhook_deliveries.response_body', 'webhook_deliveries.response_headers', 'webhook_deliveries.error',
    'delivery_attempts.response_body', 'delivery_attempts.response_headers', 'delivery_attempts.error',
    'undelivered.record_id', 'undelivered.error', 'unrouted.reason', 'unrouted.record_id', 'delivery_queue.record_key',
    'muted_changes.context', 'outbox.context', 'outbox.new', 'inbound_requests.body', 'routing_trouble.reason',
  ]) // biome-ignore format: a list
    t.ok(everywhere.includes(`collecta.${column}`), `a superuser reads it in ${column}`);

  const check = async (when: string, console = false) => {
    for (const role of roles) {
      const session = connect(server.url(name).replace('postgres:postgres@', `only_${role}:x@`));
      const read = await allThatIsRead(session, ids);
      t.strictSame(whereIs(read, markers), [], `${role}, ${when}`);
      const open = whereIs(read, ['public-']);
      for (const column of [
        'events.body',
        'webhook_deliveries.response_body',
        'webhook_deliveries.record_id',
        'webhook_deliveries.error',
        'undelivered.error',
        'unrouted.reason',
        'muted_changes.context',
      ])
        t.ok(open.includes(`collecta.${column}`), `${role}, ${when}: another module's ${column} is shown`);
      // A function in a WHERE condition gets no more values than the result shows.
      await session.unsafe(`
        create function pg_temp.seen(value text) returns boolean language plpgsql cost 0.0001 as $$
        begin if value like 'classified%' then raise exception 'seen' using errcode = 'ZZ001'; end if; return true;
        end $$`);
      for (const [view, column] of [
        ['webhook_deliveries', 'record_id'],
        ['webhook_deliveries', 'request_body'],
        ['webhook_deliveries', 'response_body'],
        ['webhook_deliveries', 'error'],
        ['undelivered', 'record_id'],
        ['undelivered', 'error'],
        ['unrouted', 'reason'],
        ['events', 'body'],
      ])
        await session.unsafe(`select count(*) from collecta.${view} where pg_temp.seen(${column})`);
      t.match(
        [
          ...(await session`select attempt, outcome, response_status, error from collecta.webhook_deliveries
            where module is null`),
        ],
        [{ attempt: 1, outcome: 'exhausted', response_status: 500, error: 'hidden' }],
        `${role}, ${when}: that there was a delivery is shown`,
      );
      t.equal((await session`select from collecta.undelivered where module is null`).length, 1);
      if (console) {
        const shown = await allThatIsShown({ url: target.url, name: `only_${role}` }, paths, t);
        t.strictSame(whereIs(shown, markers), [], `${role}, ${when}, on the console`);
        for (const where of ['console deliveries', 'console unrouted', 'tail'])
          t.ok(whereIs(shown, ['public-']).includes(where), `${role}: ${where} shows the other module`);
      }
      await session.end();
    }
  };
  await check('while the table is there', true);
  t.match(
    [...(await sql`select collecta.replay_undelivered()::int as n`)],
    [{ n: 2 }],
    'what is hidden from readers is not hidden from our functions',
  );
  await sql`delete from collecta.delivery_queue where replay_of is not null`;
  await sql`alter table secured force row level security`;
  await check('forced');
  await sql`select * from collecta.maintain()`;
  await sql`alter table secured rename to moved`;
  await check('renamed');
  await sql`drop table moved`;
  await check('dropped', true);
  await sql`select collecta.detach_module('secured')`;
  await sql`delete from collecta.module_versions where slug = 'secured'`;
  await check('detached and forgotten');
  await sql`create table secured (id text primary key)`;
  await check('another table has its name');
  await sql`delete from collecta.module_tables where slug = 'secured'`;
  const session = connect(server.url(name).replace('postgres:postgres@', 'only_collecta_reader:x@'));
  t.ok(whereIs(await allThatIsRead(session, ids), markers).includes('collecta.events.body'), 'shown on demand');
});

t.test('row security counts whenever it was enabled, and also on a partition', async t => {
  const { name, sql } = await database();
  await sql.unsafe(`
    create table late (id int primary key);
    create table kept (id int primary key);
    create table split (id int primary key) partition by range (id);
    create table split_1 partition of split for values from (1) to (100);
    select collecta.attach_module(each, each, on_truncate => 'ignore') from unnest('{late,kept,split}'::text[]) each;
    select collecta.create_endpoint('https://example.com/', '{record_created}');
    insert into late values (1);
    insert into kept values (1);
    insert into split values (1)`);
  await claimBySql(sql);
  const session = connect(server.url(name).replace('postgres:postgres@', 'only_collecta_reader:x@'));
  const seen = async () => (await session`select module from collecta.events order by 1`).map(row => row.module);
  t.strictSame(await seen(), ['kept', 'late', 'split']);
  await sql`alter table split_1 enable row level security`;
  t.strictSame(await seen(), ['kept', 'late'], 'of a partition');
  await sql`select * from collecta.maintain()`;
  await sql`drop table split_1`;
  t.strictSame(await seen(), ['kept', 'late'], 'the partition is gone');
  await sql.unsafe(
    `alter table late enable row level security; select collecta.detach_module('late'); drop table late`,
  );
  t.strictSame(await seen(), ['kept'], 'seen at detaching');
  await sql.unsafe(`select collecta.detach_module('kept'); delete from collecta.module_versions`);
  t.strictSame(await seen(), ['kept']);
  await sql`alter table kept enable row level security`;
  t.strictSame(await seen(), [], 'after detaching');
  await sql`alter table kept disable row level security`;
  t.strictSame(await seen(), ['kept'], 'no longer');
  t.equal((await sql`select from collecta.events`).length, 3);
});

t.test('a table that got row security and was dropped before anybody looked stays hidden', async t => {
  const { name, sql, url } = await database();
  await sql.unsafe(`
    create table gone (id int primary key);
    create table other (id int primary key);
    select collecta.attach_module(each, each, on_truncate => 'ignore') from unnest('{gone,other}'::text[]) each;
    select collecta.create_endpoint('https://example.com/', '{record_created}');
    insert into gone values (1);
    insert into other values (1)`);
  await claimBySql(sql);
  const session = connect(server.url(name).replace('postgres:postgres@', 'only_collecta_reader:x@'));
  const seen = async () => (await session`select module from collecta.events order by 1`).map(row => row.module);
  t.strictSame(await seen(), ['gone', 'other']);
  await sql.unsafe('alter table gone enable row level security; drop table gone');
  t.strictSame(await seen(), ['other'], 'at once');
  await sql`select * from collecta.maintain()`;
  t.strictSame(await seen(), ['other'], 'after the next look');
  const notices: { message?: string; hint?: string }[] = [];
  const noticed = connect(url, { onnotice: notice => notices.push(notice) });
  await noticed`select collecta.detach_module('gone')`;
  await sql`delete from collecta.module_versions where slug = 'gone'`;
  t.strictSame(await seen(), ['other'], 'detached');
  const [notice] = notices.filter(({ message }) => /hidden from roles/.test(message ?? ''));
  await sql.unsafe(notice!.hint!.replace(/^.*?: /, ''));
  t.strictSame(await seen(), ['gone', 'other'], 'shown on demand');
  await sql.unsafe(`select collecta.detach_module('other'); drop table other`);
  t.strictSame(await seen(), ['gone', 'other'], 'row security of a detached table was looked at before');
});

t.test('views with a wrong owner show nothing to roles subject to row security', async t => {
  const { name, sql } = await database();
  await sql.unsafe(`
    create table secured (id int primary key);
    select collecta.attach_module('secured', 'secured', on_truncate => 'ignore');
    select collecta.create_endpoint('https://example.com/', '{record_created}');
    insert into secured values (1)`);
  const { deliveries } = await claimBySql(sql);
  await record(sql, deliveries);
  const session = connect(server.url(name).replace('postgres:postgres@', 'only_collecta_reader:x@'));
  const seen = async () => (await session`select from collecta.webhook_deliveries where record_id = '1'`).length;
  await sql`alter view collecta.webhook_deliveries owner to collecta_owner`;
  t.match([...(await sql`select problem from collecta.health`)], [{ problem: 'objects have the wrong owner' }]);
  t.equal(await seen(), 1, 'there is nothing to hide');
  await sql`alter table secured enable row level security`;
  t.equal(await seen(), 0);
  t.equal((await session`select from collecta.webhook_deliveries`).length, 0);
  t.equal((await sql`select from collecta.webhook_deliveries where record_id = '1'`).length, 1, 'a superuser sees it');
  await migrate(server.url(name));
  t.strictSame([...(await sql`select problem from collecta.health`)], []);
  t.equal((await session`select from collecta.webhook_deliveries`).length, 1);
  t.equal(await seen(), 0);
});

t.test('credentials that a receiver echoes are masked, and tail prints no control characters', async t => {
  const { url, sql } = await database();
  const receiver = await startReceiver();
  await sql.unsafe(`create table orders (id text primary key); select collecta.attach_module('orders', 'orders')`);
  const basic = Buffer.from('user:p/ss"word').toString('base64');
  const endpoint = await createEndpoint(sql, receiver, '/echo', {
    headers: {
      Authorization: `Basic ${basic}`,
      'X-Api-Key': 'key/abcdefgh',
      Cookie: 'sid=cookie-value; b=q1',
      'X-Plain': 'plain-value',
    },
  });
  const hidden = [
    basic,
    'p/ss"word',
    'p/ss\\"word',
    'p\\/ss',
    'p%2Fss',
    'key/abcdefgh',
    'cookie-value',
    endpoint.secret,
    endpoint.secret.replace('whsec_', ''),
  ];
  const forms = [...hidden, JSON.stringify({ all: hidden }), encodeURIComponent('p/ss"word'), 'plain-value end'];
  const echoed = forms.join(' ; ');
  const cut = `${'x'.repeat(16_384 - 10)}${endpoint.secret}`;
  await receiver.script('/echo', [
    {
      status: 500,
      headers: { 'x-seen': `${basic} key/abcdefgh plain-value`, 'x-other': endpoint.secret },
      body: echoed,
    },
    { status: 200, body: cut },
  ]);
  await sql.unsafe(`insert into orders values (E'esc\\x1b[31m\\nline\\u202e')`);
  const runner = await startRunner(url);
  await until('the first is recorded', async () => (await sql`select from collecta.webhook_deliveries`).length > 0);
  await sql`update collecta.delivery_queue set due_at = now()`;
  await sql`select collecta.wake_runner()`;
  await until('both are recorded', async () => (await sql`select from collecta.webhook_deliveries`).length > 1);
  await runner.stop();
  const rows = await sql`
    select response_headers::text as headers, response_body as body from collecta.delivery_attempts order by id`;
  const [first, second] = rows;
  for (const value of [
    basic,
    'key/abcdefgh',
    'cookie-value',
    'ss"word',
    'ss\\"word',
    'ss%22word',
    endpoint.secret.slice(6),
  ]) {
    t.notOk(first!.body.includes(value), `not in the body: ${value}`);
    t.notOk(first!.headers.includes(value), `not in the headers: ${value}`);
  }
  t.match(first!.body, /plain-value end$/, 'values that are not credentials are kept');
  t.match(first!.headers, /plain-value/);
  t.match(second!.body, /x\*\*\*\n\[cut after 16384 bytes\]$/, 'nor is the beginning of a truncated one');

  await sql.unsafe(`update collecta.delivery_attempts set error = E'\\x1b]0;title\\x07\\nforged \\u009b'`);
  const stopping = new AbortController();
  const lines: string[] = [];
  const tailing = tail(url, { endpoint: undefined, failed: false, last: 10 }, stopping.signal, line =>
    lines.push(line),
  );
  await until('tail prints', () => lines.length === 2);
  stopping.abort();
  await tailing;
  t.notMatch(lines.join(''), /[\p{Cc}\p{Cf}]/u);
  t.match(lines[0], 'esc\\u{1b}[31m\\u{a}line\\u{202e}');
});
