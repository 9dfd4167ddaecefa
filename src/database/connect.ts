import { Socket } from 'node:net';
import postgres from 'postgres';
import { addressOf, chooseHost, openSocket } from './hosts.ts';
import { type DatabaseUrl, type Host, parseDatabaseUrl } from './url.ts';

export { whyUnreachable } from './errors.ts';
export { describeDatabase, parseDatabaseUrl } from './url.ts';

export type Sql = postgres.Sql;

type Options = postgres.Options<Record<string, never>> & {
  /** What the sessions are for. It ends their application_name, so that pg_stat_activity shows it. */
  purpose?: string;
};

/**
 * How the driver writes and reads values. Each `serialize` returns a value that is already serialized as it is, because
 * the driver (3.4.9) serializes the same parameters a second time when it repeats a query whose prepared statement was
 * lost.
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
  /** text[], name[], integer[], bigint[], real[], double precision[]: one dimension; elements are strings or null. */
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
 * Settings that every session of ours starts with, because our queries rely on them and the role, the database or the
 * server may have other defaults. TimeZone, DateStyle and similar settings are not among them: when inbound writes a
 * row, the user's triggers run in these sessions and may rely on the database's own values. The functions that need
 * these set them themselves.
 */
const pinnedSettings: Readonly<Record<string, string>> = {
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

/** Settings that only servers from a version on have. */
const newerSettings = [{ version: 170_000, settings: { transaction_timeout: '0' } }];
const newerNames = newerSettings.flatMap(({ settings }) => Object.keys(settings));

/** By connection string and host: the settings that a session can start with. A pooler refuses what it does not know */
const acceptedSettings = new Map<string, Promise<Record<string, string>>>();

/** The settings to start sessions on `url` with: the pinned ones, or none if a pooler refuses them. */
export function pinnedFor(url: string, target: DatabaseUrl, host: Host): Promise<Record<string, string>> {
  const key = JSON.stringify([url, host]);
  const cached = acceptedSettings.get(key);
  if (cached) return cached;
  const trySession = async (connection: Record<string, string>): Promise<number> => {
    const sql = open(target, host, { max: 1, prepare: false, connection } as Options);
    try {
      return await refuseOpenSchemas(sql);
    } finally {
      await sql.end({ timeout: 1 });
    }
  };
  const answer = (async () => {
    try {
      const serverVersion = await trySession(pinnedSettings);
      const newer = newerSettings.filter(({ version }) => version <= serverVersion);
      return Object.assign({ ...pinnedSettings }, ...newer.map(({ settings }) => settings)) as Record<string, string>;
    } catch (error) {
      if (error instanceof OpenSearchPath) throw error;
      // PgBouncer reports "unsupported startup parameter" as 08P01. Any other error will come again from the session
      // itself, which reports it.
      if ((error as { code?: string }).code !== '08P01') {
        acceptedSettings.delete(key);
        return pinnedSettings;
      }
    }
    await trySession({}).catch(error => {
      if (error instanceof OpenSearchPath) throw error;
    });
    return {};
  })();
  acceptedSettings.set(key, answer);
  // Asked anew by the next session: a DBA may have mended it.
  answer.catch(() => acceptedSettings.delete(key));
  return answer;
}

/** A session would look names up where others may put functions and operators in the way of ours. */
class OpenSearchPath extends Error {
  readonly code = 'OPEN_SEARCH_PATH';
}

/**
 * A pooler may refuse a search_path at the start of a session, or drop it (`ignore_startup_parameters`): then names are
 * looked up where the login's settings say. That does no harm unless others may create something there. Every name in
 * this statement has its schema. Returns the server's version, as in `server_version_num`.
 */
async function refuseOpenSchemas(sql: Sql): Promise<number> {
  const [row] = await sql`
    select pg_catalog.string_agg(distinct n.nspname::pg_catalog.text, ', ') as open,
      current_user::pg_catalog.text as login,
      pg_catalog.current_setting('server_version_num')::pg_catalog.int4 as version
    from pg_catalog.pg_namespace n
    cross join lateral pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
    left join pg_catalog.pg_roles r on r.oid operator(pg_catalog.=) a.grantee
    where n.nspname operator(pg_catalog.=) any (pg_catalog.current_schemas(false))
      and a.privilege_type operator(pg_catalog.=) 'CREATE'
      and (r.rolsuper
        or r.rolname operator(pg_catalog.=) any (array[current_user, 'pg_database_owner'::pg_catalog.name])
        or r.oid operator(pg_catalog.=) (select d.datdba from pg_catalog.pg_database d
          where d.datname operator(pg_catalog.=) pg_catalog.current_database())) is not true`;
  if (row?.open)
    throw new OpenSearchPath(
      `sessions look names up in the schema ${row.open}, where others may create functions, because a pooler does ` +
        `not pass search_path on; as a DBA: alter role "${row.login}" set search_path = pg_catalog, pg_temp;`,
    );
  return row!.version as number;
}

/**
 * A pool of sessions on `url`. Nothing connects before the first query. bigint and timestamp values are returned as the
 * text that PostgreSQL prints, so that no digit is lost. If the URL names several hosts, each session goes to the first
 * one that satisfies target_session_attrs.
 */
export function connect(url: string, options: Options = {}): Sql {
  const target = parseDatabaseUrl(url);
  const [first] = target.hosts as [Host];
  const socket = () =>
    socketOf(target, async () => {
      const host = await currentHost(target);
      // The driver reads this object each time it starts a session, so it is changed in place.
      const settings = sql.options.connection as Record<string, unknown>;
      for (const name of [...Object.keys(pinnedSettings), ...newerNames]) delete settings[name];
      Object.assign(settings, await pinnedFor(url, target, host), options.connection);
      return host;
    });
  const sql: Sql = open(target, first, { ...options, socket } as Options);
  return sql;
}

const needsChoice = ({ hosts, targetSessionAttributes }: DatabaseUrl) =>
  hosts.length > 1 || targetSessionAttributes !== undefined;

/** The host that a session opened now connects to. */
export async function currentHost(target: DatabaseUrl): Promise<Host> {
  if (!needsChoice(target)) return target.hosts[0]!;
  return chooseHost(target, host => open(target, host, { max: 1 }));
}

/**
 * Opens a socket to the host that `choose` resolves to. Never rejects: after a failure it returns a socket that fails.
 */
async function socketOf(target: DatabaseUrl, choose: () => Promise<Host>): Promise<Socket> {
  try {
    const host = await choose();
    return Object.assign(await openSocket(host, target.connectTimeoutSeconds * 1000), host);
  } catch (error) {
    // After a rejection the driver would never use that session again. An error of the socket makes it try once more.
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
    // The driver's default pause between attempts grows to 20 s, which would add to the pauses of our callers.
    backoff: () => 0.2,
    onnotice: () => {},
    // By default the driver queries all array types at each connect. If the session ends during that query, its
    // rejection cannot be caught. The array types that we use are declared above.
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
