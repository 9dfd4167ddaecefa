import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import process from 'node:process';
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { completeUrl, environmentNamesDatabase, libpqVariables } from './database/parameters.ts';
import { parseDatabaseUrl } from './database/url.ts';
import { isNat64Prefix } from './network/address.ts';
import { isSealingKey } from './secrets/keyring.ts';

/** Settings are missing or wrong. The message has a line for each variable, and never the value of a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

const wholeNumber = (min: number, max: number) =>
  z
    .string()
    .refine(
      text => /^\d{1,9}$/.test(text) && Number(text) >= min && Number(text) <= max,
      `must be a whole number from ${min} to ${max}`,
    )
    .transform(Number);

const oneOf = <const T extends string>(...values: T[]) =>
  z.string().refine((text): text is T => values.some(value => value === text), `must be one of ${values.join(', ')}`);

const list = (each: (entry: string) => boolean, expected: string) =>
  z
    .string()
    .transform(text =>
      text
        .split(',')
        .map(entry => entry.trim())
        .filter(entry => entry !== ''),
    )
    .refine(entries => entries.every(each), `must be a comma-separated list of ${expected}`);

/** An address, a CIDR or a host name. net.isIP is asked first, because ipaddr.js reads 010.0.0.0/8 as 8.0.0.0/8. */
function isDestination(entry: string): boolean {
  if (isIP(entry)) return true;
  if (entry.includes('/')) return isIP(entry.split('/')[0] ?? '') > 0 && ipaddr.isValidCIDR(entry);
  return /^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$/i.test(entry) && !/(^|\.)\d+$/.test(entry);
}

const isNetwork = (entry: string) => /^[0-9a-f:./]+$/i.test(entry) && isDestination(entry);

function isResolver(entry: string): boolean {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:]+))(?::(\d{1,5}))?$/.exec(entry) ?? [];
  return isIP(entry) > 0 || (isIP(bracketed ?? plain ?? '') > 0 && Number(port ?? 53) <= 65535);
}

type Variable<T> = { read: z.ZodType<T, string>; about: string; example: string; default?: string; secret?: true };
const variable = <T>(definition: Variable<T>) => definition;

/**
 * All variables that are read. The settings table of --help and Deno's permissions come from this list. A variable with
 * `secret` can also be in a file, whose path is in the variable with `_FILE` after its name.
 */
export const variables = {
  DATABASE_URL: variable({
    read: z.string(),
    about:
      'the database, as psql takes it: a URL or host=… dbname=…, several hosts, service=…; PGHOST etc. complete it',
    example: 'postgres://collecta@db.example.com:5432/app?sslmode=verify-full',
    secret: true,
  }),
  COLLECTA_LISTEN_URL: variable({
    read: z.string(),
    about: 'direct connection for LISTEN, if DATABASE_URL leads to a transaction pooler (default: DATABASE_URL)',
    example: 'postgres://collecta@db-primary.example.com:5432/app',
    secret: true,
  }),
  COLLECTA_DATABASES: variable({
    read: z.string(),
    about: 'file or directory that names many databases, instead of DATABASE_URL (docs/fleet.md)',
    example: '/etc/collecta/databases.json',
  }),
  COLLECTA_CONCURRENCY: variable({
    read: wholeNumber(1, 10_000),
    about: 'most deliveries under way at once',
    default: '50',
    example: '100',
  }),
  COLLECTA_POLL_INTERVAL_MS: variable({
    read: wholeNumber(10, 3_600_000),
    about: 'how long a change waits at most if notifications do not arrive',
    default: '1000',
    example: '500',
  }),
  COLLECTA_IDLE: variable({
    read: oneOf('keep', 'release'),
    about: 'keep, or release: whether idle sessions are closed, so that a database can sleep (docs/databases.md)',
    default: 'keep',
    example: 'release',
  }),
  COLLECTA_IDLE_AFTER_MS: variable({
    read: wholeNumber(100, 3_600_000),
    about: 'with COLLECTA_IDLE=release: how long nothing must be due before sessions are closed',
    default: '60000',
    example: '30000',
  }),
  COLLECTA_IDLE_INTERVAL_HOURS: variable({
    read: wholeNumber(1, 48),
    about:
      'with COLLECTA_IDLE=release: how often the database is queried even if nothing is due and nobody calls /wake',
    default: '12',
    example: '24',
  }),
  COLLECTA_WAKE_TOKEN: variable({
    read: z.string().min(16, 'must have at least 16 characters'),
    about:
      'with COLLECTA_IDLE=release: bearer token for POST /wake on the operations port (default: there is no /wake)',
    example: '$(openssl rand -hex 32)',
    secret: true,
  }),
  COLLECTA_STOP_TIMEOUT_MS: variable({
    read: wholeNumber(0, 600_000),
    about: 'how long deliveries under way may take to finish after SIGTERM',
    default: '10000',
    example: '25000',
  }),
  COLLECTA_ALLOW_HTTP: variable({
    read: oneOf('true', 'false').transform(text => text === 'true'),
    about: 'whether destinations may be http: (true or false)',
    default: 'false',
    example: 'true',
  }),
  COLLECTA_ALLOW_DESTINATIONS: variable({
    read: list(isDestination, 'CIDRs, addresses and host names'),
    about: 'private networks and hosts that webhooks may go to, such as 10.1.0.0/16,hooks.internal',
    default: '',
    example: '10.1.0.0/16,hooks.internal',
  }),
  COLLECTA_DNS_SERVERS: variable({
    read: list(isResolver, 'addresses, with a port if it is not 53'),
    about: 'resolvers for destinations (default: the system’s)',
    default: '',
    example: '10.0.0.2,[fd00::2]:5353',
  }),
  COLLECTA_NAT64_PREFIXES: variable({
    read: list(isNat64Prefix, 'IPv6 networks of 32, 40, 48, 56, 64 or 96 bits'),
    about:
      'NAT64 prefixes of this network, besides 64:ff9b::/96: their addresses are judged by the IPv4 address inside',
    default: '',
    example: '2001:db8:64::/96',
  }),
  COLLECTA_HOST: variable({
    read: z.string(),
    about: 'address that inbound listens on',
    default: '127.0.0.1',
    example: '0.0.0.0',
  }),
  COLLECTA_PORT: variable({
    read: wholeNumber(0, 65_535),
    about: 'port that inbound listens on',
    default: '8080',
    example: '8080',
  }),
  COLLECTA_INBOUND_HOST: variable({
    read: z.string(),
    about: 'for one of many databases: the host name whose inbound requests go to this database (docs/fleet.md)',
    example: 'hooks.eu.example.com',
  }),
  COLLECTA_TRUSTED_PROXIES: variable({
    read: wholeNumber(0, 16),
    about: 'how many proxies in front of inbound are trusted to write X-Forwarded-For',
    default: '0',
    example: '1',
  }),
  COLLECTA_PUBLIC_URL: variable({
    read: z.string().regex(/^https?:\/\/[^\s?#]+$/),
    about: 'URL under which senders see inbound, for senders that sign it (default: https and the Host header)',
    example: 'https://hooks.example.com',
  }),
  COLLECTA_OPERATIONS_HOST: variable({
    read: z.string(),
    about: 'address that the operations port listens on',
    default: '127.0.0.1',
    example: '0.0.0.0',
  }),
  COLLECTA_OPERATIONS_PORT: variable({
    read: wholeNumber(0, 65_535),
    about: 'port for /livez, /readyz, /metrics and the console (default: off)',
    example: '9090',
  }),
  COLLECTA_CONSOLE_PATH: variable({
    read: z.string().regex(/^\/([A-Za-z0-9_.~-]+(\/[A-Za-z0-9_.~-]+)*)?$/, 'must be a path such as /console'),
    about: 'path under which the operations port serves the console',
    default: '/console',
    example: '/webhooks/console',
  }),
  COLLECTA_CONSOLE_TRUST_HEADER: variable({
    read: z.string().regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, 'must be the name of a header'),
    about:
      'header in which a proxy names the person; the console acts as the role of that name (default: people log in)',
    example: 'X-Forwarded-User',
  }),
  COLLECTA_CONSOLE_TRUST_FROM: variable({
    read: list(isNetwork, 'addresses and networks'),
    about: 'the proxies that COLLECTA_CONSOLE_TRUST_HEADER and X-Forwarded-For are believed from',
    default: '127.0.0.0/8,::1',
    example: '10.0.3.17,10.1.0.0/16',
  }),
  COLLECTA_METRICS_ENDPOINTS: variable({
    read: wholeNumber(0, 10_000),
    about:
      'how many endpoints, those with the most attempts, have their own label in the metrics; all others share "other"',
    default: '100',
    example: '20',
  }),
  COLLECTA_ENVIRONMENT: variable({
    read: z.string().max(63, 'must be at most 63 characters'),
    about: 'name of this environment; a database that was restored from another environment sends nothing',
    example: 'production',
  }),
  COLLECTA_SECRET_KEY: variable({
    read: z
      .string()
      .refine(
        text => text.split(',').every(key => isSealingKey(key.trim())),
        'must be 32 bytes in base64, or several such keys with commas between them',
      ),
    about:
      'keys that seal endpoint secrets in the database; the first one seals, all of them open (default: not sealed)',
    example: '$(openssl rand -base64 32)',
    secret: true,
  }),
  COLLECTA_SECRET: variable({
    read: z.string(),
    about: 'secret for the commands verify and send',
    example: 'whsec_…',
    secret: true,
  }),
  COLLECTA_LOG_LEVEL: variable({
    read: oneOf('debug', 'info', 'warn', 'error'),
    about: 'debug, info, warn or error',
    default: 'info',
    example: 'debug',
  }),
} as const;

export type LogLevel = z.infer<(typeof variables)['COLLECTA_LOG_LEVEL']['read']>;
type Name = keyof typeof variables;
type Value<N extends Name> = z.infer<(typeof variables)[N]['read']>;
export type Environment = Readonly<Record<string, string | undefined>>;

/** The names of all variables, including those with `_FILE`. */
export const variableNames: readonly string[] = Object.entries<Variable<unknown>>(variables).flatMap(
  ([name, { secret }]) => (secret ? [name, `${name}_FILE`] : [name]),
);

function readVariable<N extends Name>(env: Environment, name: N, problems: string[]): Value<N> | undefined {
  const { read, example, secret, default: fallback }: Variable<unknown> = variables[name];
  const problem = (reason: string, variableName: string = name, sample = example) =>
    problems.push(`${variableName} ${reason}, for example ${variableName}=${sample}`);
  const file = secret && env[`${name}_FILE`];
  let text = env[name];
  if (file) {
    if (text) {
      problems.push(`${name} and ${name}_FILE are both set: unset one`);
      return undefined;
    }
    try {
      text = readFileSync(file, 'utf8').replace(/\r?\n$/, '');
    } catch (error) {
      problem(`cannot be read: ${(error as Error).message}`, `${name}_FILE`, `/run/secrets/${name.toLowerCase()}`);
      return undefined;
    }
    if (!text) {
      problem(`names an empty file: ${file}`, `${name}_FILE`, `/run/secrets/${name.toLowerCase()}`);
      return undefined;
    }
  }
  // An empty variable counts as not set, such as `COLLECTA_PORT=` in a compose file.
  if (!text && fallback === undefined) return undefined;
  const result = read.safeParse(text || fallback);
  if (result.success) return result.data as Value<N>;
  problem(`${result.error.issues[0]?.message}${secret ? '' : `, is ${JSON.stringify(text)}`}`);
  return undefined;
}

/** Calls `read` with a function that reads one variable. Throws ConfigError with all problems if there are any. */
function collect<T>(
  env: Environment,
  read: (get: <N extends Name>(name: N) => Value<N> | undefined, problems: string[]) => T,
): T {
  const problems: string[] = [];
  const result = read(name => readVariable(env, name, problems), problems);
  if (problems.length > 0) throw new ConfigError(problems.join('\n'));
  return result;
}

function readAll(get: <N extends Name>(name: N) => Value<N> | undefined) {
  // A variable with a default is undefined only if its value is wrong. Then there is a problem, and `collect` throws.
  const withDefault = <N extends Name>(name: N) => get(name) as Value<N>;
  return {
    databases: get('COLLECTA_DATABASES'),
    concurrency: withDefault('COLLECTA_CONCURRENCY'),
    pollIntervalMs: withDefault('COLLECTA_POLL_INTERVAL_MS'),
    idle: withDefault('COLLECTA_IDLE'),
    idleAfterMs: withDefault('COLLECTA_IDLE_AFTER_MS'),
    idleIntervalHours: withDefault('COLLECTA_IDLE_INTERVAL_HOURS'),
    wakeToken: get('COLLECTA_WAKE_TOKEN'),
    stopTimeoutMs: withDefault('COLLECTA_STOP_TIMEOUT_MS'),
    allowHttp: withDefault('COLLECTA_ALLOW_HTTP'),
    allowDestinations: withDefault('COLLECTA_ALLOW_DESTINATIONS'),
    dnsServers: withDefault('COLLECTA_DNS_SERVERS'),
    nat64Prefixes: withDefault('COLLECTA_NAT64_PREFIXES'),
    host: withDefault('COLLECTA_HOST'),
    port: withDefault('COLLECTA_PORT'),
    trustedProxies: withDefault('COLLECTA_TRUSTED_PROXIES'),
    publicUrl: get('COLLECTA_PUBLIC_URL'),
    operationsHost: withDefault('COLLECTA_OPERATIONS_HOST'),
    operationsPort: get('COLLECTA_OPERATIONS_PORT'),
    consolePath: withDefault('COLLECTA_CONSOLE_PATH'),
    consoleTrustHeader: get('COLLECTA_CONSOLE_TRUST_HEADER'),
    consoleTrustFrom: withDefault('COLLECTA_CONSOLE_TRUST_FROM'),
    metricsEndpoints: withDefault('COLLECTA_METRICS_ENDPOINTS'),
    environment: get('COLLECTA_ENVIRONMENT'),
    secretKey: get('COLLECTA_SECRET_KEY'),
    secret: get('COLLECTA_SECRET'),
    logLevel: withDefault('COLLECTA_LOG_LEVEL'),
  };
}

/** The settings of a command that needs no database. */
export type Settings = ReturnType<typeof readAll>;
export type Config = Settings & { databaseUrl: string; listenUrl: string };

/** Reads the settings of commands such as check-url, verify and send, which need no database. Throws ConfigError. */
export function readSettings(env: Environment): Settings {
  return collect(env, readAll);
}

/** Reads all settings, including the URL of the database. Throws ConfigError. */
export function readConfig(env: Environment): Config {
  return collect(env, (get, problems) => {
    const settings = readAll(get);
    const before = problems.length;
    const read = (name: 'DATABASE_URL' | 'COLLECTA_LISTEN_URL') => {
      // As for psql without arguments, libpq's variables alone may name the database.
      const text = get(name) ?? (name === 'DATABASE_URL' && environmentNamesDatabase(env) ? '' : undefined);
      if (text === undefined) return undefined;
      try {
        const url = completeUrl(text, env);
        parseDatabaseUrl(url);
        return url;
      } catch (error) {
        problems.push(`${name} ${(error as Error).message}, for example ${name}=${variables[name].example}`);
        return undefined;
      }
    };
    const databaseUrl = read('DATABASE_URL') ?? '';
    const listenUrl = read('COLLECTA_LISTEN_URL') ?? databaseUrl;
    if (problems.length === before && !databaseUrl)
      problems.push(
        `DATABASE_URL (or DATABASE_URL_FILE) is not set, for example DATABASE_URL=${variables.DATABASE_URL.example}`,
      );
    return { ...settings, databaseUrl, listenUrl };
  });
}

/** The environment of this process. It contains only the variables that are read, since Deno may permit no others. */
export function fromProcess(): Environment {
  const names = [...variableNames, ...libpqVariables];
  return Object.fromEntries(names.map(name => [name, readAllowed(name)]));
}

function readAllowed(name: string): string | undefined {
  try {
    return process.env[name];
  } catch (error) {
    // Deno may have the permission for our variables only, and not for libpq's.
    if (libpqVariables.includes(name)) return undefined;
    throw error;
  }
}

/** The edit distance of two words: how many letters must be inserted, deleted or replaced. */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [i, letter] of Array.from(one).entries()) {
    const next = [i + 1];
    for (let j = 0; j < other.length; j++)
      next.push(Math.min(next[j]! + 1, row[j + 1]! + 1, row[j]! + (letter === other[j] ? 0 : 1)));
    row = next;
  }
  return row[other.length]!;
}

/** A message for each COLLECTA_ variable that is not a setting, with the setting whose name is most similar. */
export function unknownVariables(names: readonly string[]): string[] {
  return names
    .filter(name => name.startsWith('COLLECTA_') && !variableNames.includes(name))
    .map(name => {
      const bare = (each: string) => each.replace('COLLECTA_', '');
      const distanceTo = (each: string) => distance(bare(name), bare(each));
      const nearest = variableNames.toSorted((a, b) => distanceTo(a) - distanceTo(b))[0]!;
      return `${name} is not a setting and changes nothing; the nearest is ${nearest}`;
    });
}

/** The names of all variables of this process; none if Deno does not permit to list them. */
export function namesInProcess(): string[] {
  try {
    return Object.keys(process.env);
  } catch {
    return [];
  }
}
