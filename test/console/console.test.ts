import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { hiddenFields, openConsole, unescaped } from '../support/console.ts';
import { type Sql, useServer } from '../support/database.ts';
import { consoleExample } from '../support/history.ts';
import { runtimes, startRunner, until } from '../support/runner.ts';

const server = await useServer(['-c', 'track_functions=pl']);
const { sql, url } = await server.database();
const example = await consoleExample(sql);
const views = ['', 'endpoints', 'deliveries', 'tail', 'modules', 'inbound', 'unrouted', 'actions'];

t.test('people log in with their PostgreSQL login and password', async t => {
  const { client, lines } = await openConsole(t, url);
  const { send, login, post } = client();
  const sent = await send('/console/deliveries?outcome=failed');
  t.equal(sent.status, 303, 'nothing is shown to strangers');
  t.equal(sent.headers.get('location'), '/console/login?to=%2Fconsole%2Fdeliveries%3Foutcome%3Dfailed');
  t.equal((await login('ada', 'wrong')).status, 401);
  t.equal((await login('nobody', 'nobody')).status, 401);
  await sql`create role stranger login password 'stranger'`;
  const refused = await login('stranger', 'stranger');
  t.equal(refused.status, 403);
  t.match(await refused.text(), /grant collecta_reader to stranger/);
  const entered = await post('/console/login', {
    name: 'ada',
    password: 'ada',
    to: '/console/deliveries?outcome=failed',
  });
  t.equal(entered.status, 303);
  t.equal(entered.headers.get('location'), '/console/deliveries?outcome=failed');
  t.match(entered.headers.get('set-cookie'), /^collecta_console=[\w-]{43}; Path=\/console; HttpOnly; SameSite=Strict$/);
  for (const view of views) t.equal((await send(`/console/${view}`)).status, 200, view);
  t.notMatch(lines.join(''), /wrong|"password"/, 'the log names no password');

  for (const to of ['//elsewhere.example/console/', 'https://elsewhere.example/', '/elsewhere', '/\\elsewhere'])
    t.equal(
      (await post('/console/login', { name: 'ada', password: 'ada', to })).headers.get('location'),
      '/console/',
      to,
    );
  t.match(
    (await post('/console/login', { name: 'ada', password: 'ada' }, { 'x-forwarded-proto': 'https' })).headers.get(
      'set-cookie',
    ),
    /; Secure/,
  );
  await post('/console/logout', {});
  t.equal((await send('/console/')).status, 303, 'after the logout the cookie opens nothing');
});

t.test('after too many wrong passwords, further tries are refused without asking the database', async t => {
  const { client } = await openConsole(t, url);
  const { login } = client();
  for (let i = 0; i < 10; i++) t.equal((await login('vera', 'wrong')).status, 401);
  t.equal((await login('vera', 'vera')).status, 429);
  t.equal((await login('ada', 'ada')).status, 303, 'nobody else is locked out');
});

t.test('simultaneous tries, and tries with many names from one address, are counted', async t => {
  const { client } = await openConsole(t, url);
  const statuses = await Promise.all(
    Array.from({ length: 30 }, async () => (await client().login('vera', 'wrong')).status),
  );
  t.ok(statuses.filter(status => status === 401).length <= 10, `${statuses}`);
  t.notOk(statuses.includes(303));
  const spread: number[] = [];
  for (let n = 0; n < 70; n++) spread.push((await client().login(`nobody-${n}`, 'wrong')).status);
  t.equal(spread.at(-1), 429, 'nor with another name in each try');
  t.ok(spread.filter(status => status === 401).length <= 60);
});

t.test('logging out ends the console session and its PostgreSQL sessions', async t => {
  const { client, origin } = await openConsole(t, url);
  const planted = `collecta_console=${'A'.repeat(43)}`;
  const ada = client();
  const entered = await ada.post('/console/login', { name: 'ada', password: 'ada' }, { cookie: planted });
  const cookie = (entered.headers.get('set-cookie') ?? '').split(';')[0] as string;
  t.not(cookie, planted);
  t.equal(
    (await client({ cookie: planted }).send('/console/')).status,
    303,
    'a cookie that somebody planted opens nothing',
  );
  t.equal((await client({ cookie }).send('/console/')).status, 200);
  const sessions = async () =>
    (await sql`select from pg_stat_activity where usename = 'ada' and datname = current_database()`).length;
  t.ok((await sessions()) > 0);

  // Another session of the same role watches the page too, so that its query goes on.
  const other = client();
  const otherCookie = ((await other.login('ada', 'ada')).headers.get('set-cookie') ?? '').split(';')[0] as string;
  const stop = new AbortController();
  const watch = async (of: string) => {
    const seen = { text: '', ended: false };
    const answer = await fetch(`${origin}/console/tail/events`, {
      headers: { cookie: of, accept: 'text/event-stream' },
      signal: stop.signal,
    });
    void (async () => {
      for await (const chunk of answer.body!) seen.text += Buffer.from(chunk).toString();
      seen.ended = true;
    })().catch(() => {});
    await until('it is connected', () => seen.text.includes('event: ready'));
    return seen;
  };
  const stays = await watch(otherCookie);
  const leaves = await watch(cookie);
  await client({ cookie }).post('/console/logout', {});
  await example.happen();
  await until('the other one sees it', () => stays.text.includes('event: attempts'));
  await until('the stream of who logged out ends', () => leaves.ended);
  t.notMatch(leaves.text, 'event: attempts');
  await other.post('/console/logout', {});
  await until('no session of PostgreSQL is left', async () => (await sessions()) === 0);
  await until('the other stream ends', () => stays.ended, 30_000);
  stop.abort();
});

t.test('a page that refreshes itself does not extend the session', async t => {
  const { client } = await openConsole(t, url);
  const ada = client();
  await ada.login('ada', 'ada');
  const real = Date.now;
  t.teardown(() => {
    Date.now = real;
  });
  const after = (minutes: number) => {
    Date.now = () => real() + minutes * 60_000;
  };
  after(20);
  t.equal((await ada.send('/console/actions', { headers: { 'x-collecta-refresh': '1' } })).status, 200);
  after(40);
  t.equal((await ada.send('/console/actions')).status, 303, 'idle for 40 minutes');
});

t.test('a role that PostgreSQL would let in without a password cannot log in', async t => {
  const other = await server.database();
  const [{ hba_file: file } = {}] = await sql`show hba_file`;
  const before = await readFile(file, 'utf8');
  await sql`create role trusted login in role collecta_reader`;
  await writeFile(file, `host all trusted 127.0.0.1/32 trust\n${before}`);
  await sql`select pg_reload_conf()`;
  t.teardown(async () => {
    await writeFile(file, before);
    await sql`select pg_reload_conf()`;
  });
  const { client } = await openConsole(t, other.url);
  await until(
    'the server has read pg_hba.conf',
    async () => (await client().login('trusted', 'anything')).status === 403,
  );
  t.match(await (await client().login('trusted', 'anything')).text(), /no password from here/);
  await appendFile(file, '');
});

t.test('PostgreSQL privileges decide: a reader can look, an operator can act', async t => {
  const { client } = await openConsole(t, url);
  const vera = client();
  await vera.login('vera', 'vera');
  const path = `/console/act/pause?endpoint=${example.endpointId}`;
  const shown = await vera.text(path);
  t.match(unescaped(shown), `select collecta.pause_endpoint('${example.endpointId}', 'by request');`);
  const refused = await vera.post('/console/act/pause', hiddenFields(shown));
  t.equal(refused.status, 403);
  t.match(await refused.text(), /vera may not do this/);
  t.match(await sql`select state from collecta.endpoints where endpoint_id = ${example.endpointId}`, [
    { state: 'active' },
  ]);

  const ada = client();
  await ada.login('ada', 'ada');
  const reason = `it's "late" \\ <b>`;
  const asked = await ada.text(`${path}&reason=${encodeURIComponent(reason)}`);
  const form = hiddenFields(asked);
  t.equal((await ada.post('/console/act/pause', form)).status, 200);
  t.match(await sql`select state, paused_reason from collecta.endpoints where endpoint_id = ${example.endpointId}`, [
    { state: 'paused', paused_reason: reason },
  ]);
  t.match(
    await sql`select done_by, login, statement, touched from collecta.operator_actions order by action_id desc limit 1`,
    [{ done_by: 'ada', login: 'ada', statement: form.statement, touched: '1' }],
  );
  await ada.post(
    '/console/act/resume',
    hiddenFields(await ada.text(`/console/act/resume?endpoint=${example.endpointId}`)),
  );
  t.match(await sql`select state from collecta.endpoints where endpoint_id = ${example.endpointId}`, [
    { state: 'active' },
  ]);
  t.match(await ada.text('/console/actions'), /collecta\.resume_endpoint/);

  const changed = { ...hiddenFields(asked), statement: 'select 1;' };
  t.equal((await ada.post('/console/act/pause', changed)).status, 409, 'what was not shown does not run');
  const rotate = hiddenFields(await ada.text(`/console/act/rotate?endpoint=${example.endpointId}`));
  t.equal((await ada.post('/console/act/rotate', rotate)).status, 403, 'rotating is the owner’s');
});

t.test('an action on many deliveries asks for confirmation and then touches all of them', async t => {
  const { client } = await openConsole(t, url);
  const ada = client();
  await ada.login('ada', 'ada');
  const [{ n } = {}] =
    await sql`select count(*)::int as n from collecta.undelivered where endpoint_id = ${example.endpointId}`;
  t.ok(n > 1);
  const shown = await ada.text(`/console/act/replay-given-up?endpoint=${example.endpointId}`);
  t.match(shown, `It concerns <strong>${n}</strong>`);
  const form = hiddenFields(shown);
  for (const confirm of ['', '1', String(n + 1)])
    t.equal((await ada.post('/console/act/replay-given-up', { ...form, confirm })).status, 409, confirm);
  t.equal((await sql`select from collecta.delivery_queue`).length, 0);
  t.equal((await ada.post('/console/act/replay-given-up', { ...form, confirm: String(n) })).status, 200);
  t.equal((await sql`select from collecta.delivery_queue where replay_of is not null`).length, n);
  t.match(await sql`select touched from collecta.operator_actions order by action_id desc limit 1`, [
    { touched: String(n) },
  ]);
  await sql`delete from collecta.delivery_queue`;
});

t.test('a batch touches exactly the deliveries that match its filter, whatever the page shows', async t => {
  const other = await server.database();
  const { endpointId } = await consoleExample(other.sql);
  // There are more than fit on a page, and half of them are older than a given time.
  await other.sql`update collecta.delivery_attempts set outcome = 'exhausted'
    where endpoint_id = ${endpointId} and outcome = 'delivered'`;
  const [{ since } = {}] = await other.sql`
    select to_char(percentile_disc(0.5) within group (order by finished_at), 'YYYY-MM-DD HH24:MI:SS') as since
    from collecta.undelivered where endpoint_id = ${endpointId}`;
  const wanted = (
    await other.sql`select event_id from collecta.undelivered
      where endpoint_id = ${endpointId} and finished_at >= ${since}::text::timestamptz order by 1`
  ).map(row => row.event_id);
  t.ok(wanted.length > 100, `${wanted.length}`);
  const { client } = await openConsole(t, other.url);
  const ada = client();
  await ada.login('ada', 'ada');
  const path = `/console/act/replay-given-up?endpoint=${endpointId}&since=${encodeURIComponent(since)}`;
  const form = hiddenFields(await ada.text(path));
  const confirm = String(wanted.length);
  t.equal((await ada.post('/console/act/replay-given-up', { ...form, confirm })).status, 200);
  t.strictSame(
    (await other.sql`select event_id from collecta.delivery_queue where replay_of is not null order by 1`).map(
      row => row.event_id,
    ),
    wanted,
  );
});

t.test('every other action runs the statement that it shows first', async t => {
  const { client } = await openConsole(t, url);
  const owner = client();
  // Only the owner may rotate a secret, so this uses a DBA’s login.
  await sql`create role dba login password 'dba' superuser`;
  await owner.login('dba', 'dba');
  const [{ request_id: failed } = {}] =
    await sql`select request_id from collecta.inbound_requests where state = 'failed' limit 1`;
  const given: [string, string, string?][] = [
    ['test', `endpoint=${example.endpointId}`],
    ['replay', `id=${example.deliveryId}`],
    ['rotate', `endpoint=${example.endpointId}&overlap=2+hours`],
    ['route-again', '', '3'],
    ['retry-inbound', `id=${failed}`],
    ['retry-inbound', `id=${example.inboundEndpointId}`],
    ['pause-inbound', `id=${example.inboundEndpointId}`],
    ['resume-inbound', `id=${example.inboundEndpointId}`],
  ];
  for (const [name, query, confirm] of given) {
    const form = hiddenFields(await owner.text(`/console/act/${name}?${query}`));
    const answer = await owner.post(`/console/act/${name}`, { ...form, ...(confirm && { confirm }) });
    t.equal(answer.status, 200, `${name} ${query}`);
    t.match(await sql`select statement from collecta.operator_actions order by action_id desc limit 1`, [
      { statement: form.statement },
    ]);
    if (name === 'rotate') t.match(await answer.text(), /whsec_/, 'the new secret is shown');
  }
  t.match(await owner.text(`/console/endpoints/${example.endpointId}`), /\(for 1 h yet\)/, 'the overlap counts down');
  t.notMatch((await sql`select statement from collecta.operator_actions`).map(row => row.statement).join(), /whsec_/);
  t.equal((await owner.send('/console/act/replay?id=dlv_none')).status, 200);
  const none = await owner.post(
    '/console/act/replay',
    hiddenFields(await owner.text('/console/act/replay?id=dlv_none')),
  );
  t.equal(none.status, 422);
  t.match(await none.text(), /CW020/);
});

t.test('a form posted from another site changes nothing', async t => {
  const { client, origin } = await openConsole(t, url);
  const ada = client();
  await ada.login('ada', 'ada');
  const form = hiddenFields(await ada.text(`/console/act/pause?endpoint=${example.endpointId}`));
  const type = { 'content-type': 'application/x-www-form-urlencoded' };
  const body = new URLSearchParams(form).toString();
  const attempts: [string, Record<string, string>, number][] = [
    ['from another site', { ...type, 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }, 403],
    ['from a site beside', { ...type, 'sec-fetch-site': 'same-site', origin }, 403],
    ['another origin, an old browser', { ...type, origin: 'https://evil.example' }, 403],
    ['an opaque origin', { ...type, origin: 'null' }, 403],
    ['another port', { ...type, origin: 'http://127.0.0.1:1' }, 403],
    ['no header that names its origin', type, 403],
    ['as text', { 'content-type': 'text/plain', 'sec-fetch-site': 'cross-site' }, 403],
    ['as JSON', { 'content-type': 'application/json', 'sec-fetch-site': 'same-origin', origin }, 415],
  ];
  for (const [title, headers, status] of attempts)
    t.equal((await ada.send('/console/act/pause', { method: 'POST', body, headers })).status, status, title);
  t.equal((await ada.post('/console/act/pause', { ...form, more: 'x'.repeat(70_000) })).status, 413);
  t.equal((await ada.send('/console/', { method: 'DELETE' })).status, 403);
  t.match(await sql`select state from collecta.endpoints where endpoint_id = ${example.endpointId}`, [
    { state: 'active' },
  ]);
  t.equal(
    (await ada.post('/console/login', { name: 'ada', password: 'ada' }, { 'sec-fetch-site': 'cross-site' })).status,
    403,
  );
});

t.test('a proxy can name the user in one header, and the console then uses set role', async t => {
  await sql`create role console_login login password 'console' in role ada, vera, stranger`;
  const asConsole = url.replace('postgres:postgres@', 'console_login:console@');
  const { client } = await openConsole(t, asConsole, { COLLECTA_CONSOLE_TRUST_HEADER: 'X-Forwarded-User' });
  t.equal((await client().send('/console/')).status, 401);
  t.equal((await client({ 'x-forwarded-user': 'ada, dba' }).send('/console/')).status, 401, 'a second header');
  t.equal(
    (await client({ 'x-forwarded-user': 'postgres' }).send('/console/')).status,
    403,
    'nobody the console may act as',
  );
  t.equal((await client({ 'x-forwarded-user': 'stranger' }).send('/console/')).status, 403, 'nobody who may read');
  t.equal((await client({ 'x-forwarded-user': 'vera"; reset role; --' }).send('/console/')).status, 403);
  const vera = client({ 'x-forwarded-user': 'vera' });
  t.match(await vera.text('/console/'), />vera</);
  const form = hiddenFields(await vera.text(`/console/act/test?endpoint=${example.endpointId}`));
  t.equal((await vera.post('/console/act/test', form)).status, 403);
  const ada = client({ 'x-forwarded-user': 'ada' });
  t.equal((await ada.post('/console/act/test', form)).status, 200);
  t.match(await sql`select done_by, login from collecta.operator_actions order by action_id desc limit 1`, [
    { done_by: 'ada', login: 'console_login' },
  ]);
  t.equal((await ada.send('/console/login')).status, 404, 'there is no other way in');
  const elsewhere = await openConsole(t, asConsole, {
    COLLECTA_CONSOLE_TRUST_HEADER: 'X-Forwarded-User',
    COLLECTA_CONSOLE_TRUST_FROM: '10.0.0.0/8,fd00::1',
  });
  t.equal((await elsewhere.client({ 'x-forwarded-user': 'ada' }).send('/console/')).status, 403, 'not from the proxy');
  const network = await openConsole(t, asConsole, {
    COLLECTA_CONSOLE_TRUST_HEADER: 'X-Forwarded-User',
    COLLECTA_CONSOLE_TRUST_FROM: '10.0.0.0/8,127.0.0.1',
  });
  t.equal((await network.client({ 'x-forwarded-user': 'ada' }).send('/console/')).status, 200);
});

t.test('row security applies to the pages as it does in SQL', async t => {
  const other = await server.database();
  await other.sql.unsafe(`create table secrets (id int primary key, word text);
    alter table secrets enable row level security;
    select collecta.attach_module('secrets', 'secrets', on_truncate => 'ignore');
    select collecta.create_endpoint('https://x.example/', '{record_created}');
    insert into secrets values (1, 'open-sesame'); select from collecta.claim_deliveries(10)`);
  await record(other.sql, 'delivered', 200);
  const { client } = await openConsole(t, other.url);
  const vera = client();
  await vera.login('vera', 'vera');
  const [{ id } = {}] = await other.sql`select id from collecta.delivery_attempts`;
  t.equal((await vera.send(`/console/deliveries/${id}`)).status, 200);
  for (const path of [
    `/console/deliveries/${id}`,
    '/console/deliveries?contains={"record":{"word":"open-sesame"}}',
    '/console/',
  ])
    t.notMatch((await vera.text(path)).replace(/<form class="filters".*?<\/form>/s, ''), /open-sesame/, path);
  t.notMatch(await vera.text('/console/deliveries?contains={"record":{"word":"open-sesame"}}'), /data-key/);
});

async function record(on: Sql, outcome: string, status: number) {
  await on`
    with q as (
      update collecta.delivery_queue set leased_until = now() + interval '1 minute'
      returning delivery_id, (extract(epoch from leased_until) * 1000000)::bigint as lease)
    select collecta.record_deliveries(array_agg(r), '{https://x.example/}')
    from q, json_populate_record(null::collecta.delivery_result, json_build_object('id', delivery_id, 'lease', lease,
      'outcome', ${outcome}::text, 'url', 1, 'status', ${status}::int)) r`;
}

t.test('every page has strict headers, nothing inline, and shows foreign values as text', async t => {
  const evil = `<script>window.hit=1</script>"'><img src=x onerror=window.hit=2>`;
  const other = await server.database();
  const hostile = await consoleExample(other.sql);
  await other.sql.unsafe('update collecta.endpoints set name = $1 || endpoint_id, paused_reason = $1', [evil]);
  await other.sql`update collecta.delivery_attempts
    set error = ${evil}, response_body = ${evil}, url = ${`https://x.example/${evil}`},
    response_headers = json_build_object(${evil}::text, ${evil}::text),
    request_headers = json_build_object(${evil}::text, ${evil}::text)`;
  await other.sql`update collecta.events set record_id = ${evil},
    body = json_build_object('record', json_build_object(${evil}::text, ${evil}::text),
    'previous', json_build_object(${evil}::text, 1))::text`;
  await other.sql`update collecta.unrouted set reason = ${evil}, record_id = ${evil}`;
  await other.sql`update collecta.inbound_requests set reason = ${evil}, body = ${evil}, record_id = ${evil},
    error = ${evil}`;
  await other.sql`update collecta.operator_actions set statement = ${evil}`;
  await other.sql.unsafe(`create table "${evil.slice(0, 60).replaceAll('"', '""')}" (id int primary key, "<b>x" text);
    select collecta.attach_module(c.oid, 'evil', exclude_columns => '{<b>x}') from pg_class c
      where relname like '<script%' and relkind = 'r'`);
  const { client } = await openConsole(t, other.url);
  const ada = client();
  await ada.login('ada', 'ada');
  const [{ request_id: request } = {}] = await other.sql`select request_id from collecta.inbound_requests limit 1`;
  const q = encodeURIComponent(evil);
  const paths = [
    ...views,
    'login',
    `endpoints?q=${q}`,
    `endpoints/${hostile.endpointId}`,
    `endpoints/${q}`,
    `deliveries?endpoint=${q}&module=${q}&record=${q}&from=${q}&status=${q}&contains=${q}`,
    `deliveries?record=${q}`,
    `deliveries/${hostile.deliveryId}`,
    `deliveries/${q}`,
    `inbound/${request}`,
    `inbound?endpoint=${q}`,
    `tail?endpoint=${q}`,
    `unrouted?endpoint=${q}`,
    `act/pause?endpoint=${q}&reason=${q}`,
    `act/replay-given-up?endpoint=${hostile.endpointId}`,
    `act/replay-given-up?endpoint=${hostile.endpointId}&since=${q}`,
    `act/${q}`,
    'nothing',
  ];
  for (const path of paths) {
    const answer = await ada.send(`/console/${path}`);
    const page = await answer.text();
    t.match(
      answer.headers.get('content-security-policy'),
      /^default-src 'none'; script-src 'self'; style-src 'self';/,
      path,
    );
    t.notMatch(answer.headers.get('content-security-policy'), /unsafe|\*/);
    t.match(Object.fromEntries(answer.headers), {
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'cache-control': 'no-store',
      'referrer-policy': 'same-origin',
    });
    t.not(answer.status, 500, path);
    t.notMatch(page, /<script>|<img|<b>x|="javascript:/i, path);
    t.notMatch(page.replace(/"[^"]*"/g, '""'), /<[^>]*\s(style|on[a-z]+)=/i, `${path}: nothing inline`);
    t.notMatch(page, /(src|href)="(?:https?:)?\/\//, `${path}: nothing from elsewhere`);
  }
});

t.test('JSON is shown as stored: digits, order, repeated names, values that jsonb refuses', async t => {
  const body =
    '{"record":{"big":123456789012345678901234567890.10,"e":1E400,"z":1,"a":2,"a":3,"nul":"\\u0000","t":"a \\" : ' +
    '{b"},"previous":{"big":0.10,"z":null}}';
  await sql`update collecta.events e set body = ${body} from collecta.delivery_attempts a
    where a.id = ${example.deliveryId} and e.event_id = a.event_id`;
  const { client } = await openConsole(t, url);
  const ada = client();
  await ada.login('ada', 'ada');
  const page = unescaped((await ada.text(`/console/deliveries/${example.deliveryId}`)).replace(/<\/?span[^>]*>/g, ''));
  for (const text of [
    '"big": 123456789012345678901234567890.10,',
    '"e": 1E400',
    '"a": 2,\n    "a": 3',
    '"nul": "\\u0000"',
    '"t": "a \\" : {b"',
  ])
    t.ok(page.includes(text), text);
  t.match(page, /<del><code>0\.10<\/code><\/del>/, 'what changed');
  t.match(page, /<ins><code>123456789012345678901234567890\.10<\/code><\/ins>/);
  t.ok(page.includes(`--data-binary '${body}'`), 'as curl: the same bytes');
  t.equal(
    (await ada.send('/console/deliveries?contains={"record":{"z":1}}')).status,
    200,
    'a body that jsonb refuses stops no search',
  );
});

t.test('a signature can be verified with a typed secret, which is not stored', async t => {
  const other = await server.database();
  await other.sql.unsafe(`create table orders (id int primary key); select collecta.attach_module('orders', 'orders')`);
  const [{ secret } = {}] =
    await other.sql`select secret from collecta.create_endpoint('http://127.0.0.1:9876/', '{record_created}',
      retry_max => 0)`;
  const runner = await startRunner(other.url);
  await runner.logged('dispatching');
  await other.sql`insert into orders values (1)`;
  await until(
    'the attempt is recorded',
    async () => (await other.sql`select from collecta.delivery_attempts`).length > 0,
  );
  await runner.stop();
  const [{ id } = {}] = await other.sql`select id from collecta.delivery_attempts`;
  const { client, lines } = await openConsole(t, other.url);
  const ada = client();
  await ada.login('ada', 'ada');
  const verify = async (given: string) =>
    await (await ada.post(`/console/deliveries/${id}/verify`, { secret: given })).text();
  t.match(await verify(secret), /The signature is valid/);
  t.match(await verify('another'), /The signature is not valid/);
  t.match(await verify('whsec_!!!'), /The signature is not valid/);
  t.notMatch(await ada.text(`/console/deliveries/${id}`), secret);
  t.notMatch(lines.join(''), secret);
});

t.test('filters are in the URL, and keyset pages show every attempt exactly once', async t => {
  const { client } = await openConsole(t, url);
  const ada = client();
  await ada.login('ada', 'ada');
  const walk = async (query: string) => {
    const ids: string[] = [];
    for (let path: string | undefined = `/console/deliveries?${query}`; path; ) {
      const page: string = await ada.text(path);
      ids.push(...[...page.matchAll(/data-key="([^"]+)"/g)].map(([, id]) => id as string));
      path = unescaped(/class="next" rel="next" href="([^"]+)"/.exec(page)?.[1] ?? '') || undefined;
    }
    return ids;
  };
  const wanted = async (where: string) =>
    (await sql.unsafe(`select id from collecta.webhook_deliveries where ${where} order by id desc`)).map(row => row.id);
  const cases: [string, string][] = [
    ['outcome=exhausted', `outcome = 'exhausted'`],
    [`endpoint=${example.endpointId}&outcome=failed`, `endpoint_id = '${example.endpointId}' and outcome = 'failed'`],
    [`endpoint=${example.endpointId}`, `endpoint_id = '${example.endpointId}'`],
    ['status=5xx&event=status_change', `response_status between 500 and 599 and event = 'status_change'`],
    ['status=503&outcome=exhausted', `response_status = 503 and outcome = 'exhausted'`],
    ['record=rec_77&module=orders', `record_id = 'rec_77' and module = 'orders'`],
    ['outcome=blocked&module=orders', `outcome = 'blocked'`],
    [
      'endpoint=erp&outcome=failed',
      `endpoint_id = (select endpoint_id from collecta.endpoints where name = 'erp') and outcome = 'failed'`,
    ],
  ];
  for (const [query, where] of cases) {
    const expected = await wanted(where);
    t.ok(expected.length > 0, where);
    t.strictSame(await walk(query), expected, query);
  }
  const [{ early, late } = {}] =
    await sql`select to_char(now() at time zone 'UTC' - interval '3 hours', 'YYYY-MM-DD HH24:MI') as early,
    to_char(now() at time zone 'UTC' - interval '2 hours', 'YYYY-MM-DD HH24:MI') as late`;
  const between = await walk(`outcome=failed&from=${encodeURIComponent(early)}&to=${encodeURIComponent(late)}`);
  t.ok(between.length > 5 && between.length < 100, `${between.length} failed in an hour`);
  const contained = await walk(`outcome=exhausted&contains=${encodeURIComponent('{"record": {"id": "rec_250"}}')}`);
  t.equal(contained.length, 1, 'by what the payload contains');
  t.equal((await ada.send(`/console/deliveries?id=${example.deliveryId}`)).status, 303);
  t.match(await ada.text('/console/deliveries?contains=%7B'), /contains is no JSON/);
  t.match(await ada.text('/console/deliveries?from=yesterday'), /from is no time/);
  t.match(await ada.text('/console/endpoints?q=billing'), /billing/);
  t.match(await ada.text('/console/endpoints?q=100%25'), /No endpoint is like that/, '% is a character');
});

t.test('fifty watching pages cost one query a second, and none when nobody watches', async t => {
  const { client, origin } = await openConsole(t, url);
  const ada = client();
  const cookie = ((await ada.login('ada', 'ada')).headers.get('set-cookie') ?? '').split(';')[0] as string;
  const transactions = async () => {
    // Only the statements of ada's sessions are counted: the others are this test's own.
    const [{ n } = {}] =
      await sql`select coalesce(sum(calls), 0)::int as n from pg_stat_user_functions where funcname = 'watched'`;
    return Number(n);
  };
  // The watch reads webhook_deliveries once in each turn. A function inside the view counts the reads.
  await sql.unsafe(`create function collecta.watched() returns boolean
    language plpgsql volatile as 'begin return true; end';
    grant execute on function collecta.watched() to public;
    create or replace function collecta.attempt_id_at(moment timestamptz) returns text language plpgsql volatile as $$
    begin perform collecta.watched();
    return 'dlv_' || lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0'); end $$`);
  const stop = new AbortController();
  const seen: string[] = Array.from({ length: 50 }, () => '');
  const watching = seen.map(async (_, i) => {
    const answer = await fetch(`${origin}/console/tail/events`, {
      headers: { cookie, accept: 'text/event-stream' },
      signal: stop.signal,
    });
    for await (const chunk of answer.body!) seen[i] += Buffer.from(chunk).toString();
  });
  for (const each of watching) each.catch(() => {});
  await until('all are connected', () => seen.every(text => text.includes('event: ready')));
  await pause(1_500);
  const before = await transactions();
  await pause(4_000);
  const asked = (await transactions()) - before;
  // Each turn adds two to the count, and there is one turn a second.
  t.ok(asked >= 4 && asked <= 14, `${asked} marks were asked for in four seconds`);
  await example.happen();
  await until('all saw it', () => seen.every(text => text.includes('event: attempts')));
  stop.abort();
  await pause(2_500);
  const idle = await transactions();
  await pause(3_000);
  t.equal(await transactions(), idle, 'while nobody watches, nothing is queried');
});

t.test('the console is served under the configured path, which may be the root', async t => {
  for (const [path, overview] of [
    ['/', '/'],
    ['/ops/webhooks', '/ops/webhooks/'],
  ] as const) {
    const { client, origin } = await openConsole(t, url, { COLLECTA_CONSOLE_PATH: path });
    const base = path === '/' ? '' : path;
    const ada = client();
    const answer = await ada.post(`${base}/login`, { name: 'ada', password: 'ada' }, { origin });
    t.equal(answer.headers.get('location'), overview);
    for (const to of [
      '//elsewhere.example/',
      '/\t/elsewhere.example/',
      '/\n/elsewhere.example/',
      '/\\elsewhere.example/',
    ])
      t.equal(
        (await client().post(`${base}/login`, { name: 'ada', password: 'ada', to }, { origin })).headers.get(
          'location',
        ),
        overview,
        JSON.stringify(to),
      );
    t.match(answer.headers.get('set-cookie'), `Path=${path};`);
    const page = await ada.text(overview);
    t.match(page, `<link rel="stylesheet" href="${base}/assets/console.css">`);
    for (const [, link] of page.matchAll(/(?:href|src|action)="(\/[^"]*)"/g))
      t.ok(link?.startsWith(`${base}/`), `${link}`);
    t.equal((await ada.send(`${base}/assets/uplot.js`)).status, 200);
    t.equal((await ada.send('/metrics')).status, 200, 'beside the probes');
  }
});

for (const runtime of runtimes)
  t.test(`the console command works on ${runtime}`, async t => {
    const { freePort } = await import('../support/server.ts');
    const port = await freePort();
    const runner = await startRunner(url, {
      runtime,
      command: 'console',
      env: { COLLECTA_OPERATIONS_PORT: String(port) },
    });
    await runner.logged('serving operations');
    const origin = `http://127.0.0.1:${port}`;
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin', origin };
    const entered = await fetch(`${origin}/console/login`, {
      method: 'POST',
      headers,
      body: 'name=ada&password=ada',
      redirect: 'manual',
    });
    t.equal(entered.status, 303);
    const cookie = (entered.headers.get('set-cookie') ?? '').split(';')[0] as string;
    for (const view of views) {
      const answer = await fetch(`${origin}/console/${view}`, { headers: { cookie } });
      t.equal(answer.status, 200, view);
      await answer.text();
    }
    for (const [name, type] of [
      ['console.css', 'text/css; charset=utf-8'],
      ['console.js', 'text/javascript; charset=utf-8'],
      ['uplot.js', 'text/javascript; charset=utf-8'],
      ['uplot.css', 'text/css; charset=utf-8'],
    ]) {
      const answer = await fetch(`${origin}/console/assets/${name}`);
      t.equal(answer.headers.get('content-type'), type, `${name}`);
      t.ok((await answer.text()).length > 1_000);
    }
    const reader = (await fetch(`${origin}/console/tail/events`, { headers: { cookie } })).body!.getReader();
    t.match(Buffer.from((await reader.read()).value!).toString(), 'event: ready');
    await reader.cancel();
    t.equal((await runner.stop()).status, 0);
  });
