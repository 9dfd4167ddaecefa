import { setTimeout as pause } from 'node:timers/promises';
import { inLab } from './lab.ts';
import { cpuSeconds } from './processes.ts';
import { startProduct } from './product.ts';
import type { Options, Outcome } from './results.ts';

/** Which queries a runner sends to the database while it has nothing to do, after it has delivered something. */
export const idle = ({ seconds = 30 }: Options): Promise<Outcome> =>
  inLab([], async lab => {
    const receiver = await lab.receiver();
    const { sql, runners } = await startProduct(lab, { target: receiver.url });
    runners.resume();
    await pause(10_000);
    const activity = async () => {
      const [row] = await sql<[{ transactions: number; writes: number }]>`
        select (xact_commit + xact_rollback)::float8 as transactions,
          (tup_inserted + tup_updated + tup_deleted)::float8 as writes
        from pg_stat_database where datname = current_database()`;
      return { ...row, cpu: cpuSeconds(runners.pids), server: cpuSeconds([lab.serverPid]) };
    };
    const before = await activity();
    await pause(seconds * 1_000);
    const after = await activity();
    const rate = (name: keyof typeof after) => (after[name] - before[name]) / seconds;
    return {
      comparisons: [],
      facts: [
        { name: 'transactions, the one that asks included', value: rate('transactions'), unit: 'a second' },
        { name: 'rows written', value: rate('writes'), unit: 'a second' },
        { name: "the runner's CPU", value: rate('cpu') * 100, unit: '% of a core' },
        { name: "the server's CPU", value: rate('server') * 100, unit: '% of a core' },
      ],
    };
  });
