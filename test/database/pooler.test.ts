import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { connect } from '../../src/database/connect.ts';
import { freePort, type Sql, useServer } from '../support/database.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';

const program = '/usr/sbin/pgbouncer';
if (!existsSync(program)) {
  t.comment('pgbouncer is not installed (apt-get install pgbouncer)');
  t.pass('nothing to test here');
  process.exit(0);
}
const { admin, database, server } = await useServer();
// PostgreSQL 15 and later revoke this by default. This pooler does not pass search_path on, so nobody else may create
// objects in public.
await admin`revoke create on schema public from public`;
const receiver = await startReceiver();

/** pgbouncer in front of the server, with several server connections: each transaction may use another one. */
async function startPooler(t: Test, mode: string) {
  const directory = mkdtempSync(join(tmpdir(), 'collecta-pooler-'));
  chmodSync(directory, 0o755);
  const port = await freePort();
  writeFileSync(
    join(directory, 'pgbouncer.ini'),
    `[databases]
* = host=127.0.0.1 port=${server.port} user=postgres password=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = ${mode}
default_pool_size = ${mode === 'session' ? 20 : 4}
`,
  );
  const id = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  const user = process.getuid?.() === 0 ? { uid: id('-u'), gid: id('-g') } : {};
  const child = spawn(program, ['-q', join(directory, 'pgbouncer.ini')], { ...user, cwd: '/', stdio: 'ignore' });
  const gone = new Promise(done => child.on('exit', done));
  t.teardown(async () => {
    child.kill('SIGKILL');
    await gone;
    rmSync(directory, { recursive: true, force: true });
  });
  const through = (url: string) => url.replace(`:${server.port}/`, `:${port}/`);
  await until('the pooler answers', async () => {
    const sql = connect(through(server.url()), { max: 1, prepare: false });
    const rows = await sql`select 1 as n`.catch(() => []);
    await sql.end({ timeout: 1 });
    return rows.length > 0;
  });
  return { through };
}

const attempts = async (sql: Sql) =>
  (await sql`select from collecta.webhook_deliveries where outcome = 'delivered'`).length;

for (const mode of ['session', 'transaction', 'statement'])
  t.test(`pgbouncer, ${mode} pooling, default settings: everything is delivered and recorded once`, async t => {
    const { sql, url } = await database();
    await sql`create table t (id int primary key)`;
    await sql`select collecta.attach_module('t', 't')`;
    const path = `/${mode}`;
    await createEndpoint(sql, receiver, path, { events: ['record_created'] });
    const { through } = await startPooler(t, mode);
    const runners = await Promise.all(
      [1, 2].map(() => startRunner(through(url), { env: { COLLECTA_POLL_INTERVAL_MS: '200' } })),
    );
    for (const runner of runners) await runner.logged('dispatching');
    for (let i = 0; i < 10; i++) {
      await sql`insert into t select generate_series(${i * 100 + 1}::int, ${i * 100 + 100}::int)`;
      await until('they are recorded', async () => (await attempts(sql)) === (i + 1) * 100, 30_000, 50);
    }
    t.equal(receiver.to(path).length, 1_000, 'each once');
    t.equal((await sql`select from collecta.webhook_deliveries where outcome <> 'delivered'`).length, 0);
    for (const runner of runners) {
      if (mode === 'session') await runner.logged('listening');
      else {
        const [warning] = await until('it notices', () => {
          const found = runner.log.filter(({ event }) => event.startsWith('no notification comes through'));
          return found.length > 0 && found;
        });
        t.match(warning, { level: 'warn', hint: /COLLECTA_LISTEN_URL/ });
      }
      t.equal((await runner.stop()).status, 0);
      t.strictSame(
        runner.log.filter(({ level }) => level === 'error'),
        [],
        'no error',
      );
    }
    if (mode !== 'session')
      t.ok(
        runners.some(({ log }) => log.some(({ event }) => event.startsWith('a transaction pooler is in between'))),
        'prepared statements were given up',
      );
  });
