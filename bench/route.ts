import { inLab, insertRows } from './lab.ts';
import { cpuSeconds } from './processes.ts';
import { type Product, pauseEndpoints, routeAll, startProduct, thisCheckout } from './product.ts';
import type { Options, Outcome } from './results.ts';
import { type Contender, type Measure, takeTurns } from './rounds.ts';

const measures: Measure[] = [
  { name: 'routed', unit: 'changes/s', compared: true },
  { name: 'CPU of the server', unit: 'µs a change', compared: true },
];

/** Measures routing alone. The endpoints are paused, so routed events stay in the queue. */
export const route = ({ size: changes = 10_000, only = '', checkouts, ...options }: Options): Promise<Outcome> =>
  inLab([], async lab => {
    const receiver = await lab.receiver();
    const contender = (name: string, product: Product): Contender => ({
      name,
      async turn() {
        await product.sql.unsafe(insertRows('work_orders', changes));
        await product.sql`vacuum analyze`;
        const before = cpuSeconds([lab.serverPid]);
        const seconds = await routeAll(product);
        const used = cpuSeconds([lab.serverPid]) - before;
        await product.sql`truncate collecta.delivery_queue`;
        return { routed: changes / seconds, 'CPU of the server': (used / changes) * 1e6 };
      },
    });
    const contenders: Contender[] = [];
    for (const checkout of checkouts ?? [thisCheckout])
      for (const endpoints of [1, 20]) {
        const name = `${endpoints} endpoint${endpoints > 1 ? 's' : ''}`;
        if (checkouts ? endpoints > 1 : endpoints > 1 && !name.includes(only)) continue;
        const product = await startProduct(lab, { checkout, target: receiver.url, endpoints });
        await pauseEndpoints(product, true);
        contenders.push(contender(checkouts ? checkout.name : name, product));
      }
    const title = `Routing of ${changes.toLocaleString('en')} changes`;
    return { comparisons: [await takeTurns(contenders, { title, measures, ...options })] };
  });
