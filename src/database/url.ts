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
/** Where servers put their socket: Debian's and its relatives', and PostgreSQL's own default. */
const socketDirectories = ['/var/run/postgresql', '/tmp'];

/** libpq's parameters that change nothing here, or only how it would have done what both drivers do anyway. */
const withoutEffect = new Set([
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
 * Reads a connection string (a URL, or `host=… port=…`) as libpq does, once for both drivers: they differ in what
 * `sslmode=require` means, and in much else. `allow` is treated as `prefer`. Throws an Error whose message holds no value
 * that could be a secret; what libpq knows and this does not is refused by name.
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
    if (!withoutEffect.has(name)) throw new Error(`has the unknown or unsupported parameter "${name}"`);
  return result;
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

/** As libpq: one port for all hosts, or one for each. */
function readHosts(hostList = '', portList = ''): Host[] {
  const names = hostList.split(',');
  const ports = portList.split(',').map(text => {
    const number = wholeNumber('port', text || '5432');
    if (number < 1 || number > 65535) throw new Error('has a port outside 1 to 65535');
    return number;
  });
  if (ports.length > 1 && ports.length !== names.length) throw new Error('has another number of ports than of hosts');
  return names.map((host, index) => {
    const port = ports[index] ?? ports[0]!;
    return { host: host || defaultHost(port), port };
  });
}

/** Without a host libpq takes the socket that it was built for. There are two of these; TCP where neither has a server. */
function defaultHost(port: number): string {
  return socketDirectories.find(directory => existsSync(`${directory}/.s.PGSQL.${port}`)) ?? 'localhost';
}

export const isSocket = (host: string): boolean => host.startsWith('/');

function readTls(hosts: Host[], take: Take): DatabaseUrl['tls'] {
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
