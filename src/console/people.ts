import { randomBytes, timingSafeEqual } from 'node:crypto';
import type postgres from 'postgres';
import type { Config } from '../config.ts';
import { connect, type Sql, whyUnreachable } from '../database/connect.ts';

export type Transaction = postgres.TransactionSql;

/** A person who uses the console. Everything is read and done as their role of PostgreSQL. */
export type Person = {
  role: string;
  /** Runs in one read-only transaction. */
  read<T>(work: (sql: Transaction) => Promise<T>): Promise<T>;
  /** Runs in one transaction that may write. */
  act<T>(work: (sql: Transaction) => Promise<T>): Promise<T>;
};

/** The database did not answer a transaction in time. Whether a transaction that writes was committed is not known. */
export class DidNotAnswer extends Error {}

/** Says why a login is refused. The message is shown to the person. */
export class Refused extends Error {
  readonly status: 401 | 403 | 429 | 503;
  constructor(status: 401 | 403 | 429 | 503, message: string) {
    super(message);
    this.status = status;
  }
}

type Session = { person: Person; connections: Connections; since: number; usedAt: number };

const idleMs = 30 * 60_000;
const longestMs = 12 * 3_600_000;
const maxSessions = 100;
const maxSessionsOfName = 10;
const connectionsEach = 2;
const statementTimeout = '5s';
/** How long a transaction may take. A database that is cut off never answers, so statementTimeout is not enough. */
const patienceMs = 10_000;
/** Failed logins a minute: of a name from one address, of a name from everywhere, and of all names from one address. */
const maxFailures = { nameFromAddress: 10, name: 30, address: 60 };
const maxLoginsAtOnce = 4;
const maxRemembered = 10_000;

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

/**
 * Starts every transaction, so that no setting of the role or the database changes how values are printed or found.
 */
const settings = `set local search_path = pg_catalog, pg_temp; set local statement_timeout = '${statementTimeout}';
  set local "TimeZone" = 'UTC'; set local datestyle = 'ISO'; set local intervalstyle = 'postgres';
  set local row_security = on;
  set local standard_conforming_strings = on; set local jit = off; set local max_parallel_workers_per_gather = 0;
    set local lock_timeout = '2s'`;

type Connections = {
  /** Runs one transaction. Throws DidNotAnswer. */
  begin<T>(mode: string, work: (sql: Transaction) => Promise<T>): Promise<T>;
  end(): void;
};

/** Connections that are replaced as soon as the database has not answered a transaction in time. */
function keepConnections(open: () => Sql): Connections {
  let pool = open();
  const close = (used: Sql, timeout: number) => void used.end({ timeout }).catch(() => {});
  return {
    async begin<T>(mode: string, work: (sql: Transaction) => Promise<T>): Promise<T> {
      const used = pool;
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => {
          if (pool === used) pool = open();
          close(used, 0);
          reject(new DidNotAnswer('the database did not answer'));
        }, patienceMs);
      });
      try {
        return await Promise.race([used.begin(mode, work) as Promise<T>, late]);
      } finally {
        clearTimeout(timer);
      }
    },
    end: () => close(pool, 1),
  };
}

function personOf(connections: Connections, role: string, setRole: boolean): Person {
  const begin = setRole ? `${settings}; set local role ${quoted(role)}` : settings;
  const within =
    (mode: string) =>
    <T>(work: (sql: Transaction) => Promise<T>): Promise<T> =>
      connections.begin(mode, async sql => {
        await sql.unsafe(begin).simple();
        return await work(sql);
      });
  return { role, read: within('read only'), act: within('read write') };
}

async function checkReader(person: Person, isNamedByProxy = false): Promise<void> {
  // to_regclass would fail if the role may not use the schema.
  const [row] = await person.read(
    sql => sql`
      select current_user::text as role, session_user::text as login,
        has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') as reads
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'collecta' and c.relname = 'webhook_deliveries'`,
  );
  // PostgreSQL reads SET ROLE "none" as: no other role than the login's.
  if (row && row.role !== person.role) throw new Refused(403, `${person.role} is no role of PostgreSQL.`);
  if (row && isNamedByProxy && row.login === row.role)
    throw new Refused(403, `The proxy named ${person.role}, which is the console's own login and nobody's role.`);
  if (!row?.reads)
    throw new Refused(
      403,
      `${person.role} may not read collecta. A DBA lets it: grant collecta_reader to ${person.role};`,
    );
}

export type People = {
  /**
   * The person of a session, by the cookie's value. `used` is false for the requests of a page that refreshes itself.
   */
  ofSession(token: string | undefined, used?: boolean): Person | undefined;
  /** The person whom a trusted proxy names. Throws Refused. */
  ofHeader(value: string | undefined): Promise<Person>;
  /** Logs in, and returns the new session's token. `address` is the client's address. Throws Refused. */
  login(name: string, password: string, address?: string): Promise<string>;
  logout(token: string | undefined): void;
  close(): Promise<void>;
};

/**
 * Logs people in. A login is a login role of PostgreSQL. Its name and password open the sessions with which everything
 * is read. They are kept only in the memory of this process, until the session ends: when the person logs out, is idle
 * for half an hour, or has been logged in for twelve hours.
 */
export function createPeople(config: Pick<Config, 'databaseUrl'>): People {
  const sessions = new Map<string, Session>();
  /** The times of logins that failed in the last minute or are under way, by name and address. */
  const tries = new Map<string, number[]>();
  let loginsAtOnce = 0;
  const named = new Map<string, Promise<Person>>();
  let shared: Connections | undefined;

  const options = (max: number) => ({
    max,
    idle_timeout: 30,
    prepare: false,
    connect_timeout: 5,
    purpose: 'console',
  });

  function end(token: string): void {
    const session = sessions.get(token);
    sessions.delete(token);
    session?.connections.end();
  }

  /** Ends the oldest sessions of a role that has too many, so that one person cannot keep all others out. */
  function makeRoomFor(role: string): void {
    const own = [...sessions].filter(([, { person }]) => person.role === role);
    for (const [token] of own.slice(0, Math.max(0, own.length - maxSessionsOfName + 1))) end(token);
  }

  const sweep = setInterval(() => {
    const now = Date.now();
    for (const [token, { since, usedAt }] of sessions) if (now - usedAt > idleMs || now - since > longestMs) end(token);
    for (const [key, times] of tries) if (now - (times.at(-1) ?? 0) > 60_000) tries.delete(key);
  }, 60_000);
  sweep.unref();

  return {
    ofSession(token, used = true) {
      if (!token) return undefined;
      const given = Buffer.from(token);
      for (const [known, session] of sessions) {
        const expected = Buffer.from(known);
        if (expected.length !== given.length || !timingSafeEqual(expected, given)) continue;
        if (Date.now() - session.usedAt > idleMs || Date.now() - session.since > longestMs) {
          end(known);
          return undefined;
        }
        if (used) session.usedAt = Date.now();
        return session.person;
      }
      return undefined;
    },

    async ofHeader(value) {
      // Node joins repeated headers with commas. A comma means that the client sent the proxy's header too.
      if (!value || value.includes(',') || value.length > 63 || /[^\x20-\x7e]/.test(value))
        throw new Refused(401, 'The proxy in front of this console named nobody.');
      shared ??= keepConnections(() => connect(config.databaseUrl, options(5)));
      let person = named.get(value);
      if (!person) {
        if (named.size > 1_000) named.clear();
        const made = personOf(shared, value, true);
        person = checkReader(made, true).then(
          () => made,
          error => {
            named.delete(value);
            if (error instanceof Refused || error instanceof DidNotAnswer || whyUnreachable(error) !== undefined)
              throw error;
            throw new Refused(403, `The proxy named ${value}, which is no role that this console may act as.`);
          },
        );
        named.set(value, person);
      }
      return await person;
    },

    async login(name, password, address = '') {
      if (!name || !password || name.length > 63 || /\0/.test(name + password))
        throw new Refused(401, 'A name and a password are needed.');
      const now = Date.now();
      const keys = [
        [`${address} name ${name}`, maxFailures.nameFromAddress],
        [`name ${name}`, maxFailures.name],
        [`address ${address}`, maxFailures.address],
      ] as const;
      const recent = (key: string) => (tries.get(key) ?? []).filter(time => now - time < 60_000);
      if (keys.some(([key, limit]) => recent(key).length >= limit))
        throw new Refused(429, 'Too many failed logins. Wait a minute.');
      if (sessions.size >= maxSessions || loginsAtOnce >= maxLoginsAtOnce)
        throw new Refused(503, 'Too many people are logging in. Try again later.');
      // The login is counted before the database is asked, so that simultaneous logins are counted too.
      for (const [key] of keys) {
        tries.set(key, [...recent(key), now]);
        if (tries.size > maxRemembered) tries.delete(tries.keys().next().value as string);
      }
      const forgetTry = () => {
        for (const [key] of keys) {
          const others = [...(tries.get(key) ?? [])];
          others.splice(others.indexOf(now), 1);
          if (others.length > 0) tries.set(key, others);
          else tries.delete(key);
        }
      };
      loginsAtOnce++;
      // The console refuses roles that pg_hba.conf admits without a password.
      let asked = false;
      const connections = keepConnections(() =>
        connect(config.databaseUrl, {
          ...options(connectionsEach),
          user: name,
          password: () => {
            asked = true;
            return password;
          },
        }),
      );
      const person = personOf(connections, name, false);
      try {
        await checkReader(person);
        if (!asked)
          throw new Refused(
            403,
            `The database asks ${name} for no password from here, so the console cannot tell who you are. ` +
              'See pg_hba.conf.',
          );
      } catch (error) {
        connections.end();
        const { code } = error as { code?: string };
        if (code?.startsWith('28')) throw new Refused(401, 'Name or password is wrong.');
        // The database did not answer, or the password was right, so this does not count as a failed login.
        if (!(error instanceof Refused) || asked) forgetTry();
        throw error;
      } finally {
        loginsAtOnce--;
      }
      forgetTry();
      makeRoomFor(name);
      const token = randomBytes(32).toString('base64url');
      sessions.set(token, { person, connections, since: now, usedAt: now });
      return token;
    },

    logout(token) {
      if (token) end(token);
    },

    async close() {
      clearInterval(sweep);
      for (const token of [...sessions.keys()]) end(token);
      shared?.end();
    },
  };
}
