import { Socket } from 'node:net';
import postgres from 'postgres';
import { addressOf, chooseHost, openSocket } from './hosts.ts';
import { sessionParameters } from './session.ts';
import { type DatabaseUrl, type Host, parseDatabaseUrl } from './url.ts';

export { whyUnreachable } from './errors.ts';
export { describeDatabase, parseDatabaseUrl } from './url.ts';

export type Sql = postgres.Sql;

type Options = postgres.Options<Record<string, never>>;

/**
 * How values are written, each so that writing what was written already changes nothing: where a prepared statement is gone the
 * driver (3.4.9) writes the same parameters again, in place.
 */
const asText = (value: unknown) => (value instanceof Date ? value.toISOString() : String(value));
const types = {
  date: { to: 1184, from: [1082, 1114, 1184], serialize: asText, parse: (value: string) => value },
  boolean: {
    to: 16,
    from: [16],
    serialize: (value: unknown) => (value === true || value === 't' ? 't' : 'f'),
    parse: (value: string) => value === 't',
  },
  json: {
    to: 114,
    from: [114, 3802],
    serialize: (value: unknown) => (typeof value === 'string' ? value : JSON.stringify(value)),
    parse: (value: string) => JSON.parse(value),
  },
  /** text[], name[], int[], bigint[], real[], float8[]: of one dimension, elements as text. */
  arrays: {
    to: 1009,
    from: [1009, 1003, 1007, 1016, 1021, 1022],
    serialize: (values: readonly unknown[] | string) =>
      typeof values === 'string'
        ? values
        : `{${values
            .map(value => (value === null ? 'NULL' : `"${String(value).replace(/[\\"]/g, '\\$&')}"`))
            .join(',')}}`,
    parse: (text: string) =>
      Array.from(text.matchAll(/"((?:[^"\\]|\\.)*)"|[^{},]+/gs), ([whole, quoted]) =>
        quoted === undefined ? (whole === 'NULL' ? null : whole) : quoted.replace(/\\(.)/gs, '$1'),
      ),
  },
};

/**
 * A pool on `url`. bigint and timestamps come as text, as PostgreSQL prints them: no digit is lost on the way.
 * Nothing is connected before the first query. Of several hosts each session goes to the first that fits.
 */
export function connect(url: string, options: Options = {}): Sql {
  const target = parseDatabaseUrl(url);
  const [first] = target.hosts as [Host];
  if (!needsChoice(target)) return open(target, first, options);
  const socket = () => socketOfChosen(target);
  return open(target, first, { ...options, socket } as Options);
}

const needsChoice = ({ hosts, targetSessionAttributes }: DatabaseUrl) =>
  hosts.length > 1 || targetSessionAttributes !== undefined;

/** The host that a session opened now goes to. */
export async function currentHost(target: DatabaseUrl): Promise<Host> {
  if (!needsChoice(target)) return target.hosts[0]!;
  return chooseHost(target, host => open(target, host, { max: 1 }));
}

/** The socket of a session where several hosts are named, or one that must be a primary. Never rejects: the socket fails. */
async function socketOfChosen(target: DatabaseUrl): Promise<Socket> {
  try {
    const host = await currentHost(target);
    return Object.assign(await openSocket(host, target.connectTimeoutSeconds * 1000), host);
  } catch (error) {
    // As one that breaks as soon as the driver listens: of a rejection it makes a session that is lost for ever.
    const broken = new Socket();
    setImmediate(() => broken.destroy(error as Error));
    return broken;
  }
}

function open(target: DatabaseUrl, host: Host, { connection, types: more, ...others }: Options): Sql {
  return postgres({
    ...addressOf(host),
    host: host.host,
    port: host.port,
    user: target.user,
    ...(target.password !== undefined && { password: target.password }),
    database: target.database,
    ssl: target.tls,
    ...(target.sslNegotiation && { sslnegotiation: target.sslNegotiation }),
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
      ...sessionParameters(target),
      ...(target.options && { options: target.options }),
      ...connection,
    },
    types: { ...types, ...more },
  } as unknown as Options) as unknown as Sql;
}
