import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { hiddenFields, openConsole } from '../support/console.ts';
import { useServer } from '../support/database.ts';
import { consoleExample } from '../support/history.ts';
import { startProxy } from '../support/proxy.ts';
import { until } from '../support/runner.ts';

const server = await useServer();
const { sql, url } = await server.database();
const example = await consoleExample(sql);

t.test('while the database does not answer, pages say so and nobody else is kept waiting', async t => {
  const proxy = await startProxy(t, server.server.port);
  const { client } = await openConsole(t, proxy.through(url));
  const [ada, vera] = [client(), client()];
  await ada.login('ada', 'ada');
  await vera.login('vera', 'vera');
  const act = `/console/act/test?endpoint=${example.endpointId}`;
  const form = hiddenFields(await ada.text(act));

  proxy.set('cut');
  t.match(await ada.text('/console/'), 'The database cannot be reached now');
  proxy.set('open');
  t.equal((await ada.send('/console/')).status, 200, 'after an outage the same session goes on');

  proxy.set('silent');
  const began = Date.now();
  const many = Array.from({ length: 40 }, async () => (await ada.send('/console/deliveries')).text());
  const acting = vera.post('/console/act/test', form);
  const other = vera.text('/console/');
  await pause(500);
  const loginPage = Date.now();
  t.equal((await client().send('/console/login')).status, 200);
  t.equal((await client().send('/console/assets/console.css')).status, 200);
  t.ok(Date.now() - loginPage < 1_000, 'the login page needs no database');
  const answers = await Promise.all(many);
  t.ok(Date.now() - began < 15_000, `all are answered after ${Date.now() - began} ms`);
  t.equal(answers.filter(text => text.includes('The console is busy')).length, 32, 'eight at once for one role');
  t.equal(answers.filter(text => text.includes('The database cannot be reached now')).length, 8);
  t.match(await other, 'The database cannot be reached now', 'another role is not told that it is busy');
  const unknown = await acting;
  t.equal(unknown.status, 503);
  t.match(await unknown.text(), 'It is not known whether the action was run');
  proxy.set('open');
  await until('it is back', async () => (await ada.send('/console/')).status === 200, 15_000);
  t.equal((await vera.send('/console/')).status, 200);
});

t.test('a session ends when its login is not valid any more', async t => {
  await sql.unsafe(`create role changed login password 'before' in role collecta_reader`);
  const { client } = await openConsole(t, url);
  const disconnect = () => sql`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'changed'`;
  const person = client();
  for (const [statement, password, undo] of [
    [`alter role changed password 'after'`, 'before', `alter role changed password 'before'`],
    ['alter role changed nologin', 'before', 'alter role changed login'],
  ] as const) {
    await person.login('changed', password);
    t.equal((await person.send('/console/')).status, 200);
    await sql.unsafe(statement);
    await disconnect();
    // The first page may meet the session that was ended.
    await until('it has to log in', async () => (await person.send('/console/')).status === 303, 5_000);
    t.equal((await person.send('/console/')).headers.get('location'), '/console/login?to=%2Fconsole%2F', statement);
    t.equal((await person.login('changed', password)).status, 401);
    await sql.unsafe(undo);
    await disconnect();
    t.equal((await person.send('/console/')).status, 303, 'and stays ended');
  }
});

t.test('who guesses passwords locks nobody out who comes from elsewhere', async t => {
  const { client } = await openConsole(t, url, { COLLECTA_CONSOLE_TRUST_FROM: '127.0.0.1' });
  const from = (address: string) => client({ 'x-forwarded-for': address });
  const guess = async (address: string, name: string) => (await from(address).login(name, 'wrong')).status;
  for (let i = 0; i < 10; i++) t.equal(await guess('192.0.2.1', 'ada'), 401);
  t.equal(await guess('192.0.2.1', 'ada'), 429);
  t.equal((await from('192.0.2.1').login('ada', 'ada')).status, 429, 'not even the right password, from there');
  t.equal((await from('192.0.2.1, 192.0.2.9').login('ada', 'ada')).status, 303, 'ada comes from elsewhere');
  for (let i = 0; i < 60; i++) await guess('192.0.2.1', `nobody-${i}`);
  t.equal(await guess('192.0.2.1', 'vera'), 429, 'too many names from there');
  t.equal(await guess('192.0.2.9, 192.0.2.1', 'vera'), 429, 'what the client wrote before the proxy changes nothing');
  t.equal((await from('192.0.2.9').login('vera', 'vera')).status, 303, 'other people behind the same proxy go on');
  for (let i = 0; i < 30; i++) await guess(`198.51.100.${i}`, 'vera');
  t.equal(await guess('198.51.100.99', 'vera'), 429, 'but many addresses together guess no faster');

  const noProxy = await openConsole(t, url, { COLLECTA_CONSOLE_TRUST_FROM: '10.0.0.1' });
  for (let i = 0; i < 10; i++) await noProxy.client({ 'x-forwarded-for': `192.0.2.${i}` }).login('ada', 'wrong');
  t.equal((await noProxy.client({ 'x-forwarded-for': '192.0.2.99' }).login('ada', 'ada')).status, 429);
});

t.test('eleven sessions of one role are one too many, so no one fills the console', async t => {
  const { client } = await openConsole(t, url);
  const sessions = Array.from({ length: 11 }, () => client());
  const other = client();
  await other.login('vera', 'vera');
  for (const each of sessions) t.equal((await each.login('ada', 'ada')).status, 303);
  const statuses = await Promise.all(sessions.map(async each => (await each.send('/console/actions')).status));
  t.strictSame([...new Set(statuses.slice(1))].includes(303), false);
  t.equal(statuses[0], 303, 'the oldest has ended');
  t.equal((await other.send('/console/')).status, 200, 'a session of another role goes on');
});

t.test('a proxy cannot name the console’s own login, nor "none", which SET ROLE reads as that login', async t => {
  await sql.unsafe(`create role front login password 'front' in role ada, collecta_dispatcher, collecta_operator`);
  const { client } = await openConsole(t, url.replace('postgres:postgres@', 'front:front@'), {
    COLLECTA_CONSOLE_TRUST_HEADER: 'X-Forwarded-User',
  });
  t.equal((await client({ 'x-forwarded-user': 'ada' }).send('/console/')).status, 200);
  for (const name of ['none', 'None', 'NONE', 'front', 'default', 'public', '', ' '])
    t.not((await client({ 'x-forwarded-user': name }).send('/console/')).status, 200, JSON.stringify(name));
});

t.test('a HEAD request of the live tail watches nothing', async t => {
  const { client } = await openConsole(t, url);
  const ada = client();
  await ada.login('ada', 'ada');
  t.equal((await ada.send('/console/tail/events', { method: 'HEAD' })).status, 200);
  await pause(1_200);
  const lastQuery = async () =>
    (await sql`select max(query_start)::text as at from pg_stat_activity where usename = 'ada'`)[0]!.at;
  const before = await lastQuery();
  await pause(2_500);
  t.equal(await lastQuery(), before);
});

t.test('an action whose address lacks something is refused, and values no type accepts are no failure', async t => {
  const { client, lines } = await openConsole(t, url);
  const ada = client();
  await ada.login('ada', 'ada');
  const odd = [
    '',
    '%00',
    '%ff%fe',
    '-1',
    '99999999999999999999',
    "'",
    '%22',
    '\u{1f600}',
    'x'.repeat(8_000),
    '{}',
    '[]',
  ];
  const names = ['replay', 'replay-given-up', 'pause', 'resume', 'test', 'rotate', 'route-again', 'retry-inbound'];
  const paths = odd.flatMap(value => [
    ...names.flatMap(name => [`act/${name}?id=${value}`, `act/${name}?endpoint=${value}&since=${value}`]),
    ...['endpoints', 'deliveries', 'inbound', 'act'].map(view => `${view}/${value}`),
    `?span=${value}`,
    `endpoints?q=${value}&state=${value}&after=${value}`,
    `deliveries?before=${value}&from=${value}`,
    ...['endpoint', 'module', 'event', 'outcome', 'status', 'record', 'id', 'to', 'contains', 'before'].map(
      name => `deliveries?${name}=${value}`,
    ),
    `inbound?endpoint=${value}&state=${value}&before=${value}`,
    `unrouted?endpoint=${value}`,
    `unrouted?after=${value}`,
    `actions?before=${value}`,
  ]);
  for (const path of paths) {
    const { status } = await ada.send(`/console/${path}`);
    t.ok(status < 500, `${status} ${path.slice(0, 60)}`);
  }
  t.equal((await ada.send('/console/act/replay')).status, 422);
  t.equal((await ada.post('/console/act/replay', {})).status, 422);
  t.notMatch(lines.join(''), /TypeError|RangeError|ReferenceError/);
});

t.test('very long values make no page long, and the whole body can be fetched', async t => {
  const other = await server.database();
  const shown = await consoleExample(other.sql);
  // As long as each column takes it: a megabyte of characters that HTML escapes, or what an index can hold of them.
  await other.sql.unsafe(`
    do $$ declare columns record; begin
      for columns in
        select c.oid::regclass as relation, a.attname, a.atttypid
        from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'collecta'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
          and a.attnum > 0 and a.attname in ('name', 'url', 'paused_reason', 'error', 'response_body', 'record_id',
            'reason', 'statement', 'response_headers', 'request_headers', 'headers', 'mapping', 'body', 'column_name')
          and c.relname in ('endpoints', 'delivery_attempts', 'events', 'unrouted', 'inbound_requests',
            'operator_actions', 'inbound_endpoints')
      loop
        begin
          execute format(case when columns.atttypid in ('json'::regtype, 'jsonb'::regtype)
            then $x$update %s set %I = json_build_object('x', repeat('<&"''', 250000))$x$
            when columns.attname = 'url' then $x$update %s set %I = 'https://x.example/' || repeat('<&"''', 250000)$x$
            when columns.attname = 'name' then $x$update %s set %I = repeat('<&"''', 20000) || ctid::text$x$
            when columns.attname = 'record_id' then $x$update %s set %I = repeat('<&"''', 20000)$x$
            else $x$update %s set %I = repeat('<&"''', 250000)$x$ end
            || case when columns.relation::text in ('collecta.delivery_attempts', 'collecta.events')
              then ' where routed_at > now() - interval ''5 minutes''' else '' end, columns.relation, columns.attname);
        exception when check_violation or program_limit_exceeded then raise notice '%', sqlerrm;
        end;
      end loop;
    end $$`);
  const id = shown.deliveryId;
  const value = '<&\\"'.repeat(6_000_000);
  const body = `{"record":{"a":"${value}","n":1},"previous":{"a":"b","n":${'1'.repeat(1_000_000)}}}`;
  await other.sql`update collecta.events e set body = ${body} from collecta.delivery_attempts a
    where a.id = ${id} and e.event_id = a.event_id and e.routed_at = a.routed_at`;
  const { client, port } = await openConsole(t, other.url);
  const ada = client();
  await ada.login('ada', 'ada');
  const [{ latest, endpoint, request } = {}] = await other.sql`
    select (select max(id) from collecta.delivery_attempts) as latest,
      (select min(endpoint_id) from collecta.endpoints) as endpoint,
      (select max(request_id) from collecta.inbound_requests where state = 'failed') as request`;
  for (const path of [
    '',
    'endpoints',
    `endpoints/${endpoint}`,
    'deliveries',
    `deliveries/${latest}`,
    `deliveries/${id}`,
    'modules',
    'inbound',
    `inbound/${request}`,
    'unrouted',
    'actions',
    `act/replay-given-up?endpoint=${shown.endpointId}`,
  ]) {
    const answer = await ada.send(`/console/${path}`);
    const text = await answer.text();
    t.equal(answer.status, 200, path);
    t.ok(text.length < 2_000_000, `${path}: ${text.length} characters`);
  }
  await other.sql`update collecta.delivery_attempts set url = 'https://x.example/', request_headers = '{"a": "b"}'
    where id = ${id}`;
  const page = await ada.text(`/console/deliveries/${id}`);
  t.match(page, 'The first 100,000 of');
  t.match(page, '--data-binary @body.json');
  const whole = await ada.send(`/console/deliveries/${id}/body`);
  t.equal(whole.headers.get('content-type'), 'application/json');
  t.match(whole.headers.get('content-disposition'), /^attachment;/);
  t.ok((await whole.text()) === body, 'byte for byte');
  t.equal((await ada.send('/console/deliveries/dlv_none/body')).status, 404);
  const cookie = ((await ada.login('ada', 'ada')).headers.get('set-cookie') ?? '').split(';')[0] as string;
  const status = async () => (await ada.send('/console/actions')).status;
  const sockets: Socket[] = [];
  await until('clients that do not read what they asked for use up the eight requests of their role', async () => {
    if ((await status()) === 503) return true;
    const socket = connect(port, '127.0.0.1').pause();
    socket.write(`GET /console/deliveries/${id}/body HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\n\r\n`);
    sockets.push(socket);
    return false;
  });
  t.ok(sockets.length >= 8, `${sockets.length}`);
  const vera = client();
  await vera.login('vera', 'vera');
  t.equal((await vera.send('/console/actions')).status, 200);
  for (const socket of sockets) socket.destroy();
  await until('they are gone', async () => (await status()) === 200);
  t.equal((await client().send(`/console/deliveries/${id}/body`)).status, 303, 'for people who are logged in');
});

t.test('an endpoint shows its pace: in flight at once, and rates', async t => {
  const { client } = await openConsole(t, url);
  const ada = client();
  await ada.login('ada', 'ada');
  await sql`insert into collecta.endpoint_flow (endpoint_id, pace, max_per_second, learned_per_second)
    values (${example.endpointId}, 2, 40, 12.5) on conflict on constraint endpoint_flow_pkey
    do update set pace = 2, max_per_second = 40, learned_per_second = 12.5`;
  const [{ most } = {}] =
    await sql`select max_in_flight as most from collecta.endpoints where endpoint_id = ${example.endpointId}`;
  for (const path of ['endpoints', `endpoints/${example.endpointId}`]) {
    const page = await ada.text(`/console/${path}`);
    for (const text of [`2 of ${most} at once`, '40 a second', '12.5 a second, learned']) t.match(page, text, path);
  }
});
