import { inLab, insertRows } from './lab.ts';
import { residentMiB, until } from './processes.ts';
import { startProduct } from './product.ts';
import type { Options, Outcome } from './results.ts';
import { progress } from './rounds.ts';
import { quantile } from './statistics.ts';

/** How much memory the runner uses while it routes and delivers the rows of one large statement. */
export const memory = ({ size: rows = 1_000_000 }: Options): Promise<Outcome> =>
  inLab(['synchronous_commit=off'], async lab => {
    const receiver = await lab.receiver();
    const { sql, runners } = await startProduct(lab, { target: receiver.url });
    await sql.unsafe(insertRows('work_orders', rows));
    progress('captured');
    await receiver.reset();
    const resident: number[][] = Array.from({ length: 10 }, () => []);
    runners.resume();
    const finished = async () => {
      const { count } = await receiver.count();
      const used = residentMiB(runners.pids[0]!);
      resident[Math.min(9, Math.floor((count / rows) * 10))]!.push(used);
      progress(`${count.toLocaleString('en')} delivered, ${Math.round(used)} MiB`);
      return count >= rows;
    };
    await until('the deliveries', finished, { timeoutMs: 1_200_000, everyMs: 500 });
    const { first, last, distinct } = await receiver.count();
    if (distinct !== rows) throw new Error(`${distinct} events of ${rows}`);
    const change = `a change, in one statement of ${rows.toLocaleString('en')} rows`;
    const sizes = await sql`
      select relation, (select sum(pg_table_size(relid)) from pg_partition_tree(relation))::float8 / ${rows} as bytes
      from unnest('{collecta.events,collecta.delivery_attempts}'::regclass[]) relation`;
    return {
      comparisons: [],
      facts: [
        { name: 'routed and delivered', value: rows / ((last - first) / 1000), unit: 'changes/s' },
        {
          name: "the runner's resident set in the first tenth, median",
          value: quantile(resident[0]!, 0.5),
          unit: 'MiB',
        },
        { name: 'the same in the last tenth', value: quantile(resident[9]!, 0.5), unit: 'MiB' },
        { name: 'the same at most', value: Math.max(...resident.flat()), unit: 'MiB' },
        ...sizes.map(({ relation, bytes }) => ({ name: `${relation}, ${change}`, value: bytes, unit: 'bytes' })),
      ],
    };
  });
