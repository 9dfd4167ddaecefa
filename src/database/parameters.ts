import { readFileSync, statSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';

/** Connection parameters by the names that libpq gives them, such as `host` or `sslmode`. */
export type Parameters = Map<string, string>;
type Environment = Readonly<Record<string, string | undefined>>;

/** The environment variables from which libpq takes a parameter that the connection string does not name. */
const environmentParameters: Readonly<Record<string, string>> = {
  PGHOST: 'host',
  PGHOSTADDR: 'hostaddr',
  PGPORT: 'port',
  PGDATABASE: 'dbname',
  PGUSER: 'user',
  PGPASSWORD: 'password',
  PGPASSFILE: 'passfile',
  PGSERVICE: 'service',
  PGOPTIONS: 'options',
  PGAPPNAME: 'application_name',
  PGCONNECT_TIMEOUT: 'connect_timeout',
  PGTARGETSESSIONATTRS: 'target_session_attrs',
  PGLOADBALANCEHOSTS: 'load_balance_hosts',
  PGCHANNELBINDING: 'channel_binding',
  PGREQUIREAUTH: 'require_auth',
  PGREQUIREPEER: 'requirepeer',
  PGSSLMODE: 'sslmode',
  PGSSLNEGOTIATION: 'sslnegotiation',
  PGSSLROOTCERT: 'sslrootcert',
  PGSSLCERT: 'sslcert',
  PGSSLKEY: 'sslkey',
  PGSSLCRL: 'sslcrl',
  PGSSLCRLDIR: 'sslcrldir',
  PGSSLMINPROTOCOLVERSION: 'ssl_min_protocol_version',
  PGSSLMAXPROTOCOLVERSION: 'ssl_max_protocol_version',
};

/** All variables that `completeUrl` reads. */
export const libpqVariables: readonly string[] = [
  ...Object.keys(environmentParameters),
  'PGSERVICEFILE',
  'PGSYSCONFDIR',
];
/** Any one of these variables says which database is meant. */
const databaseVariables = ['PGHOST', 'PGHOSTADDR', 'PGSERVICE', 'PGDATABASE'];

/** Whether the environment alone says which database is meant, as it does for `psql` without arguments. */
export const environmentNamesDatabase = (env: Environment): boolean => databaseVariables.some(name => env[name]);

/**
 * Parses a connection string: a URL, or `name=value` pairs. Throws an Error if it is malformed. The messages quote
 * nothing of the string, since it may contain a password.
 */
export function readParameters(text: string): Parameters {
  const trimmed = text.trim();
  if (/^postgres(ql)?:\/\//.test(trimmed)) return readUrl(trimmed);
  if (trimmed === '' || /^\w+\s*=/.test(trimmed)) return readPairs(trimmed);
  throw new Error(`is not a PostgreSQL URL, nor pairs such as host=… dbname=…`);
}

function readUrl(url: string): Parameters {
  const match = /^\w+:\/\/(?:([^:@/?]*)(?::([^@/]*))?@)?([^@/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(url);
  if (!match) throw new Error('is not a PostgreSQL URL (special characters in the password must be percent-encoded)');
  const [, user = '', password = '', authority = '', database = '', query = ''] = match;
  const hosts = authority.split(',').map(part => {
    const pair = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*))(?::(.*))?$/.exec(part);
    if (!pair) throw new Error('has a host that cannot be read, write host:port or [ipv6]:port');
    return { host: pair[1] ?? decode(pair[2] ?? ''), port: pair[3] ?? '' };
  });
  const parameters: Parameters = new Map();
  const set = (name: string, value: string) => value !== '' && parameters.set(name, value);
  set('user', decode(user));
  set('password', decode(password));
  set('dbname', decode(database));
  if (hosts.some(({ host }) => host !== '')) set('host', hosts.map(({ host }) => host).join());
  if (hosts.some(({ port }) => port !== '')) set('port', hosts.map(({ port }) => port).join());
  for (const pair of query.split('&').filter(each => each !== '')) {
    const at = pair.indexOf('=');
    if (at < 1) throw new Error('has a parameter without a value');
    set(decode(pair.slice(0, at)), decode(pair.slice(at + 1)));
  }
  return parameters;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error('is not percent-encoded correctly (a literal % is written %25)');
  }
}

/**
 * Parses `name = value` pairs as libpq does. A value with spaces is in single quotes. A backslash makes the next
 * character literal: \' is a quote and \\ a backslash.
 */
function readPairs(text: string): Parameters {
  const parameters: Parameters = new Map();
  const pair = /\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)/sy;
  while (pair.lastIndex < text.length) {
    const [, name, quoted, plain = ''] = pair.exec(text) ?? [];
    if (!name) throw new Error("is not made of pairs such as host=… dbname='…' (a space in a value needs quotes)");
    parameters.set(name, (quoted ?? plain).replace(/\\(.)/gs, '$1'));
  }
  return parameters;
}

/**
 * Completes a connection string as libpq does: from the service that it or PGSERVICE names, from PGHOST and the other
 * variables of libpq, and from the password file. Returns a URL that contains all of these. A URL to which nothing was
 * added is returned unchanged. Throws an Error if the string is malformed or the service is not found.
 */
export function completeUrl(text: string, env: Environment): string {
  const parameters = readParameters(text);
  const given = JSON.stringify([...parameters]);
  const add = (name: string, value: string | undefined) =>
    value && !parameters.has(name) && parameters.set(name, value);
  const service = parameters.get('service') ?? env.PGSERVICE;
  if (service) for (const [name, value] of readService(service, env)) add(name, value);
  for (const [variable, name] of Object.entries(environmentParameters)) add(name, env[variable]);
  parameters.delete('service');
  if (!parameters.has('password')) add('password', readPassword(parameters));
  if (text.includes('://') && JSON.stringify([...parameters]) === given) return text.trim();
  const query = Array.from(parameters, pair => pair.map(encodeURIComponent).join('='));
  return `postgres://?${query.join('&')}`;
}

const home = (): string => {
  try {
    return homedir();
  } catch {
    return ''; // Deno may not have the permission for this
  }
};

/**
 * The parameters of a service, from the first file that has a section for it: PGSERVICEFILE (or ~/.pg_service.conf),
 * then pg_service.conf in PGSYSCONFDIR.
 */
function readService(service: string, env: Environment): Parameters {
  const files = [
    env.PGSERVICEFILE || `${home()}/.pg_service.conf`,
    `${env.PGSYSCONFDIR || '/etc/postgresql-common'}/pg_service.conf`,
  ];
  for (const file of files) {
    const lines = (readText(file) ?? '').split('\n').map(line => line.trim());
    const start = lines.indexOf(`[${service}]`);
    if (start < 0) continue;
    const end = lines.findIndex((line, index) => index > start && line.startsWith('['));
    const pairs = lines.slice(start + 1, end < 0 ? undefined : end).filter(line => /^[^#]+=/.test(line));
    return new Map(pairs.map(line => [line.split('=', 1)[0]!.trim(), line.slice(line.indexOf('=') + 1).trim()]));
  }
  throw new Error(`names the service "${service}", which is in none of ${files.join(', ')}`);
}

/**
 * The password from the first line of the password file that matches. A line is `host:port:database:user:password`. As
 * in libpq, a file that others than its owner can read is ignored.
 */
function readPassword(parameters: Parameters): string | undefined {
  const file = parameters.get('passfile') ?? `${home()}/.pgpass`;
  const text = readText(file);
  if (text === undefined || (statSync(file).mode & 0o077) !== 0) return undefined;
  const { host = '', port = '5432', user = userInfo().username, dbname = user } = Object.fromEntries(parameters);
  const names = host.split(',').map(name => (name === '' || name.startsWith('/') ? 'localhost' : name));
  for (const line of text.split('\n')) {
    if (line.startsWith('#')) continue;
    const fields = line.match(/(?:[^:\\]|\\.)+/g)?.map(field => field.replace(/\\(.)/g, '$1')) ?? [];
    const [forHost, forPort, forDatabase, forUser, password] = fields;
    const fits = (pattern: string | undefined, values: string[]) => pattern === '*' || values.includes(pattern ?? '');
    if (fits(forHost, names) && fits(forPort, port.split(',')) && fits(forDatabase, [dbname]) && fits(forUser, [user]))
      return password;
  }
  return undefined;
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
