import { setTimeout as pause } from 'node:timers/promises';
import type { TransactionSql } from 'postgres';
import { type Database, inLab, type Sql } from './lab.ts';
import { cpuSeconds, type Senders, until } from './processes.ts';
import { startProduct, thisCheckout } from './product.ts';
import type { Options, Outcome } from './results.ts';
import { idealLoop, idealLoopThatRoutes, jobQueues, startRival } from './rivals.ts';
import { type Comparison, type Measure, takeTurns } from './rounds.ts';
import { quantile } from './statistics.ts';

const measures: Measure[] = [
  { name: 'p50', unit: 'ms', compared: true },
  { name: 'p99', unit: 'ms', compared: true },
  { name: 'CPU of all processes', unit: 'µs a delivery', compared: true },
];

type Write = (tx: TransactionSql, body: string) => PromiseLike<unknown>;

/** Writes `rate` changes per second, each in its own transaction. Returns the time at which each COMMIT was sent. */
async function offer(sql: Sql, write: Write, rate: number, seconds: number): Promise<number[]> {
  const started = performance.now();
  const pending: Promise<unknown>[] = [];
  const committedAt: number[] = [];
  for (let number = 0; number < rate * seconds; number++) {
    const due = started + (number * 1000) / rate;
    while (performance.now() < due) await pause(Math.max(0, due - performance.now() - 0.5));
    const body = JSON.stringify({ number, note: 'a note of some length, as people write them' });
    const written = sql.begin(async tx => {
      await write(tx, body);
      committedAt[number] = performance.timeOrigin + performance.now();
    });
    pending.push(written);
  }
  await Promise.all(pending);
  return committedAt;
}

type Sender = Database & { name: string; senders: Senders; write: Write; held?: string };

/** The time from the COMMIT to the receipt, while changes come at a steady rate. */
export const latency = ({ seconds = 2, only = '', checkouts, ...options }: Options): Promise<Outcome> =>
  inLab([], async lab => {
    const receiver = await lab.receiver();
    const started: Sender[] = [];
    if (!checkouts)
      for (const rival of [idealLoop, idealLoopThatRoutes, ...jobQueues]) {
        if (rival !== idealLoop && !rival.name.includes(only)) continue;
        const running = await startRival(lab, rival, receiver.url);
        started.push({ ...running, name: rival.name, write: rival.write });
      }
    for (const checkout of checkouts ?? [thisCheckout]) {
      const product = await startProduct(lab, { checkout, target: receiver.url });
      const write: Write = (tx, body) =>
        tx`insert into work_orders (product_code, custom_data) values ('A-4711', ${body}::text::jsonb)`;
      started.push({ ...product, name: checkout.name, senders: product.runners, write });
    }

    const burst = async ({ url, senders, write }: Sender, rate: number, held: boolean) => {
      // The sessions are opened for this turn, so that those of all contenders are equally new.
      const sql = lab.connect(url, 8);
      await Promise.all(Array.from({ length: 8 }, () => sql`select 1`));
      senders.resume();
      await receiver.reset();
      const cpu = () => cpuSeconds([lab.serverPid, receiver.pid, ...senders.pids]);
      const holder = lab.connect(url, 1);
      // This session has captured a change and does not commit. It will not notify any more.
      if (held) await holder.unsafe(`begin; insert into work_orders (status) values ('held')`);
      await pause(1_200); // until the runner sleeps again
      const before = cpu();
      const committedAt = await offer(sql, write, rate, seconds);
      await until('the last receipt', async () => (await receiver.count()).count >= committedAt.length);
      await pause(200);
      const used = cpu() - before;
      await holder.end({ timeout: 0 });
      await senders.freeze();
      const times = (await receiver.receipts()).map(([number, at]) => at - committedAt[number]!);
      if (times.length !== committedAt.length) throw new Error(`${times.length} of ${committedAt.length} received`);
      await sql.end();
      const perDelivery = (used / times.length) * 1e6;
      return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), 'CPU of all processes': perDelivery };
    };
    const comparisons: Comparison[] = [];
    const compare = async (title: string, contenders: Sender[], rate: number, held = false) => {
      const turns = contenders.map(each => ({ name: each.name, turn: () => burst(each, rate, held) }));
      comparisons.push(await takeTurns(turns, { title, measures, ...options }));
    };
    await compare('100 changes a second', started, 100);
    if (checkouts) return { comparisons };
    await compare('500 changes a second', started, 500);
    return { comparisons };
  });
