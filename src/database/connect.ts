import { Socket } from 'node:net';
import postgres from 'postgres';
import { addressOf, chooseHost, openSocket } from './hosts.ts';
import { type DatabaseUrl, type Host, parseDatabaseUrl } from './url.ts';

export { whyUnreachable } from './errors.ts';
export { describeDatabase, parseDatabaseUrl } from './url.ts';

export type Sql = postgres.Sql;

type Options = postgres.Options<Record<string, never>> & {
  /** What its sessions are for: the end of their application_name, for who looks at pg_stat_activity. */
  purpose?: string;
};

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
 * What every session of ours relies on, whatever its role, database or server is set to. Not what code of the user's may
 * want to be otherwise, which runs in these sessions when inbound writes a row: TimeZone, DateStyle and their like are
 * pinned by the functions that need them.
 */
const pinned: Readonly<Record<string, string>> = {
  array_nulls: 'on',
  client_min_messages: 'notice',
  default_transaction_deferrable: 'off',
  default_transaction_isolation: 'read committed',
  exit_on_error: 'off',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  jit: 'off',
  lock_timeout: '0',
  quote_all_identifiers: 'off',
  row_security: 'on',
  search_path: 'pg_catalog, pg_temp',
  standard_conforming_strings: 'on',
  statement_timeout: '0',
  transform_null_equals: 'off',
};

/** Settings that servers have from this version on. */
const pinnedFrom = [{ version: 170_000, settings: { transaction_timeout: '0' } }];
const namesFrom = pinnedFrom.flatMap(({ settings }) => Object.keys(settings));

/** What the server takes when a session begins, by connection string and host: a pooler may refuse what it does not know. */
const takesPinned = new Map<string, Promise<Record<string, string>>>();

/** What to begin sessions on `url` with: what is pinned, or nothing where a pooler does not take it. */
export function pinnedFor(url: string, target: DatabaseUrl, host: Host): Promise<Record<string, string>> {
  const key = JSON.stringify([url, host]);
  const known = takesPinned.get(key);
  if (known) return known;
  const asked = (async () => {
    const sql = open(target, host, { max: 1, connection: pinned } as Options);
    try {
      const [row] = await sql`select pg_catalog.current_setting('server_version_num')::pg_catalog.int4 as version`;
      const newer = pinnedFrom.filter(({ version }) => version <= (row!.version as number));
      return Object.assign({ ...pinned }, ...newer.map(({ settings }) => settings)) as Record<string, string>;
    } catch (error) {
      // pgbouncer: "unsupported startup parameter". Whatever else is wrong, the session itself will say.
      if ((error as { code?: string }).code === '08P01') return {};
      takesPinned.delete(key);
      return pinned;
    } finally {
      await sql.end({ timeout: 1 });
    }
  })();
  takesPinned.set(key, asked);
  return asked;
}

/**
 * A pool on `url`. bigint and timestamps come as text, as PostgreSQL prints them: no digit is lost on the way.
 * Nothing is connected before the first query. Of several hosts each session goes to the first that fits.
 */
export function connect(url: string, options: Options = {}): Sql {
  const target = parseDatabaseUrl(url);
  const [first] = target.hosts as [Host];
  const socket = () =>
    socketOf(target, async () => {
      const host = await currentHost(target);
      // The driver reads this object whenever a session begins.
      const settings = sql.options.connection as Record<string, unknown>;
      for (const name of [...Object.keys(pinned), ...namesFrom]) delete settings[name];
      Object.assign(settings, await pinnedFor(url, target, host), options.connection);
      return host;
    });
  const sql: Sql = open(target, first, { ...options, socket } as Options);
  return sql;
}

const needsChoice = ({ hosts, targetSessionAttributes }: DatabaseUrl) =>
  hosts.length > 1 || targetSessionAttributes !== undefined;

/** The host that a session opened now goes to. */
export async function currentHost(target: DatabaseUrl): Promise<Host> {
  if (!needsChoice(target)) return target.hosts[0]!;
  return chooseHost(target, host => open(target, host, { max: 1 }));
}

/** The socket of a session at the host that `choose` gives. Never rejects: the socket fails. */
async function socketOf(target: DatabaseUrl, choose: () => Promise<Host>): Promise<Socket> {
  try {
    const host = await choose();
    return Object.assign(await openSocket(host, target.connectTimeoutSeconds * 1000), host);
  } catch (error) {
    // As one that breaks as soon as the driver listens: of a rejection it makes a session that is lost for ever.
    const broken = new Socket();
    setImmediate(() => broken.destroy(error as Error));
    return broken;
  }
}

function open(target: DatabaseUrl, host: Host, { connection, types: more, purpose, ...others }: Options): Sql {
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
      application_name: purpose ? `${target.applicationName} ${purpose}` : target.applicationName,
      ...(target.options && { options: target.options }),
      ...connection,
    },
    types: { ...types, ...more },
  } as unknown as Options) as unknown as Sql;
}
