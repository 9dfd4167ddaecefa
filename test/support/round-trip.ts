import { createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { readConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { dispatch } from '../../src/outbound/dispatcher.ts';
import type { Database } from './database.ts';
import { closeAgent, post, startReceiving } from './inbound.ts';
import { until } from './runner.ts';

t.teardown(() => closeAgent());

export type RoundTrip = {
  /** Text that the database can hold, with the letters that the test is about. */
  word?: string;
  /** The answer of the receiver. At the path /fails it is sent with status 500. */
  answer?: Uint8Array;
  /** Adds a column of each of these types, with a value given as SQL. */
  columns?: Record<string, [type: string, value: string]>;
};

/** Ids, tokens, times and ports differ from run to run. */
const stripped = (text: string) =>
  text
    .replace(/\b([a-z]{3})_[0-9a-f]{32}/g, '$1_#')
    .replace(/(\\?)"(occurred_at|sequence)\\?":\s*(\\?"[^"\\]*\\?"|\d+)/g, '$1"$2$1":#')
    .replace(/127\.0\.0\.1:\d+/g, 'here')
    .replace(/sha256=[0-9a-f]{64}|v1,[A-Za-z0-9+/=]{44}|whsec_[A-Za-z0-9+/=]+|\b\d{10}\b/g, '#')
    .replace(/columns_of_\w+/g, 'a role');

/**
 * Does everything that a user does, once: attaches tables, creates endpoints of each kind, delivers and records
 * changes, with a failure, a replay and inbound. The runner and the receiving process run in this process. The result
 * holds everything observable without what differs from run to run, so that two results can be compared.
 */
export async function roundTrip(
  { url, sql }: Pick<Database, 'url' | 'sql'>,
  { word = 'plain', answer = Buffer.from('thanks'), columns = {} }: RoundTrip = {},
): Promise<string[]> {
  const seen: string[] = [];
  const received: { path: string; body: string; headers: Record<string, unknown> }[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => {
      const path = request.url!;
      received.push({ path, body: Buffer.concat(chunks).toString(), headers: request.headers });
      response.writeHead(path === '/fails' ? 500 : 200, { 'x-answer': 'yes' }).end(answer);
    });
  });
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const config = readConfig({
    DATABASE_URL: url,
    COLLECTA_ALLOW_HTTP: 'true',
    COLLECTA_ALLOW_DESTINATIONS: '127.0.0.0/8',
    COLLECTA_POLL_INTERVAL_MS: '100',
  });
  const stopping = new AbortController();
  const problems: string[] = [];
  const log = createLog('warn', line => problems.push(line));
  let ended: Promise<void> | undefined;
  let receiving: Awaited<ReturnType<typeof startReceiving>> | undefined;
  const rows = async (label: string, query: PromiseLike<readonly object[]>) => {
    for (const row of await query) seen.push(`${label} ${stripped(JSON.stringify(row))}`);
  };

  try {
    const extra = Object.entries(columns);
    await sql.unsafe(`
      create type stage as enum ('open', 'done');
      create table "Orders" (id text primary key, tenant text not null, stage stage, custom_data jsonb,
        tag text, touched int, quantity numeric(20, 5),
          ${extra.map(([name, [type]]) => `"${name}" ${type}, `).join('')}words text[]);
      create table pairs ("B" text, "a" int, "Z" text, primary key ("Z", "a", "B"));
      create role ${payloadRole(url)} nologin;
      grant select (id, quantity) on "Orders" to ${payloadRole(url)}`);
    await rows(
      'attached',
      sql`select collecta.attach_module('"Orders"', 'orders', status_column => 'stage',
        custom_data_column => 'custom_data',
        scope_column => 'tenant', ignore_columns => '{touched}')`,
    );
    await sql`select collecta.attach_module('pairs', 'pairs', key_columns => '{Z,a,B}')`;
    const everything = '{record_created,record_updated,record_deleted,status_change,custom_data_updated}';
    const endpoint = async (path: string, options = '') => {
      const [made] = await sql.unsafe(
        `select * from collecta.create_endpoint($1, $2::text[], name => $3 ${options && `, ${options}`})`,
        [origin + path, everything, path.slice(1)],
      );
      return made as unknown as { endpoint_id: string; secret: string };
    };
    const all = await endpoint('/all', `headers => '{"X-Mine": "a%b", "Authorization": "Bearer hush"}'`);
    await endpoint('/ordered', `ordered => true, modules => '{orders}'`);
    await endpoint('/filtered', `filter => '$.record.quantity > 10'`);
    await endpoint('/scoped', `scope => 'I'`);
    await endpoint('/columns', `payload_role => '${payloadRole(url)}', modules => '{orders}'`);
    const failing = await endpoint('/fails', `modules => '{pairs}', retry_max => 1`);
    ended = dispatch(config, log, stopping.signal);

    const names = extra.map(([name]) => `, "${name}"`).join('');
    const values = extra.map(([, [type, value]]) => `, ${value}::${type}`).join('');
    await sql.unsafe(
      `insert into "Orders" (id, tenant, stage, custom_data, quantity, words ${names})
       values ('i', 'I', 'open', json_build_object('word', $1::text)::jsonb, 12.50000,
         array[$1, null, 'NULL', '{"' || chr(92)] ${values}),
         ('I', 'i', 'open', null, 1, null ${extra.map(() => ', null').join('')})`,
      [word],
    );
    await sql`update "Orders" set touched = 1`;
    await sql.begin(async tx => {
      await tx`select set_config('collecta.context', ${JSON.stringify({ user: word })}, true)`;
      await tx`update "Orders" set stage = 'done', custom_data = '{"n": 1.10}' where id = 'i'`;
    });
    await sql`update "Orders" set id = ${`${word}1`} where id = 'I'`;
    await sql`delete from "Orders" where id = 'i'`;
    await sql`truncate "Orders"`;
    await sql`insert into pairs values (${word}, 7, 'z')`;
    await sql`select collecta.send_test_event(${all.endpoint_id})`;
    await until('all is recorded', async () => {
      const [left] =
        await sql`select (select count(*) from collecta.outbox)::int + (select count(*) from collecta.unrouted)::int
        + (select count(*) from collecta.delivery_queue where attempt = 0 or leased_until is not null)::int as count`;
      return left!.count === 0;
    });
    await until('the failure is recorded', async () => {
      const failed = await sql`select from collecta.webhook_deliveries where endpoint_id = ${failing.endpoint_id}`;
      return failed.length === 1;
    });
    await rows(
      'attempt',
      sql`select e.name, module, event, record_id, attempt, d.url, request_headers, request_body, outcome,
        response_status,
          response_headers ->> 'x-answer' as answered, response_body, d.error,
          extract(epoch from next_attempt_at - finished_at)::int as waits
        from collecta.webhook_deliveries d join collecta.endpoints e using (endpoint_id)
        order by e.name, request_body::json ->> 'sequence', d.id`,
    );
    const [first] = await sql`select id, event_id from collecta.webhook_deliveries
      where endpoint_id = ${all.endpoint_id} and event = 'record_created' order by id limit 1`;
    await sql`select collecta.replay_delivery(${first!.id})`;
    const replayed = await until('the replay is recorded', async () => {
      const found = await sql`select attempt, outcome, replay_of is not null as replay, request_body
        from collecta.webhook_deliveries where event_id = ${first!.event_id} and endpoint_id = ${all.endpoint_id}
          and replay_of is not null`;
      return found.length > 0 && found;
    });
    await rows('replay', Promise.resolve(replayed));
    await sql`select collecta.pause_endpoint(${all.endpoint_id}, 'a look')`;
    await sql`select collecta.rotate_secret(${all.endpoint_id}, '1 hour')`;
    await sql`select collecta.update_endpoint(${all.endpoint_id}, retry_base => '2 minutes')`;
    await sql`select collecta.resume_endpoint(${all.endpoint_id})`;
    await sql`select collecta.route_again()`;

    const [inbound] = await sql`select * from collecta.create_inbound_endpoint('orders',
      '{"$.payload.id": "id", "$.payload[''Tag I'']": "tag", "tenant": {"constant": "I"},
        "$.payload.n": "quantity", "words": {"path": "$.payload.words"}}'::text::jsonb,
      match_columns => '{id}', require_signature => true)`;
    receiving = await startReceiving({ url } as Database);
    const { port } = receiving;
    const send = async (body: string, headers: Record<string, string> = {}) => {
      const signature = `sha256=${createHmac('sha256', inbound!.secret).update(body).digest('hex')}`;
      const reply = await post(port, inbound!.path, body, { 'x-webhook-signature': signature, ...headers });
      seen.push(`inbound ${reply.status} ${stripped(reply.text)}`);
    };
    const payload = (n: string) =>
      JSON.stringify({ payload: { id: `${word}2`, 'Tag I': 't', n: 0, words: [word, null, 'NULL'] } }).replace(
        '"n":0',
        `"n":${n}`,
      );
    await send(payload('12345678901234.5'), { 'idempotency-key': 'k' });
    await send(payload('12345678901234.5'), { 'idempotency-key': 'k' });
    await send(payload('2.50'));
    await send(payload('"many"'));
    await send('{"payload"', {});
    await rows(
      'kept',
      sql`select state, operation, record_id, reason, body from collecta.inbound_requests order by request_id`,
    );
    await sql`select collecta.retry_inbound(request_id) from collecta.inbound_requests where state = 'failed'`;
    await until('the request was run again', async () => {
      const [left] = await sql`select count(*)::int as count from collecta.inbound_requests where state = 'retry'`;
      return left!.count === 0;
    });
    await rows('record', sql`select id, tenant, quantity, words from "Orders" order by id collate "C"`);
    await rows(
      'mapping',
      sql`select * from collecta.test_inbound_mapping(${inbound!.inbound_endpoint_id}, '{"payload": {"id": "x"}}')`,
    );
    await sql`select collecta.rotate_inbound_token(${inbound!.inbound_endpoint_id}, '1 hour')`;
    await until('what inbound wrote is delivered', async () => {
      const [left] = await sql`select (select count(*) from collecta.outbox)::int
        + (select count(*) from collecta.delivery_queue where attempt = 0 or leased_until is not null)::int as count`;
      return left!.count === 0;
    });
    await rows('maintained', sql`select done from collecta.maintain()`);
    await rows(
      'health',
      sql`select severity, problem, subject from collecta.health order by severity, problem, subject`,
    );
    await rows('refusal', Promise.resolve(await refusals(sql)));
    await sql`select collecta.detach_module('pairs')`;
    await sql`select collecta.delete_inbound_endpoint(${inbound!.inbound_endpoint_id})`;
    await sql`select collecta.delete_endpoint(${failing.endpoint_id})`;
    await rows('endpoint', sql`select name, state, url, modules from collecta.endpoints order by name collate "C"`);
    for (const { path, body } of received) seen.push(`request ${path} ${stripped(body)}`);
  } finally {
    stopping.abort();
    await Promise.all([ended, receiving?.stop()]);
    server.close();
    server.closeAllConnections();
  }
  return [...seen.map((line, index) => [/^(attempt|request) /.test(line) ? 0 : index + 1, line] as const)]
    .sort(([a, one], [b, other]) => a - b || (one < other ? -1 : 1))
    .map(([, line]) => line)
    .concat(problems.map(stripped));
}

const payloadRole = (url: string) => `columns_of_${url.slice(url.lastIndexOf('/') + 1)}`;

/** The SQLSTATEs of what must be refused in every database by the same rule. */
async function refusals(sql: Database['sql']): Promise<object[]> {
  const states: object[] = [];
  for (const header of [
    'HOST',
    'TRANSFER-ENCODING',
    'X-WEBHOOK-SIGNATURE',
    'Content-Type',
    'KEEP-ALIVE',
    'CONNECTION',
    'TRAILER',
  ])
    states.push(
      await sqlstate(
        sql`select collecta.create_endpoint('https://example.com/', '{record_created}',
      headers => json_build_object(${header}::text, 'x')::jsonb)`,
        header,
      ),
    );
  for (const slug of ['ORDERS', 'a b'])
    states.push(await sqlstate(sql`select collecta.attach_module('pairs', ${slug})`, 'slug'));
  for (const path of ['$..a', `$['a^b']`, `$['a\u0001']`])
    states.push(
      await sqlstate(
        sql`select collecta.create_inbound_endpoint('orders',
      json_build_object(${path}::text, 'id')::jsonb, '{id}')`,
        path,
      ),
    );
  for (const target of ['ftp://x/', 'https://exa mple.com/', 'https://u@x/', 'HTTPS://x/', 'https://x/#f'])
    states.push(await sqlstate(sql`select collecta.create_endpoint(${target}, '{record_created}')`, target));
  return states;
}

async function sqlstate(statement: PromiseLike<unknown>, label: string): Promise<object> {
  try {
    await statement;
    return { what: label, sqlstate: null };
  } catch (error) {
    const { code, hint } = error as { code?: string; hint?: string };
    return { what: label.normalize('NFKD').replace(/[^ -~]/g, '?'), sqlstate: code, hint };
  }
}
