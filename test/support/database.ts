import { randomBytes } from 'node:crypto';
import postgres from 'postgres';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { startServer } from './server.ts';

export { freePort, type Server, startServer } from './server.ts';

export type Sql = postgres.Sql;

export type Database = { url: string; name: string; sql: Sql };

/**
 * The encoding and locale of a database. `locale` is libc's `C` or `C.UTF-8`, or an ICU locale such as `tr-TR`
 * (PostgreSQL 15 or later).
 */
export type Text = { encoding?: string | undefined; locale?: string | undefined };

/**
 * TEST_ENCODING and TEST_LOCALE choose the databases of tests that do not ask for another encoding or
 * locale.
 */
const usual: Text = {
  encoding: process.env.TEST_ENCODING || undefined,
  locale: process.env.TEST_LOCALE || undefined,
};

function createDatabase(name: string, { encoding, locale }: Text): string {
  if (encoding === undefined && locale === undefined) return `create database ${name}`;
  const icu = locale !== undefined && !locale.startsWith('C');
  const libc = icu || locale === undefined ? ((encoding ?? 'UTF8') === 'UTF8' ? 'C.UTF-8' : 'C') : locale;
  return `create database ${name} template template0 encoding '${encoding ?? 'UTF8'}' locale '${libc}'
    ${icu ? `locale_provider icu icu_locale '${locale}'` : ''}`;
}

/**
 * One server for the calling test file, stopped when the file ends. `database()` returns a new database, empty or with
 * collecta installed (a clone of a template that was migrated once).
 */
export async function useServer(flags: string[] = [], onLog?: (text: string) => void, release?: string) {
  const server = await startServer(flags, onLog, release);
  const open: Sql[] = [];
  const admin = connect(server.url());
  const templates = new Map<string, Promise<string>>();

  function connect(url: string, options: postgres.Options<Record<string, never>> = {}): Sql {
    const sql = postgres(url, { onnotice: () => {}, max: 10, ...options }) as unknown as Sql;
    open.push(sql);
    return sql;
  }

  async function makeTemplate(name: string, text: Text): Promise<string> {
    await admin.unsafe(createDatabase(name, text));
    await migrate(server.url(name));
    return name;
  }

  async function database(kind: 'installed' | 'empty' = 'installed', text: Text = usual): Promise<Database> {
    const name = `test_${randomBytes(6).toString('hex')}`;
    if (kind === 'installed') {
      const key = JSON.stringify(text);
      const template =
        templates.get(key) ?? makeTemplate(`collecta_template${text === usual ? '' : `_${templates.size}`}`, text);
      templates.set(key, template);
      await admin.unsafe(`create database ${name} template ${await template}`);
    } else {
      await admin.unsafe(createDatabase(name, text));
    }
    const url = server.url(name);
    const sql = connect(url);
    // A clone is a different database, so what a DBA confirms after a restore is confirmed here.
    if (kind === 'installed') await sql`select collecta.resume_after_restore()`;
    return { url, name, sql };
  }

  t.teardown(async () => {
    await Promise.all(open.map(sql => sql.end({ timeout: 1 })));
    await server.stop();
  });

  return { server, admin, connect, database };
}
