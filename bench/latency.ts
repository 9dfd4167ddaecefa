import { type ChildProcess, spawn } from 'node:child_process';
import { idealSchema, installPeer, prepare } from './drain.ts';
import type { Offer } from './offer.ts';
import {
  pause,
  progress,
  type Receiver,
  root,
  type Sql,
  save,
  startBenchServer,
  startReceiver,
  startRunner,
  startScript,
  stop,
  Table,
} from './support.ts';

const peerRates = [100, 500];

/** Writes `rate` changes a second for `seconds` from another process; comes back with when each one's COMMIT was sent. */
async function offer(url: string, whose: Offer, rate: number, seconds: number): Promise<number[]> {
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', `${root}bench/offer.ts`, url, whose, String(rate), String(seconds)],
    { cwd: root, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  );
  return new Promise((done, fail) => {
    child.once('message', committing => done(committing as number[]));
    child.once('exit', code => fail(new Error(`offering changes ended with ${code}`)));
  });
}

const quantile = (sorted: number[], q: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;

/** Commit to receipt, idle wake-ups included; against an ideal loop with an unconditional NOTIFY, and the job queues. */
export async function latency({
  repetitions = 3,
  seconds = 12,
  rates = [10, 100, 500, 1_500],
  only = '',
} = {}): Promise<void> {
  const server = await startBenchServer();
  const receiver: Receiver = await startReceiver();
  const tables = new Map<string, Table>();
  const note = (what: string, name: string, value: number) => {
    const found = tables.get(what) ?? new Table(what, 'ms', 'ideal loop');
    tables.set(what, found);
    found.add(name, value);
  };
  const jobQueue = (peer: string, whose: Offer) => async () => {
    const { url, sql } = await server.database(false);
    await installPeer(peer, url);
    return { url, sql, whose, child: startScript('peers.ts', peer, url, receiver.url, '50') };
  };
  const idealLoop = (whose: Offer, table: string, mode: string) => async () => {
    const { url, sql } = await server.database(false);
    await sql.unsafe(idealSchema);
    await sql.unsafe(`create function announce() returns trigger language plpgsql as $$ begin perform pg_notify('ideal', ''); return null; end $$;
      create trigger announce after insert on ${table} for each statement execute function announce()`);
    return { url, sql, whose, child: startScript('ideal.ts', url, receiver.url, '50', mode) };
  };
  const contenders: Record<string, () => Promise<{ url: string; sql: Sql; child: ChildProcess; whose: Offer }>> = {
    'ideal loop': idealLoop('ideal', 'ideal_queue', 'listen'),
    'ideal loop that routes': idealLoop('ideal outbox', 'ideal_outbox', 'route'),
    collecta: async () => {
      const { url, sql } = await server.database();
      await prepare(sql, receiver.url);
      return { url, sql, whose: 'collecta', child: startRunner('node', url) };
    },
    'graphile-worker, tuned': jobQueue('graphile-worker', 'graphile-worker'),
    'graphile-worker as installed': jobQueue('graphile-worker as installed', 'graphile-worker'),
    'pg-boss, polling twice a second': jobQueue('pg-boss', 'pg-boss'),
  };
  for (let i = 0; i < repetitions; i++)
    for (const [name, start] of Object.entries(contenders)) {
      if (only && !only.split(',').includes(name)) continue;
      const { url, sql, child, whose } = await start();
      const ours = whose === 'collecta' || whose.startsWith('ideal');
      const offered = rates.filter(rate => ours || peerRates.includes(rate));
      await pause(2_500);
      await offer(url, whose, 200, 4); // warm
      await pause(1_500); // what comes late has numbers, too
      for (const [rate, held] of [
        ...offered.map(rate => [rate, false] as const),
        ...(ours && rates.includes(100) ? [[100, true] as const] : []),
      ]) {
        await receiver.reset();
        const writer = await sql.reserve();
        if (held)
          await writer.unsafe(
            whose.startsWith('ideal')
              ? `begin; select pg_current_xact_id()`
              : `begin; insert into work_orders (status) values ('held')`,
          );
        const committing = await offer(url, whose, rate, seconds);
        await pause(1_500);
        if (held) await writer.unsafe('rollback');
        writer.release();
        const sorted = (await receiver.receipts())
          .map(([number, at]) => at - (committing[number] ?? Number.NaN))
          .sort((a, b) => a - b);
        const label = held ? `${rate}/s, a write transaction held open` : `${rate}/s`;
        for (const [quantileName, q] of [
          ['p50', 0.5],
          ['p99', 0.99],
          ['p99.9', 0.999],
        ] as const)
          note(`${label}, ${quantileName}`, name, quantile(sorted, q));
        progress(
          `${name} at ${label}: ${sorted.length} received, p50 ${quantile(sorted, 0.5).toFixed(2)} p99 ${quantile(sorted, 0.99).toFixed(2)} ms`,
        );
      }
      await stop(child, 'SIGKILL');
      await sql.end({ timeout: 1 });
    }
  receiver.stop();
  await server.stop();
  save('latency', [...tables.values()]);
}
