import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import {
  ConfigError,
  type Environment,
  readConfig,
  readSettings,
  unknownVariables,
  variableNames,
  variables,
} from '../../src/config.ts';
import { parseDatabaseUrl } from '../../src/database/url.ts';
import { createLog } from '../../src/log.ts';

const DATABASE_URL = 'postgres://user:sekret@db.example.com/app';

function problems(env: Environment, read: (env: Environment) => unknown = readConfig): string {
  try {
    return `accepted: ${JSON.stringify(read(env))}`;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message;
  }
}

t.test('without variables the documented defaults apply', async t => {
  t.strictSame(readConfig({ DATABASE_URL, COLLECTA_PORT: '' }), {
    databases: undefined,
    concurrency: 50,
    pollIntervalMs: 1000,
    idle: 'keep',
    idleAfterMs: 60_000,
    idleIntervalHours: 12,
    wakeToken: undefined,
    stopTimeoutMs: 10_000,
    allowHttp: false,
    allowDestinations: [],
    dnsServers: [],
    nat64Prefixes: [],
    host: '127.0.0.1',
    port: 8080,
    trustedProxies: 0,
    publicUrl: undefined,
    operationsHost: '127.0.0.1',
    operationsPort: undefined,
    consolePath: '/console',
    consoleTrustHeader: undefined,
    consoleTrustFrom: ['127.0.0.0/8', '::1'],
    metricsEndpoints: 100,
    environment: undefined,
    secretKey: undefined,
    secret: undefined,
    logLevel: 'info',
    databaseUrl: DATABASE_URL,
    listenUrl: DATABASE_URL,
  });
});

t.test('every variable is read and converted', async t => {
  t.match(
    readConfig({
      DATABASE_URL,
      COLLECTA_LISTEN_URL: 'postgres://u@direct/app',
      COLLECTA_CONCURRENCY: '7',
      COLLECTA_POLL_INTERVAL_MS: '250',
      COLLECTA_STOP_TIMEOUT_MS: '0',
      COLLECTA_ALLOW_HTTP: 'true',
      COLLECTA_ALLOW_DESTINATIONS: ' 10.0.0.0/8, fd00::/8,::1,hooks.internal ,',
      COLLECTA_DNS_SERVERS: '127.0.0.1:5353,[::1]:53,::1',
      COLLECTA_HOST: '::',
      COLLECTA_PORT: '0',
      COLLECTA_TRUSTED_PROXIES: '1',
      COLLECTA_OPERATIONS_PORT: '9090',
      COLLECTA_ENVIRONMENT: 'staging',
      COLLECTA_SECRET_KEY: `${Buffer.alloc(32).toString('base64')},${Buffer.alloc(32, 1).toString('base64')}`,
      COLLECTA_SECRET: 's',
      COLLECTA_LOG_LEVEL: 'debug',
    }),
    {
      listenUrl: 'postgres://u@direct/app',
      concurrency: 7,
      pollIntervalMs: 250,
      stopTimeoutMs: 0,
      allowHttp: true,
      allowDestinations: ['10.0.0.0/8', 'fd00::/8', '::1', 'hooks.internal'],
      dnsServers: ['127.0.0.1:5353', '[::1]:53', '::1'],
      host: '::',
      port: 0,
      trustedProxies: 1,
      operationsPort: 9090,
      environment: 'staging',
      secretKey: `${Buffer.alloc(32).toString('base64')},${Buffer.alloc(32, 1).toString('base64')}`,
      secret: 's',
      logLevel: 'debug',
    },
  );
});

t.test('an error names the variable, what is wrong and an example', async t => {
  const wrong: Environment = {
    DATABASE_URL: 'db.example.com',
    COLLECTA_LISTEN_URL: 'postgres://u@h/d?sslmode=on',
    COLLECTA_CONCURRENCY: '0',
    COLLECTA_POLL_INTERVAL_MS: '1s',
    COLLECTA_IDLE: 'sleep',
    COLLECTA_IDLE_AFTER_MS: '5',
    COLLECTA_IDLE_INTERVAL_HOURS: '72',
    COLLECTA_STOP_TIMEOUT_MS: '-1',
    COLLECTA_ALLOW_HTTP: 'yes',
    COLLECTA_ALLOW_DESTINATIONS: '10.0.0.0/33',
    COLLECTA_DNS_SERVERS: 'resolver.internal',
    COLLECTA_PORT: '65536',
    COLLECTA_TRUSTED_PROXIES: '17',
    COLLECTA_CONSOLE_TRUST_FROM: 'proxy.internal',
    COLLECTA_OPERATIONS_PORT: '0x50',
    COLLECTA_ENVIRONMENT: 'x'.repeat(64),
    COLLECTA_LOG_LEVEL: 'verbose',
  };
  const lines = problems(wrong).split('\n');
  t.equal(lines.length, Object.keys(wrong).length, 'all at once');
  for (const [name, value] of Object.entries(wrong)) {
    const line = lines.find(each => each.startsWith(`${name} `)) ?? '';
    t.match(line, `for example ${name}=`);
    if (!name.endsWith('_URL')) t.match(line, JSON.stringify(value));
  }
  for (const destination of ['010.0.0.0/8', '10.0.0', '127.1', 'https://a.example', 'a.example:80', '*', '10.0.0.1/'])
    t.match(
      problems({ DATABASE_URL, COLLECTA_ALLOW_DESTINATIONS: destination }),
      /^COLLECTA_ALLOW_DESTINATIONS must be/,
      destination,
    );
});

t.test('DATABASE_URL may be missing, name several hosts, or take any form that psql accepts', async t => {
  t.match(problems({}), /^DATABASE_URL \(or DATABASE_URL_FILE\) is not set, for example DATABASE_URL=postgres:/);
  t.match(readSettings({}), { concurrency: 50 }, 'not every command needs one');
  const several = 'postgres://u:sekret@a,b/app';
  t.match(readConfig({ DATABASE_URL: several }), { databaseUrl: several, listenUrl: several });
  const read = (env: Environment) => {
    const { databaseUrl, listenUrl } = readConfig(env);
    t.equal(listenUrl, databaseUrl);
    const { hosts, user, password, database } = parseDatabaseUrl(databaseUrl);
    return { hosts, user, password, database };
  };
  const expected = { hosts: [{ host: 'h', port: 6000 }], user: 'u', password: 'p w', database: 'd' };
  t.strictSame(read({ DATABASE_URL: `host=h port=6000 user=u password='p w' dbname=d` }), expected);
  t.strictSame(read({ PGHOST: 'h', PGPORT: '6000', PGUSER: 'u', PGPASSWORD: 'p w', PGDATABASE: 'd' }), expected);
  t.strictSame(read({ DATABASE_URL: 'postgres://u:p%20w@h/d', PGPORT: '6000', PGUSER: 'other' }), expected);
  t.match(
    problems({ DATABASE_URL, PGHOSTADDR: '10.0.0.1' }),
    /DATABASE_URL has the unknown or unsupported parameter "hostaddr"/,
  );
  t.notMatch(problems({ DATABASE_URL: "host=h password='sekret dbname=d" }), /sekret/);
});

t.test('an unknown variable is reported together with the nearest known name', async t => {
  t.strictSame(unknownVariables(['PATH', 'COLLECTA_PORT', 'COLLECTA_SECRET_FILE', 'DATABASE_URL_FILE', 'PGHOST']), []);
  for (const [wrong, nearest] of [
    ['COLLECTA_CONCURENCY', 'COLLECTA_CONCURRENCY'],
    ['COLLECTA_POLL_INTERVAL', 'COLLECTA_POLL_INTERVAL_MS'],
    ['COLLECTA_LOGLEVEL', 'COLLECTA_LOG_LEVEL'],
    ['COLLECTA_DATABASE_URL', 'DATABASE_URL'],
  ])
    t.match(unknownVariables([wrong!]), [new RegExp(`^${wrong} is not a setting.* the nearest is ${nearest}`)]);
});

t.test('a variable NAME_FILE names the file that holds the value', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'collecta-config-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = (name: string, content: string) => {
    writeFileSync(join(directory, name), content);
    return join(directory, name);
  };
  t.match(
    readConfig({
      DATABASE_URL_FILE: file('url', `${DATABASE_URL}\n`),
      COLLECTA_LISTEN_URL_FILE: file('listen', 'postgres://u@direct/app\r\n'),
      COLLECTA_SECRET_KEY_FILE: file('key', `${Buffer.alloc(32).toString('base64')} `),
      COLLECTA_SECRET_FILE: file('secret', ' s\n\n'),
    }),
    {
      databaseUrl: DATABASE_URL,
      listenUrl: 'postgres://u@direct/app',
      secretKey: `${Buffer.alloc(32).toString('base64')} `,
      secret: ' s\n',
    },
    'one line feed at the end is the file’s, the rest is the secret’s',
  );
  t.match(
    problems({ DATABASE_URL_FILE: join(directory, 'none') }),
    /^DATABASE_URL_FILE cannot be read: ENOENT.*for example DATABASE_URL_FILE=/,
  );
  t.match(problems({ DATABASE_URL_FILE: file('empty', '\n') }), /^DATABASE_URL_FILE names an empty file/);
  t.match(
    problems({ DATABASE_URL, DATABASE_URL_FILE: file('both', 'x') }),
    /^DATABASE_URL and DATABASE_URL_FILE are both set/,
  );
  t.match(problems({ DATABASE_URL_FILE: file('bad', 'mysql://u:sekret@h') }), /^DATABASE_URL is not a PostgreSQL URL/);
  t.strictSame(
    variableNames.filter(name => name.endsWith('_FILE')),
    [
      'DATABASE_URL_FILE',
      'COLLECTA_LISTEN_URL_FILE',
      'COLLECTA_WAKE_TOKEN_FILE',
      'COLLECTA_SECRET_KEY_FILE',
      'COLLECTA_SECRET_FILE',
    ],
  );
});

t.test('no secret is echoed', async t => {
  const secrets = {
    DATABASE_URL: 'postgres://u:sekret@h:x/d',
    COLLECTA_LISTEN_URL: 'sekret',
    COLLECTA_SECRET: 'sekret',
    COLLECTA_WAKE_TOKEN: 'sekret',
    COLLECTA_SECRET_KEY: 'sekret',
  };
  t.notMatch(problems({ ...secrets, COLLECTA_PORT: 'x' }), 'sekret');
  for (const [name, { secret }] of Object.entries<{ secret?: true }>(variables))
    t.equal(secret ?? false, name in secrets, `${name}: ${secret ? 'never shown' : 'shown'}`);
});

t.test('the log has one JSON line for each event at or above its level', async t => {
  const lines: string[] = [];
  const log = createLog('warn', line => lines.push(line));
  log.debug('a');
  log.info('b');
  log.warn('c', { endpoint: 'x\ny', attempt: 2, status: null });
  log.error('d');
  t.equal(lines.length, 2);
  t.match(JSON.parse(lines[0] ?? ''), {
    level: 'warn',
    event: 'c',
    endpoint: 'x\ny',
    attempt: 2,
    status: null,
    time: /^\d{4}-.*Z$/,
  });
  t.match(lines[0], /^[^\n]*\n$/);
});
