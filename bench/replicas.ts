import { drainMeasures, drainProduct } from './drain.ts';
import { inLab, inOrder, insertRow, pgbench } from './lab.ts';
import { cpuSeconds, until } from './processes.ts';
import { isTrue, queueIsEmpty, startProduct, thisCheckout } from './product.ts';
import type { Options, Outcome } from './results.ts';
import { type Comparison, type Measure, takeTurns } from './rounds.ts';

const loadMeasures: Measure[] = [
  { name: 'written', unit: 'transactions/s', compared: true },
  { name: 'delivered', unit: 'deliveries/s, from the first change to the last receipt', compared: true },
  { name: 'CPU of all processes', unit: 'µs a delivery', compared: true },
];

/**
 * Compares one runner with two on the same cores, once with the cores as the limit and once with slow receivers as the
 * limit. Then 16 clients write while two runners deliver.
 */
export const replicas = ({ seconds = 1, size = 8_000, checkouts, ...options }: Options): Promise<Outcome> =>
  inLab([], async lab => {
    const comparisons: Comparison[] = [];
    if (!checkouts)
      for (const [delayMs, deliveries] of [
        [0, size],
        [50, size / 4],
      ] as const) {
        const receiver = await lab.receiver(delayMs);
        const contenders = await inOrder([1, 2], async runners => {
          const product = await startProduct(lab, { target: receiver.url, endpoints: 4, runners });
          const name = runners === 1 ? 'one runner' : 'two runners';
          return drainProduct({ lab, receiver }, product, { name, deliveries, routed: true });
        });
        const title = delayMs === 0 ? 'receivers that answer at once' : `receivers that take ${delayMs} ms`;
        comparisons.push(await takeTurns(contenders, { title, measures: drainMeasures, ...options }));
      }
    const receiver = await lab.receiver();
    const contenders = await inOrder(checkouts ?? [thisCheckout], async checkout => {
      const product = await startProduct(lab, { checkout, target: receiver.url, runners: 2 });
      const { sql, url, runners } = product;
      return {
        name: checkout.name,
        async turn() {
          await sql`vacuum analyze`;
          await receiver.reset();
          const rows = async () => (await sql`select count(*)::int as rows from work_orders`)[0]!.rows as number;
          const existing = await rows();
          runners.resume();
          const cpu = () => cpuSeconds([lab.serverPid, receiver.pid, ...runners.pids]);
          const [before, from] = [cpu(), performance.timeOrigin + performance.now()];
          const written = pgbench(url, insertRow('work_orders'), 16, seconds);
          await until('the deliveries', () => isTrue(sql, queueIsEmpty));
          const used = cpu() - before;
          await runners.freeze();
          const { last, distinct } = await receiver.count();
          const missing = (await rows()) - existing - distinct;
          if (missing !== 0) throw new Error(`${missing} changes were not delivered`);
          return {
            written,
            delivered: distinct / ((last - from) / 1000),
            'CPU of all processes': (used / distinct) * 1e6,
          };
        },
      };
    });
    const title = '16 clients that write, two runners';
    comparisons.push(await takeTurns(contenders, { title, measures: loadMeasures, ...options }));
    return { comparisons };
  });
