import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { userInfo } from 'node:os';
import { type ConnectionOptions, checkServerIdentity, rootCertificates } from 'node:tls';
import { readParameters } from './parameters.ts';

type Tls = Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'passphrase' | 'rejectUnauthorized' | 'checkServerIdentity'>;

export type Host = { host: string; port: number };

export type DatabaseUrl = {
  hosts: Host[];
  user: string;
  password: string | undefined;
  database: string;
  /** `prefer`, which is libpq's default, encrypts if the server can, and does not check the server's certificate. */
  tls: false | 'prefer' | Tls;
  applicationName: string;
  connectTimeoutSeconds: number;
  options: string | undefined;
  sslNegotiation: 'direct' | undefined;
  targetSessionAttributes: (typeof sessionAttributes)[number] | undefined;
};

const sessionAttributes = ['read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const;
const sslModes = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'];
/** Directories in which servers create their Unix socket: Debian's, and PostgreSQL's own default. */
const socketDirectories = ['/var/run/postgresql', '/tmp'];

/** Parameters of libpq that are accepted and ignored. */
const ignoredParameters = new Set([
  'client_encoding',
  'fallback_application_name',
  'gssencmode',
  'keepalives',
  'keepalives_idle',
  'keepalives_interval',
  'keepalives_count',
  'passfile',
  'sslcompression',
  'sslsni',
  'tcp_user_timeout',
]);

type Take = (name: string) => string | undefined;

/**
 * Parses a connection string (a URL, or `host=… port=…`) as libpq does. Both drivers get the result, because by
 * themselves they differ, for example in what `sslmode=require` means. `sslmode=allow` is treated as `prefer`. Throws
 * an Error if the string is malformed or has a parameter that is not supported; the message contains no value that
 * could be a secret.
 */
export function parseDatabaseUrl(text: string): DatabaseUrl {
  const parameters = readParameters(text);
  const take: Take = name => {
    const value = parameters.get(name);
    parameters.delete(name);
    return value || undefined;
  };
  const hosts = readHosts(take('host'), take('port'));
  const user = take('user') ?? userInfo().username;
  const sslNegotiation = take('sslnegotiation');
  if (take('channel_binding') === 'require')
    throw new Error(
      'asks for channel_binding=require, which is not supported: sslmode=verify-full proves who the server is',
    );
  const result: DatabaseUrl = {
    hosts,
    user,
    password: take('password'),
    database: take('dbname') ?? user,
    tls: readTls(hosts, take),
    applicationName: take('application_name') ?? 'collecta-webhooks',
    connectTimeoutSeconds: wholeNumber('connect_timeout', take('connect_timeout') ?? '10') || 10,
    options: take('options'),
    sslNegotiation: sslNegotiation === 'direct' ? 'direct' : undefined,
    targetSessionAttributes: readSessionAttributes(take('target_session_attrs') ?? 'any'),
  };
  for (const name of parameters.keys())
    if (!ignoredParameters.has(name)) throw new Error(`has the unknown or unsupported parameter "${name}"`);
  return result;
}

function readSessionAttributes(text: string): DatabaseUrl['targetSessionAttributes'] {
  const attributes = sessionAttributes.find(each => each === text);
  if (!attributes && text !== 'any')
    throw new Error(`has target_session_attrs that is not one of any, ${sessionAttributes.join(', ')}`);
  return attributes;
}

function wholeNumber(name: string, text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new Error(`has a ${name} that is not a whole number`);
  return Number(text);
}

/** As in libpq, the list of ports has one port for all hosts, or one for each. */
function readHosts(hostList = '', portList = ''): Host[] {
  const names = hostList.split(',');
  const ports = portList.split(',').map(text => {
    const number = wholeNumber('port', text || '5432');
    if (number < 1 || number > 65535) throw new Error('has a port outside 1 to 65535');
    return number;
  });
  if (ports.length > 1 && ports.length !== names.length)
    throw new Error('has a different number of ports than of hosts');
  return names.map((host, index) => {
    const port = ports[index] ?? ports[0]!;
    return { host: host || defaultHost(port), port };
  });
}

/**
 * The host to use if none is named. libpq uses the socket directory that it was built with, which is one of two in
 * practice. If neither has a server's socket, it is TCP to localhost.
 */
function defaultHost(port: number): string {
  return socketDirectories.find(directory => existsSync(`${directory}/.s.PGSQL.${port}`)) ?? 'localhost';
}

export const isSocket = (host: string): boolean => host.startsWith('/');

function readTls(hosts: Host[], take: Take): DatabaseUrl['tls'] {
  const rootFile = take('sslrootcert');
  const mode = take('sslmode') ?? (rootFile === 'system' ? 'verify-full' : 'prefer');
  if (!sslModes.includes(mode)) throw new Error(`has an sslmode that is not one of ${sslModes.join(', ')}`);
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
  // As in libpq, a Unix socket never uses TLS.
  if (mode === 'disable' || hosts.every(({ host }) => isSocket(host))) return false;
  if (rootFile === 'system' && mode !== 'verify-full')
    throw new Error('has sslrootcert=system, which needs sslmode=verify-full');

  const client = { ...(cert && { cert }), ...(key && { key }), ...(passphrase && { passphrase }) };
  if (mode === 'allow' || mode === 'prefer') return 'prefer';
  // As in libpq, `require` together with a root certificate means verify-ca.
  if (mode === 'require' && ca === undefined) return { ...client, rejectUnauthorized: false };
  return {
    ...client,
    ...(ca !== undefined && { ca }),
    rejectUnauthorized: true,
    // Without this function the drivers would check the certificate of an IP address against the name "localhost".
    checkServerIdentity: (_name, certificate) => {
      if (mode !== 'verify-full') return undefined;
      const problems = hosts.map(({ host }) => checkServerIdentity(host, certificate));
      return problems.includes(undefined) ? undefined : problems[0];
    },
  };
}

/** `host:port/database`, for log lines and messages. */
export function describeDatabase(url: string): string {
  const { hosts, database } = parseDatabaseUrl(url);
  return `${hosts.map(({ host, port }) => `${isIP(host) === 6 ? `[${host}]` : host}:${port}`).join(',')}/${database}`;
}
