import { execFileSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { connect } from '../../src/database/connect.ts';
import { completeUrl } from '../../src/database/parameters.ts';
import { useServer } from '../support/database.ts';

const { server, admin, database } = await useServer();
const { name } = await database('empty');
await admin.unsafe(`create role "o'brien" login superuser password 'p @ w'`);
const { port } = server;
const directory = t.testdir();
const file = (path: string, text: string, mode = 0o600) => {
  writeFileSync(join(directory, path), text);
  chmodSync(join(directory, path), mode);
  return join(directory, path);
};
const service = file(
  'service.conf',
  `# comment
[other]
dbname=postgres

[mine]
host=127.0.0.1
port=${port}
user=postgres
password=postgres
dbname=${name}
[last]
port=1
`,
);
const passwords = `# comment\nelsewhere:*:*:*:no\n127.0.0.1:${port}:*:postgres:postgres\n*:*:${name}:o'brien:p @ w\n`;
const passfile = file('pgpass', passwords);
const openToAll = file('pgpass-open', passwords, 0o644);

type Env = Record<string, string>;
const cases: [what: string, text: string, env: Env][] = [
  ['a URL', `postgres://postgres:postgres@127.0.0.1:${port}/${name}`, {}],
  ['postgresql://', `postgresql://postgres:postgres@127.0.0.1:${port}/${name}`, {}],
  ['pairs', `host=127.0.0.1 port=${port} user=postgres password=postgres dbname=${name}`, {}],
  [
    'pairs with quotes and spaces',
    ` host = '127.0.0.1'  port=${port} user = 'o\\'brien' password='p @ w' dbname=${name} `,
    {},
  ],
  ['pairs with a backslash', `host=127.0.0.1 port=${port} user=o\\'brien password=p\\ @\\ w dbname=${name}`, {}],
  ['an escaped URL', `postgres://o%27brien:p%20%40%20w@127.0.0.1:${port}/${name}`, {}],
  ['several hosts, the first of them silent', `postgres://postgres:postgres@127.0.0.1:1,127.0.0.1:${port}/${name}`, {}],
  [
    'several hosts in pairs',
    `host=127.0.0.1,127.0.0.1 port=1,${port} user=postgres password=postgres dbname=${name}`,
    {},
  ],
  ['read-write', `postgres://postgres:postgres@127.0.0.1:${port}/${name}?target_session_attrs=read-write`, {}],
  ['a service', `service=mine`, { PGSERVICEFILE: service }],
  ['a service in a URL', `postgres://?service=mine`, { PGSERVICEFILE: service }],
  ['what is written beside a service counts', `service=mine dbname=postgres`, { PGSERVICEFILE: service }],
  ['PGSERVICE', `dbname=${name}`, { PGSERVICE: 'mine', PGSERVICEFILE: service }],
  [
    'PGHOST and its siblings',
    '',
    { PGHOST: '127.0.0.1', PGPORT: `${port}`, PGUSER: 'postgres', PGPASSWORD: 'postgres', PGDATABASE: name },
  ],
  [
    'what is written counts before PGDATABASE',
    `postgres://postgres:postgres@127.0.0.1/${name}`,
    { PGPORT: `${port}`, PGDATABASE: 'postgres', PGUSER: 'nobody' },
  ],
  [
    'the socket in PGHOST',
    `postgres:///${name}`,
    { PGHOST: '/tmp', PGPORT: `${port}`, PGUSER: 'postgres', PGPASSWORD: 'postgres' },
  ],
  ['a password file', `postgres://postgres@127.0.0.1:${port}/${name}`, { PGPASSFILE: passfile }],
  ['a password file in pairs', `host=127.0.0.1 port=${port} user=o\\'brien dbname=${name} passfile=${passfile}`, {}],
  ['PGOPTIONS', `postgres://postgres:postgres@127.0.0.1:${port}/${name}`, { PGOPTIONS: '-c work_mem=7MB' }],
  ['PGAPPNAME', `postgres://postgres:postgres@127.0.0.1:${port}/${name}`, { PGAPPNAME: 'mine' }],
  ['a password file that others may read', `postgres://postgres@127.0.0.1:${port}/${name}`, { PGPASSFILE: openToAll }],
  ['no such service', `service=none`, { PGSERVICEFILE: service }],
  ['a host that does not answer', `postgres://postgres:postgres@127.0.0.1:1/${name}`, {}],
];

const question = `select concat_ws('|', current_user, current_database(), current_setting('work_mem'),
  case when inet_server_addr() is null then 'socket' else 'tcp' end,
  nullif(nullif(current_setting('application_name'), 'psql'), 'collecta-webhooks'))`;

t.test('a connection string means the same here as in psql', async t => {
  for (const [title, text, env] of cases) {
    let expected = 'refused';
    try {
      const environment = { PATH: process.env.PATH, HOME: directory, ...env };
      expected = execFileSync('psql', ['-XAtw', '-d', text, '-c', question], { env: environment, stdio: 'pipe' })
        .toString()
        .trim();
    } catch {}
    let found = 'refused';
    try {
      const sql = connect(completeUrl(text, { PGPASSFILE: '/nowhere', ...env }), { max: 1 });
      const [row] = await sql.unsafe(question).finally(() => sql.end({ timeout: 1 }));
      found = row!.concat_ws;
    } catch (error) {
      t.notMatch((error as Error).message, /p @ w|password=/, `${title}: no secret in ${(error as Error).message}`);
    }
    t.equal(found, expected, `${title}: ${expected}`);
  }
});

t.test('a libpq parameter that is not supported is refused by name', async t => {
  for (const [text, env, named] of [
    ['postgres://h/d?hostaddr=10.0.0.1', {}, 'hostaddr'],
    ['host=h require_auth=scram-sha-256', {}, 'require_auth'],
    ['host=h', { PGHOSTADDR: '10.0.0.1' }, 'hostaddr'],
    ['host=h', { PGSSLCRL: '/x' }, 'sslcrl'],
    ['host=h', { PGLOADBALANCEHOSTS: 'random' }, 'load_balance_hosts'],
    ['host=h', { PGSSLMINPROTOCOLVERSION: 'TLSv1.3' }, 'ssl_min_protocol_version'],
  ] as [string, Env, string][])
    t.throws(() => connect(completeUrl(text, env)), { message: `has the unknown or unsupported parameter "${named}"` });
});
