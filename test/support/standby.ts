import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  appendFileSync,
  chownSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import type { Test } from 'tap';
import { freePort } from './server.ts';

/**
 * A streaming standby of the server at `primaryUrl` (a superuser’s URL on this machine). It is made from a copy of the
 * files, and runs the same program as the same system user.
 */
export async function startStandby(t: Pick<Test, 'teardown'>, primaryUrl: string) {
  const primary = postgres(primaryUrl, { max: 1, onnotice: () => {} });
  const directory = mkdtempSync(join(tmpdir(), 'collecta-standby-'));
  const data = join(directory, 'data');
  const [row] = await primary`
    select current_setting('data_directory') as data, current_setting('server_version_num')::int >= 150000 as renamed`;
  const source: string = row!.data;
  const program = readlinkSync(`/proc/${readFileSync(join(source, 'postmaster.pid'), 'utf8').split('\n')[0]}/exe`);
  const { uid, gid } = statSync(source);
  await primary.unsafe(
    row!.renamed ? `select pg_backup_start('test', true)` : `select pg_start_backup('test', true, false)`,
  );
  try {
    execFileSync('cp', ['-a', source, data], { stdio: 'pipe' });
  } catch {
    // A file may disappear while it is copied; its contents come with the WAL.
  }
  const [backup] = await primary.unsafe(
    row!.renamed ? 'select labelfile from pg_backup_stop()' : 'select labelfile from pg_stop_backup(false)',
  );
  const { host, port: primaryPort, user, pass } = primary.options as unknown as Record<string, string | string[]>;
  await primary.end();
  rmSync(join(data, 'postmaster.pid'), { force: true });
  for (const [file, text] of [
    ['backup_label', backup!.labelfile],
    ['standby.signal', ''],
  ]) {
    writeFileSync(join(data, file), text);
    chownSync(join(data, file), uid, gid);
  }
  appendFileSync(
    join(data, 'postgresql.auto.conf'),
    `primary_conninfo = 'host=${host} port=${primaryPort} user=${user} password=${pass}'\n`,
  );
  chownSync(directory, uid, gid);
  const port = await freePort();
  const own = process.getuid?.() === 0 ? { uid, gid } : {};
  const args = ['-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', 'fsync=off'];
  args.push('-c', 'max_connections=200', '-c', 'unix_socket_directories=/tmp');
  const child: ChildProcess = spawn(program, args, { ...own, cwd: '/', stdio: 'ignore' });
  const gone = new Promise(done => child.on('exit', done));
  const stop = async () => {
    child.kill('SIGINT');
    await gone;
    rmSync(directory, { recursive: true, force: true });
  };
  t.teardown(stop);
  const url = (database: string) => `postgres://${user}:${pass}@127.0.0.1:${port}/${database}`;
  const sql = postgres(url('postgres'), { max: 1, onnotice: () => {}, connect_timeout: 2 });
  t.teardown(() => sql.end({ timeout: 1 }));
  for (let tries = 0; ; tries++) {
    try {
      await sql`select 1`;
      break;
    } catch (error) {
      if (tries > 200) throw error;
      await new Promise(done => setTimeout(done, 50));
    }
  }
  return {
    port,
    url,
    stop,
    /** Resolves when the standby has become a primary. */
    promote: () => sql`select pg_promote()`,
    /** Resolves when the standby has everything that the primary has written so far. */
    async catchUp(from: postgres.Sql) {
      const [at] = await from`select pg_current_wal_lsn()::text as lsn`;
      for (;;) {
        const [there] = await sql`select pg_last_wal_replay_lsn() >= ${at!.lsn}::text::pg_lsn as done`;
        if (there!.done) return;
        await new Promise(done => setTimeout(done, 20));
      }
    },
  };
}
