import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { createTable, inLab, type Sql } from './lab.ts';
import { cpuSeconds, residentMiB, until } from './processes.ts';
import { installedDatabase, startCommand, thisCheckout } from './product.ts';
import type { Options, Outcome } from './results.ts';
import { progress } from './rounds.ts';
import { quantile } from './statistics.ts';

/**
 * One process that serves many databases: how much memory and how many sessions it uses while they are idle, and how
 * soon it sends a change of any of them.
 */
export const fleet = ({ size: databases = 100, seconds = 20 }: Options): Promise<Outcome> =>
  inLab([`max_connections=${databases * 10 + 50}`, 'shared_buffers=256MB'], async lab => {
    const receiver = await lab.receiver();
    const template = await installedDatabase(lab, thisCheckout);
    await template.sql.unsafe(createTable('work_orders'));
    await template.sql`select collecta.attach_module('work_orders', 'work-orders')`;
    await template.sql`select collecta.create_endpoint(${receiver.url}, '{record_created}')`;
    await template.sql.end();
    const admin = lab.connect(template.url.replace(/\/bench_\d+$/, '/postgres'), 1);
    const names = Array.from({ length: databases }, (_, index) => `member_${index + 1}`);
    const urlOf = (name: string) => template.url.replace(/bench_\d+$/, name);
    for (const name of names) {
      await admin.unsafe(
        `create database ${name} template ${new URL(template.url).pathname.slice(1)} strategy file_copy`,
      );
      execFileSync('psql', ['-qXc', 'select collecta.resume_after_restore()', urlOf(name)], { stdio: 'ignore' });
    }
    progress(`${databases} databases`);
    const folder = mkdtempSync(join(tmpdir(), 'collecta-fleet-'));
    const list = join(folder, 'databases.json');
    writeFileSync(list, JSON.stringify(Object.fromEntries(names.map(name => [name, urlOf(name)]))));
    const env = { COLLECTA_DATABASES: list, COLLECTA_PORT: '0' };
    const child = startCommand(thisCheckout, 'run', { url: '', env });
    const senders = lab.senders([child], admin);
    const sessions = async () => {
      const rows = await admin`
        select count(*)::int as sessions from pg_stat_activity
        where application_name like 'collecta-webhooks%' and datname like 'member_%' group by datname`;
      return rows.map(row => row.sessions as number);
    };
    const started = performance.now();
    await until('all are served', async () => (await sessions()).length === databases, { everyMs: 200 });
    await until('all are idle', async () => Math.max(...(await sessions())) <= 3, { everyMs: 200 });
    progress(`idle after ${Math.round(performance.now() - started)} ms`);

    const resident: number[] = [];
    const most: number[] = [];
    const used = () => ({ process: cpuSeconds(senders.pids), server: cpuSeconds([lab.serverPid]) });
    const before = used();
    for (let second = 0; second < seconds; second++) {
      await pause(1_000);
      resident.push(residentMiB(senders.pids[0]!));
      most.push(Math.max(...(await sessions())));
    }
    const after = used();
    // First, one change in one database after the other. Each database is idle until then.
    const writers: Sql[] = [];
    const times: number[] = [];
    for (const [number, name] of names.entries()) {
      const sql = lab.connect(urlOf(name), 1);
      writers.push(sql);
      await sql`select 1`;
      await receiver.reset();
      const at = performance.timeOrigin + performance.now();
      await sql`insert into work_orders (custom_data) values (${JSON.stringify({ number })}::text::jsonb)`;
      await until('the receipt', async () => (await receiver.count()).count >= 1, { everyMs: 5 });
      times.push((await receiver.receipts())[0]![1] - at);
    }
    // Then a hundred changes in all databases at once. The first time, sessions and plans do not exist yet.
    const burst = async () => {
      await receiver.reset();
      const from = performance.timeOrigin + performance.now();
      await Promise.all(
        writers.map(sql => sql`insert into work_orders (status) select 'x' from generate_series(1, 100)`),
      );
      await until('the deliveries', async () => (await receiver.count()).count >= databases * 100);
      return (databases * 100) / (((await receiver.count()).last - from) / 1000);
    };
    const bursts = [await burst(), await burst(), await burst(), await burst()];
    const busy = residentMiB(senders.pids[0]!);
    rmSync(folder, { recursive: true });
    const share = (now: number, then: number) => ((now - then) / seconds) * 100;
    return {
      comparisons: [],
      facts: [
        { name: 'databases in one process, all idle', value: databases, unit: '' },
        { name: 'its resident set, median', value: quantile(resident, 0.5), unit: 'MiB' },
        { name: 'the same at most', value: Math.max(...resident), unit: 'MiB' },
        { name: 'sessions of one database, at most', value: Math.max(...most), unit: '' },
        { name: "the process's CPU", value: share(after.process, before.process), unit: '% of a core' },
        { name: "the server's CPU", value: share(after.server, before.server), unit: '% of a core' },
        { name: 'from an INSERT into an idle database to the receipt, p50', value: quantile(times, 0.5), unit: 'ms' },
        { name: 'the same, p99', value: quantile(times, 0.99), unit: 'ms' },
        { name: '100 changes in each database at once, the first time', value: bursts[0]!, unit: 'changes/s' },
        { name: 'the same again, median of three', value: quantile(bursts.slice(1), 0.5), unit: 'changes/s' },
        { name: 'resident set after that', value: busy, unit: 'MiB' },
      ],
    };
  });
