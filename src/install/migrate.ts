import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { connect } from '../database/connect.ts';
import { openPool, type Query } from '../database/pool.ts';

/** src/install and dist/install are both two folders below the package's root, so this path holds for both. */
const sqlFolder = new URL('../../sql/', import.meta.url);

/** Advisory lock ('coll', 4): one installer at a time. sql/install.psql takes the same lock. */
const installLock = [1668246636, 4] as const;

/** Why it does not install; `hint` says what to do next. */
export class MigrationError extends Error {
  readonly hint: string;
  constructor(message: string, hint: string) {
    super(message);
    this.name = 'MigrationError';
    this.hint = hint;
  }
}

export type Migration = { filename: string; hash: string; previousHash: string | null; body: string };
type LedgerRow = { filename: string; hash: string };

/**
 * Reads sql/committed in order. Throws MigrationError if a file does not match the hash in its header, or does not
 * follow the file before it. Format and hash are graphile-migrate's: SHA-1 over the previous hash, a line feed and the
 * trimmed body.
 */
export async function readMigrations(folder: URL = sqlFolder): Promise<Migration[]> {
  const migrations: Migration[] = [];
  for (const filename of await listMigrations(folder)) {
    const file = new URL(`committed/${filename}`, folder);
    const migration = parseMigration(filename, await readFile(file, 'utf8'));
    const previous = migrations.at(-1)?.hash ?? null;
    const { previousHash } = migration;
    if (previousHash !== previous)
      throw damaged(
        `${filename} follows ${previousHash ?? 'nothing'}, but the file before it is ${previous ?? 'missing'}`,
      );
    migrations.push(migration);
  }
  return migrations;
}

/** The names of the files in sql/committed, in order. Throws MigrationError if there are none. */
async function listMigrations(folder: URL): Promise<string[]> {
  const committed = new URL('committed/', folder);
  const filenames = (await readdir(committed)).filter(name => name.endsWith('.sql')).sort();
  if (filenames.length === 0) throw damaged(`no migration in ${committed.pathname}`);
  return filenames;
}

function parseMigration(filename: string, text: string): Migration {
  const [, header = '', rest = ''] = /^((?:--! [A-Z].*\n)+)\n([\s\S]*)$/.exec(text) ?? [];
  const previous = /^--! Previous: (\S+)$/m.exec(header)?.[1];
  const hash = /^--! Hash: (\S+)$/m.exec(header)?.[1];
  if (!previous || !hash) throw damaged(`${filename} has no header with its hash and the previous one`);
  const previousHash = previous === '-' ? null : previous;
  const body = `${rest.trim()}\n`;
  const actual = `sha1:${createHash('sha1')
    .update(`${previousHash === null ? '' : `${previousHash}\n`}${body}`)
    .digest('hex')}`;
  if (actual !== hash)
    throw damaged(`${filename} was changed: its content has the hash ${actual}, its header says ${hash}`);
  return { filename, hash, previousHash, body };
}

function damaged(message: string) {
  return new MigrationError(message, 'Install the package again; files in sql/committed are never edited.');
}

/**
 * The migrations that are still to be applied. Throws MigrationError if the ledger does not match the files. `released`
 * holds the hashes of all released migrations, and decides which advice the error gives.
 */
function pendingAfter(ledger: LedgerRow[], migrations: Migration[], released: Set<string>): Migration[] {
  for (const [index, row] of ledger.entries()) {
    const migration = migrations[index];
    if (!migrations.some(each => each.filename === row.filename))
      throw new MigrationError(
        `the database has ${row.filename}, which this version does not know`,
        'The database was installed by a newer version: upgrade this package. ' +
          '(select * from collecta.migrations shows what is installed.)',
      );
    if (migration?.filename !== row.filename)
      throw new MigrationError(
        `the database has ${row.filename} where this version has ${migration?.filename}`,
        'A row of collecta.migrations is missing or was renamed; restore the table from a backup.',
      );
    if (migration.hash === row.hash) continue;
    const hashes = `the database has ${row.hash}, this package has ${migration.hash}`;
    throw released.has(row.hash)
      ? new MigrationError(
          `${row.filename} is not the file that was installed: ${hashes}`,
          'Run the version that installed this database. A released migration never changes.',
        )
      : new MigrationError(
          `${row.filename} was installed from a commit that was never released: ${hashes}`,
          'Such a database cannot be upgraded to this version. Keep using that commit, or remove collecta and ' +
            'install it again, which loses its history and its queue: collecta-webhooks uninstall --yes, then ' +
            'migrate, then attach tables and create endpoints again.',
        );
  }
  return migrations.slice(ledger.length);
}

/** The hashes in sql/released.json, which maps version → filename → hash. */
async function readReleased(folder: URL): Promise<Set<string>> {
  const releases = JSON.parse(await readFile(new URL('released.json', folder), 'utf8')) as Record<string, object>;
  return new Set(Object.values(releases).flatMap(files => Object.values(files)));
}

async function readLedger(query: Query): Promise<LedgerRow[]> {
  const rows = await query`select filename, hash from collecta.migrations order by filename collate "C"`;
  return rows as unknown as LedgerRow[];
}

export type MigrateOptions = {
  /** Folder that holds prepare.sql, committed/ and repair.sql. */
  folder?: URL;
  /** The prefix of the role names, by default collecta_. It must be the same at each run. */
  rolePrefix?: string | undefined;
  /** Called before it waits for another installer, or for a table that a transaction has locked. */
  onWait?: (reason: string) => void;
  /** Called with each notice that a migration raises, such as about a role that the installer may not create. */
  onNotice?: (notice: { message: string; hint: string | undefined }) => void;
  /** How long one migration may wait for a lock. Every writer that comes after it waits too. */
  lockTimeoutMs?: number;
  /** How often a migration is tried whose wait for a lock timed out. */
  lockAttempts?: number;
};

/**
 * Installs or upgrades. Applies the migrations that the ledger does not have, each in its own transaction, and then
 * restores owners and privileges, even if no migration was pending. It is safe to run it twice, and from several places
 * at the same time. Returns the filenames that it applied, and those that were applied before. Throws MigrationError,
 * or the error of PostgreSQL.
 */
export async function migrate(
  url: string,
  {
    folder = sqlFolder,
    rolePrefix,
    onWait = () => {},
    onNotice = () => {},
    lockTimeoutMs = 3000,
    lockAttempts = 20,
  }: MigrateOptions = {},
): Promise<{ applied: string[]; already: string[] }> {
  const migrations = await readMigrations(folder);
  const released = await readReleased(folder);
  const [prepareSql, repairSql] = await Promise.all(
    ['prepare.sql', 'repair.sql'].map(name => readFile(new URL(name, folder), 'utf8')),
  );
  const sql = connect(url, {
    max: 1,
    // PostgreSQL's own notices, such as "already exists, skipping", are left out.
    onnotice: ({ message = '', hint }) => message.startsWith('collecta') && onNotice({ message, hint }),
  });
  const applied: string[] = [];

  /**
   * Applies the next pending migration and returns its filename; if none is pending, it runs repair.sql. The advisory
   * lock is a transaction's and not a session's, so that this works through a transaction pooler.
   */
  async function applyNext(): Promise<string | undefined> {
    return await sql.begin(async tx => {
      await tx`set local search_path = pg_catalog, pg_temp`;
      await tx`select set_config('statement_timeout', '0', true), set_config('client_min_messages', 'notice', true),
        set_config('standard_conforming_strings', 'on', true)`;
      if (rolePrefix) await tx`select set_config('collecta.role_prefix', ${rolePrefix}, true)`;
      const [lock] = await tx`select pg_try_advisory_xact_lock(${installLock[0]}, ${installLock[1]}) as granted`;
      if (!lock?.granted) {
        onWait('another installer is at work in this database');
        await tx`select pg_advisory_xact_lock(${installLock[0]}, ${installLock[1]})`;
      }
      await tx`select set_config('lock_timeout', ${String(lockTimeoutMs)}, true)`;
      await tx.unsafe(prepareSql as string);
      const [next] = pendingAfter(await readLedger(tx), migrations, released);
      if (!next) return void (await tx.unsafe(repairSql as string));
      await tx.unsafe(next.body);
      await tx`insert into collecta.migrations (filename, hash, previous_hash)
        values (${next.filename}, ${next.hash}, ${next.previousHash})`;
      return next.filename;
    });
  }

  try {
    for (let attempt = 1; ; ) {
      try {
        const filename = await applyNext();
        if (filename === undefined) break;
        applied.push(filename);
        attempt = 1;
      } catch (error) {
        // While a migration waits for a lock, writers queue behind it. So it gives up, lets them pass and tries again.
        if (!['55P03', '40P01'].includes((error as { code?: string }).code ?? '') || attempt++ >= lockAttempts)
          throw error;
        onWait('a transaction holds a lock that the migration needs');
        await pause(500);
      }
    }
  } finally {
    await sql.end({ timeout: 5 });
  }
  return { applied, already: migrations.map(each => each.filename).filter(name => !applied.includes(name)) };
}

export type InstallStatus = {
  state: 'not installed' | 'pending' | 'up to date';
  pending: string[];
  /** The server is a standby, or default_transaction_read_only is on. */
  readOnly?: true;
};

/**
 * What `migrate` would do. Throws MigrationError where `migrate` would refuse, because the database was installed from
 * other files.
 */
export async function check(url: string, folder: URL = sqlFolder): Promise<InstallStatus> {
  const found = await status(url, folder);
  if (found.state === 'not installed') return found;
  const sql = openPool(url, { max: 1, prepare: false });
  try {
    pendingAfter(await readLedger(sql), await readMigrations(folder), await readReleased(folder));
  } finally {
    await sql.end({ timeout: 5 });
  }
  return found;
}

/**
 * What a runner has to wait for. A database that is ahead of this version counts as up to date, because runners of the
 * old version keep running while an upgrade is rolled out.
 */
export async function status(url: string, folder: URL = sqlFolder): Promise<InstallStatus> {
  // Their contents are not read. A fleet asks this for each of its databases at once, and would fill its memory.
  const filenames = await listMigrations(folder);
  // It sends single statements, since a pooler in statement mode refuses transactions.
  const sql = openPool(url, { max: 1, prepare: false });
  try {
    const [row] = await sql`select pg_catalog.to_regclass('collecta.migrations') is not null as installed,
      pg_catalog.current_setting('transaction_read_only')::boolean as read_only`;
    const ledger = row?.installed ? await readLedger(sql) : [];
    const readOnly = row?.read_only ? { readOnly: true as const } : {};
    const installed = new Set(ledger.map(row => row.filename));
    const pending = filenames.filter(name => !installed.has(name));
    if (installed.size === 0) return { state: 'not installed', pending, ...readOnly };
    return { state: pending.length > 0 ? 'pending' : 'up to date', pending, ...readOnly };
  } finally {
    await sql.end({ timeout: 5 });
  }
}
