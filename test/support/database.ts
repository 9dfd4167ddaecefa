import { randomBytes } from 'node:crypto';
import postgres from 'postgres';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { startServer } from './server.ts';

export { freePort, type Server, startServer } from './server.ts';

export type Sql = postgres.Sql;

export type Database = { url: string; name: string; sql: Sql };

/**
 * One server for the calling test file, stopped when the file ends; `database()` gives a fresh database
 * with collecta installed (a clone of a template migrated once), or an empty one.
 */
export async function useServer(flags: string[] = []) {
  const server = await startServer(flags);
  const open: Sql[] = [];
  const admin = connect(server.url());
  let template: Promise<void> | undefined;

  function connect(url: string, options: postgres.Options<Record<string, never>> = {}): Sql {
    const sql = postgres(url, { onnotice: () => {}, max: 10, ...options }) as unknown as Sql;
    open.push(sql);
    return sql;
  }

  async function makeTemplate() {
    await admin.unsafe('create database collecta_template');
    await migrate(server.url('collecta_template'));
  }

  async function database(kind: 'installed' | 'empty' = 'installed'): Promise<Database> {
    const name = `test_${randomBytes(6).toString('hex')}`;
    if (kind === 'installed') {
      template ??= makeTemplate();
      await template;
      await admin.unsafe(`create database ${name} template collecta_template`);
    } else {
      await admin.unsafe(`create database ${name}`);
    }
    const url = server.url(name);
    const sql = connect(url);
    // A clone is another database: what a restore would ask the DBA to confirm.
    if (kind === 'installed') await sql`select collecta.resume_after_restore()`;
    return { url, name, sql };
  }

  t.teardown(async () => {
    await Promise.all(open.map(sql => sql.end({ timeout: 1 })));
    await server.stop();
  });

  return { server, admin, connect, database };
}
