import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { connect, describeDatabase, parseDatabaseUrl } from '../../src/database/connect.ts';
import { useServer } from '../support/database.ts';
import { probe } from '../support/tls-probe.ts';

const directory = mkdtempSync(join(tmpdir(), 'collecta-tls-'));
chmodSync(directory, 0o755);
const file = (name: string) => join(directory, name);

function openssl(...args: string[]) {
  execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
}

function makeAuthority(name: string) {
  openssl(
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.crt`,
    '-days',
    '2',
    '-subj',
    `/CN=${name}`,
  );
}

function makeCertificate(name: string, subject: string, alternative: string) {
  writeFileSync(file(`${name}.ext`), `subjectAltName=${alternative}\n`);
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject);
  openssl(
    'x509',
    '-req',
    '-in',
    `${name}.csr`,
    '-CA',
    'ca.crt',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-out',
    `${name}.crt`,
    '-days',
    '2',
    '-extfile',
    `${name}.ext`,
  );
}

makeAuthority('ca');
makeAuthority('other');
makeCertificate('server', '/CN=server', 'DNS:localhost');
makeCertificate('client', '/CN=postgres', 'DNS:client');

const { server, admin } = await useServer();
const plain = await useServer(['-c', 'ssl=off']);
t.teardown(() => rmSync(directory, { recursive: true, force: true }));

if (process.getuid?.() === 0) {
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  chownSync(file('server.key'), id('-u'), id('-g'));
}
chmodSync(file('server.key'), 0o600);
await admin.unsafe(`alter system set ssl_cert_file = '${file('server.crt')}'`);
await admin.unsafe(`alter system set ssl_key_file = '${file('server.key')}'`);
await admin.unsafe(`alter system set ssl_ca_file = '${file('ca.crt')}'`);
await admin.unsafe('alter system set ssl = on');
await admin`select pg_reload_conf()`;

const url = (host: string, query: string, port = server.port) =>
  `postgres://postgres:postgres@${host}:${port}/postgres?${query}`;
const ca = `sslrootcert=${encodeURIComponent(file('ca.crt'))}`;
const other = `sslrootcert=${encodeURIComponent(file('other.crt'))}`;

const cases: [what: string, url: string, outcome: string][] = [
  ['disable', url('localhost', 'sslmode=disable'), 'plain'],
  ['nothing said: prefer', url('localhost', ''), 'tls'],
  ['allow', url('localhost', 'sslmode=allow'), 'tls'],
  ['prefer', url('localhost', 'sslmode=prefer'), 'tls'],
  ['require, unknown authority', url('localhost', 'sslmode=require'), 'tls'],
  ['require, another name', url('127.0.0.1', 'sslmode=require'), 'tls'],
  ['require, with its authority', url('localhost', `sslmode=require&${ca}`), 'tls'],
  ['require, with its authority, another name', url('127.0.0.1', `sslmode=require&${ca}`), 'tls'],
  ['require, with another authority', url('localhost', `sslmode=require&${other}`), 'refused'],
  ['verify-ca', url('localhost', `sslmode=verify-ca&${ca}`), 'tls'],
  ['verify-ca, another name', url('127.0.0.1', `sslmode=verify-ca&${ca}`), 'tls'],
  ['verify-ca, another authority', url('localhost', `sslmode=verify-ca&${other}`), 'refused'],
  ['verify-ca, no root certificate named, private authority', url('localhost', 'sslmode=verify-ca'), 'refused'],
  ['verify-full', url('localhost', `sslmode=verify-full&${ca}`), 'tls'],
  ['verify-full, another name', url('127.0.0.1', `sslmode=verify-full&${ca}`), 'refused'],
  ['verify-full, another authority', url('localhost', `sslmode=verify-full&${other}`), 'refused'],
  ['sslrootcert=system, private authority', url('localhost', 'sslrootcert=system'), 'refused'],
  [
    'a client certificate',
    url(
      'localhost',
      `sslmode=verify-full&${ca}&sslcert=${encodeURIComponent(file('client.crt'))}` +
        `&sslkey=${encodeURIComponent(file('client.key'))}`,
    ),
    'tls /CN=postgres',
  ],
  [
    'a Unix socket, whatever sslmode says',
    `postgres://postgres:postgres@%2Ftmp:${server.port}/postgres?sslmode=verify-full`,
    'plain',
  ],
  [
    'a Unix socket as a parameter',
    `postgres:///postgres?host=/tmp&port=${server.port}&user=postgres&password=postgres`,
    'plain',
  ],
  ['server without TLS: prefer', url('localhost', 'sslmode=prefer', plain.server.port), 'plain'],
  ['server without TLS: require', url('localhost', 'sslmode=require', plain.server.port), 'refused'],
  ['server without TLS: verify-full', url('localhost', `sslmode=verify-full&${ca}`, plain.server.port), 'refused'],
];

t.test('both drivers treat sslmode as libpq does', async t => {
  for (const [title, target, outcome] of cases) {
    const { why, ...found } = await probe(target);
    t.strictSame(found, { postgres: outcome, pg: outcome }, `${title}: ${outcome} ${why}`);
    t.notMatch(why, 'postgres:postgres');
  }
});

t.test('both drivers treat sslmode as libpq does on Deno too', async t => {
  const output = execFileSync(
    'npx',
    [
      'deno',
      'run',
      '--allow-net',
      '--allow-env',
      '--allow-read',
      '--allow-write=/tmp', // Deno's permission for a Unix socket
      '--allow-sys',
      'test/support/tls-probe.ts',
      '--print',
      ...cases.map(([, target]) => target),
    ],
    { encoding: 'utf8' },
  );
  const found = output
    .trim()
    .split('\n')
    .map(line => JSON.parse(line));
  for (const [index, [title, , outcome]] of cases.entries())
    t.match(found[index], { postgres: outcome, pg: outcome }, `${title}: ${outcome} ${found[index]?.why}`);
});

t.test('a URL is read as libpq reads it', async t => {
  t.match(
    parseDatabaseUrl(
      'postgresql://a%40b:p%2Fw%3Fx@[::1]:6000/d%20b?' +
        'application_name=mine&connect_timeout=3&options=-c%20jit%3Doff&sslmode=disable',
    ),
    {
      hosts: [{ host: '::1', port: 6000 }],
      user: 'a@b',
      password: 'p/w?x',
      database: 'd b',
      tls: false,
      applicationName: 'mine',
      connectTimeoutSeconds: 3,
      options: '-c jit=off',
    },
  );
  t.match(parseDatabaseUrl('postgres://u@h1:1,h2,[::2]:3/d?target_session_attrs=read-write'), {
    hosts: [
      { host: 'h1', port: 1 },
      { host: 'h2', port: 5432 },
      { host: '::2', port: 3 },
    ],
    targetSessionAttributes: 'read-write',
    tls: 'prefer',
  });
  t.match(parseDatabaseUrl('postgres://u#x:p#y@h/d'), { user: 'u#x', password: 'p#y' });
  t.match(parseDatabaseUrl('postgres://u@/'), { hosts: [{ host: 'localhost', port: 5432 }], database: 'u' });
  t.equal(describeDatabase('postgres://u:secret@[::1]:1/d'), '[::1]:1/d');
  for (const bad of [
    'mysql://u:sekret@h/d',
    'postgres://u:sek/ret@h/d',
    'postgres://u:sekret@h:port/d',
    'postgres://u:sekret@h:70000/d',
    'postgres://u:sekret@h/d?sslmode=sekret',
    'postgres://u:sekret@h/d?pgbouncer=sekret',
    'postgres://u:sekret@h/d?channel_binding=require',
    'postgres://u:sekret%zz@h/d',
    'postgres://u:sekret@h/d?sslmode=verify-ca&sslrootcert=/nowhere.crt',
  ])
    try {
      t.fail(`${bad} was read: ${JSON.stringify(parseDatabaseUrl(bad))}`);
    } catch (error) {
      t.notMatch((error as Error).message, /sekret|sek\/ret/);
    }
});

t.test('bigint, numeric and timestamps come as PostgreSQL prints them', async t => {
  const sql = connect(url('localhost', ''), { max: 1 });
  t.teardown(() => sql.end());
  await sql`set timezone = 'UTC'`;
  const [row] = await sql`select 9007199254740993 as big, 0.1000000000000000000000000000001 as exact,
    timestamptz '2026-11-24 15:04:05.123456Z' as at, ${new Date(0)}::timestamptz as sent,
    current_setting('application_name') as name`;
  t.strictSame(row, {
    big: '9007199254740993',
    exact: '0.1000000000000000000000000000001',
    at: '2026-11-24 15:04:05.123456+00',
    sent: '1970-01-01 00:00:00+00',
    name: 'collecta-webhooks',
  });
});
