import { readFileSync } from 'node:fs';
import { connect as connectTcp, isIP } from 'node:net';
import { userInfo } from 'node:os';
import { type ConnectionOptions, checkServerIdentity, rootCertificates } from 'node:tls';
import type { ClientConfig } from 'pg';
import postgres from 'postgres';

export type Sql = postgres.Sql;

type Tls = Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'passphrase' | 'rejectUnauthorized' | 'checkServerIdentity'>;

export type DatabaseUrl = {
  hosts: { host: string; port: number }[];
  user: string;
  password: string | undefined;
  database: string;
  /** `prefer` encrypts where the server can, without checking who it is: libpq's default. */
  tls: false | 'prefer' | Tls;
  applicationName: string;
  connectTimeoutSeconds: number;
  options: string | undefined;
  sslNegotiation: 'direct' | undefined;
  targetSessionAttributes: (typeof sessionAttributes)[number] | undefined;
};

const sessionAttributes = ['read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const;
const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];

/** libpq's parameters that change nothing here, or only how it would have done what both drivers do anyway. */
const withoutEffect = new Set([
  'client_encoding',
  'fallback_application_name',
  'gssencmode',
  'keepalives',
  'keepalives_idle',
  'keepalives_interval',
  'keepalives_count',
  'sslcompression',
  'sslsni',
  'tcp_user_timeout',
]);

/**
 * Reads a PostgreSQL URL as libpq does, once for both drivers: they differ in what `sslmode=require` means, and in much else.
 * `allow` is treated as `prefer`. Throws an Error whose message holds no value from the URL that could be a secret.
 */
export function parseDatabaseUrl(url: string): DatabaseUrl {
  const match = /^postgres(?:ql)?:\/\/(?:([^:@/?]*)(?::([^@/]*))?@)?([^@/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(
    url.trim(),
  );
  if (!match) throw new Error('is not a PostgreSQL URL (special characters in the password must be percent-encoded)');
  const [, urlUser, urlPassword, urlHosts = '', urlDatabase, query] = match;
  const parameters = readParameters(query ?? '');
  const take = (name: string, fromUrl?: string) => {
    const value = parameters.get(name) ?? (fromUrl ? decode(fromUrl) : undefined);
    parameters.delete(name);
    return value || undefined;
  };

  const hosts = readHosts(take('host') ?? '', take('port') ?? '', urlHosts);
  const user = take('user', urlUser) ?? userInfo().username;
  const sslNegotiation = take('sslnegotiation');
  if (take('channel_binding') === 'require')
    throw new Error(
      'asks for channel_binding=require, which is not supported: sslmode=verify-full proves who the server is',
    );
  const result: DatabaseUrl = {
    hosts,
    user,
    password: take('password', urlPassword),
    database: take('dbname', urlDatabase) ?? user,
    tls: readTls(hosts, take),
    applicationName: take('application_name') ?? 'collecta-webhooks',
    connectTimeoutSeconds: wholeNumber('connect_timeout', take('connect_timeout') ?? '10') || 10,
    options: take('options'),
    sslNegotiation: sslNegotiation === 'direct' ? 'direct' : undefined,
    targetSessionAttributes: readSessionAttributes(take('target_session_attrs') ?? 'any'),
  };
  for (const name of parameters.keys())
    if (!withoutEffect.has(name)) throw new Error(`has the unknown or unsupported parameter "${name}"`);
  return result;
}

function readParameters(query: string): Map<string, string> {
  const pairs = query.split('&').filter(pair => pair !== '');
  return new Map(
    pairs.map(pair => {
      const at = pair.indexOf('=');
      if (at < 1) throw new Error('has a parameter without a value');
      return [decode(pair.slice(0, at)), decode(pair.slice(at + 1))];
    }),
  );
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error('is not percent-encoded correctly (a literal % is written %25)');
  }
}

function readSessionAttributes(text: string): DatabaseUrl['targetSessionAttributes'] {
  const attributes = sessionAttributes.find(each => each === text);
  if (!attributes && text !== 'any')
    throw new Error(`has target_session_attrs that are none of any, ${sessionAttributes.join(', ')}`);
  return attributes;
}

function wholeNumber(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`has a ${name} that is not a whole number`);
  return Number(text);
}

function readHosts(hostParameter: string, portParameter: string, fromUrl: string): DatabaseUrl['hosts'] {
  const port = (text: string | undefined) => {
    const number = wholeNumber('port', text || '5432');
    if (number < 1 || number > 65535) throw new Error('has a port outside 1 to 65535');
    return number;
  };
  if (hostParameter) {
    const ports = portParameter.split(',');
    return hostParameter.split(',').map((host, index) => ({ host, port: port(ports[index] ?? ports[0]) }));
  }
  return fromUrl.split(',').map(part => {
    const pair = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*))(?::(.*))?$/.exec(part);
    if (!pair) throw new Error('has a host that cannot be read, write host:port or [ipv6]:port');
    return { host: pair[1] ?? (decode(pair[2] ?? '') || 'localhost'), port: port(pair[3] || portParameter) };
  });
}

const isSocket = (host: string) => host.startsWith('/');

function readTls(hosts: DatabaseUrl['hosts'], take: (name: string) => string | undefined): DatabaseUrl['tls'] {
  const rootFile = take('sslrootcert');
  const mode = take('sslmode') ?? (rootFile === 'system' ? 'verify-full' : 'prefer');
  if (!sslModes.includes(mode)) throw new Error(`has an sslmode that is none of ${sslModes.join(', ')}`);
  const read = (name: string, file: string | undefined) => {
    if (file === undefined) return undefined;
    try {
      return readFileSync(file, 'utf8');
    } catch (error) {
      throw new Error(`names a file for ${name} that cannot be read: ${(error as Error).message}`);
    }
  };
  const ca = rootFile === 'system' ? [...rootCertificates] : read('sslrootcert', rootFile);
  const cert = read('sslcert', take('sslcert'));
  const key = read('sslkey', take('sslkey'));
  const passphrase = take('sslpassword');
  // As libpq: TLS has no meaning on a Unix socket.
  if (mode === 'disable' || hosts.every(({ host }) => isSocket(host))) return false;
  if (rootFile === 'system' && mode !== 'verify-full')
    throw new Error('has sslrootcert=system, which needs sslmode=verify-full');

  const client = { ...(cert && { cert }), ...(key && { key }), ...(passphrase && { passphrase }) };
  if (mode === 'allow' || mode === 'prefer') return 'prefer';
  // As libpq: require with a root certificate is verify-ca.
  if (mode === 'require' && ca === undefined) return { ...client, rejectUnauthorized: false };
  return {
    ...client,
    ...(ca !== undefined && { ca }),
    rejectUnauthorized: true,
    // Given for every mode that verifies: left to themselves the drivers check an IP address as "localhost".
    checkServerIdentity: (_name, certificate) => {
      if (mode !== 'verify-full') return undefined;
      const problems = hosts.map(({ host }) => checkServerIdentity(host, certificate));
      return problems.includes(undefined) ? undefined : problems[0];
    },
  };
}

/** `host:port/database`, for messages. */
export function describeDatabase(url: string): string {
  const { hosts, database } = parseDatabaseUrl(url);
  return `${hosts.map(({ host, port }) => `${isIP(host) === 6 ? `[${host}]` : host}:${port}`).join(',')}/${database}`;
}

/** text[], name[], int[], bigint[], real[], float8[]: of one dimension, elements as text. */
const arrays = {
  to: 1009,
  from: [1009, 1003, 1007, 1016, 1021, 1022],
  serialize: (values: readonly unknown[]) =>
    `{${values.map(value => (value === null ? 'NULL' : `"${String(value).replace(/[\\"]/g, '\\$&')}"`)).join(',')}}`,
  parse: (text: string) =>
    Array.from(text.matchAll(/"((?:[^"\\]|\\.)*)"|[^{},]+/gs), ([whole, quoted]) =>
      quoted === undefined ? (whole === 'NULL' ? null : whole) : quoted.replace(/\\(.)/gs, '$1'),
    ),
};

/**
 * A pool on `url`. bigint and timestamps come as text, as PostgreSQL prints them: no digit is lost on the way.
 * Nothing is connected before the first query.
 */
export function connect(url: string, options: postgres.Options<Record<string, never>> = {}): Sql {
  const { hosts, ...target } = parseDatabaseUrl(url);
  const [first] = hosts;
  const text = (value: unknown) => (value instanceof Date ? value.toISOString() : String(value));
  const { connection, types, ...others } = options;
  return postgres({
    host: hosts.map(({ host }) => host),
    port: hosts.map(({ port }) => port),
    ...(first && isSocket(first.host) && { path: `${first.host}/.s.PGSQL.${first.port}` }),
    user: target.user,
    ...(target.password !== undefined && { password: target.password }),
    database: target.database,
    ssl: target.tls,
    ...(target.sslNegotiation && { sslnegotiation: target.sslNegotiation }),
    ...(target.targetSessionAttributes && { target_session_attrs: target.targetSessionAttributes }),
    connect_timeout: target.connectTimeoutSeconds,
    keep_alive: 30,
    // The driver's own pause between attempts grows to 20 s, on top of its caller's.
    backoff: () => 0.2,
    onnotice: () => {},
    // Rather than all array types being asked for at each connect: nobody can catch that query when its session ends.
    fetch_types: false,
    ...others,
    connection: {
      application_name: target.applicationName,
      ...(target.options && { options: target.options }),
      ...connection,
    },
    types: {
      date: { to: 1184, from: [1082, 1114, 1184], serialize: text, parse: (value: string) => value },
      arrays,
      ...types,
    },
  } as unknown as postgres.Options<Record<string, never>>) as unknown as Sql;
}

/**
 * The configuration of `pg` (pg-listen's driver) that reaches the same server in the same way as `connect(url)`.
 * `pg` cannot prefer TLS, so the server is asked once whether it has it; several hosts it does not know at all.
 */
export async function listenerConfig(url: string): Promise<ClientConfig> {
  const { hosts, tls, ...target } = parseDatabaseUrl(url);
  const [first] = hosts;
  if (!first || hosts.length > 1) throw new Error('names several hosts: LISTEN needs a URL with one');
  const ssl =
    tls === 'prefer' ? (await offersTls(first, target.connectTimeoutSeconds)) && { rejectUnauthorized: false } : tls;
  return {
    host: first.host,
    port: first.port,
    user: target.user,
    ...(target.password !== undefined && { password: target.password }),
    database: target.database,
    ssl,
    ...(target.sslNegotiation && { sslnegotiation: target.sslNegotiation }),
    ...(target.options && { options: target.options }),
    application_name: `${target.applicationName} listen`,
    connectionTimeoutMillis: target.connectTimeoutSeconds * 1000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  };
}

/** Sends PostgreSQL's SSLRequest: the server answers S or N. */
function offersTls({ host, port }: { host: string; port: number }, timeoutSeconds: number): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host, port });
    const end = (finish: () => void) => {
      socket.destroy();
      finish();
    };
    socket.setTimeout(timeoutSeconds * 1000, () =>
      end(() => reject(Object.assign(new Error('connection timed out'), { code: 'CONNECT_TIMEOUT' }))),
    );
    socket.once('error', error => end(() => reject(error)));
    socket.once('close', () => reject(Object.assign(new Error('connection closed'), { code: 'CONNECTION_CLOSED' })));
    socket.once('data', data => end(() => resolve(data[0] === 0x53)));
    socket.write(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]));
  });
}

const unreachable = new Set(
  'EACCES EAI_AGAIN ECONNREFUSED ECONNRESET EHOSTUNREACH ENETUNREACH ENOENT ENOTFOUND EPIPE ETIMEDOUT CONNECT_TIMEOUT CONNECTION_CLOSED CONNECTION_DESTROYED'.split(
    ' ',
  ),
);
/** Refused at the door: cannot connect now, too many connections, shutting down, wrong user or password, no such database. */
const refused = /^(08...|28...|3D000|53300|57P0[123])$/;
const untrusted = /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_|ERR_SSL_)/;

/** Why the database could not be reached, in one line; undefined for an error that says something else. */
export function whyUnreachable(error: unknown): string | undefined {
  const { code, message } = error as { code?: string; message?: string };
  if (message?.includes('before secure TLS connection') || message?.includes('does not support SSL'))
    return 'the server does not offer TLS, which sslmode in the URL asks for';
  if (!code || !(unreachable.has(code) || refused.test(code) || untrusted.test(code))) return undefined;
  return message?.includes(code) ? message : `${message} (${code})`.trimStart();
}
