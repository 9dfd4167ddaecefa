import { setTimeout as pause } from 'node:timers/promises';
import { drainMeasures, drainProduct } from './drain.ts';
import { inLab, insertRows } from './lab.ts';
import { cpuSeconds, until } from './processes.ts';
import { isTrue, type Product, pauseEndpoints, queueIsEmpty, routeAll, startProduct } from './product.ts';
import type { Options, Outcome } from './results.ts';
import { type Contender, type Measure, progress, takeTurns } from './rounds.ts';

const measures: Measure[] = [
  { name: 'delivered', unit: 'deliveries/s', compared: true },
  { name: 'CPU of the server', unit: 'µs a delivery', compared: true },
];
const deliveries = 4_000;

/** How much a long queue, many endpoints, many retries and an old snapshot slow down the deliveries that are due. */
export const backlog = ({ size: rows = 1_000_000, ...options }: Options): Promise<Outcome> =>
  inLab(['synchronous_commit=off'], async lab => {
    const receiver = await lab.receiver();
    const target = receiver.url;
    const start = (endpoints: number) => startProduct(lab, { target, endpoints, scoped: true });

    /** Queues `count` deliveries. `tenant` is an SQL expression of `g`, from 1 to `count`: whose endpoint gets each. */
    const queue = async (product: Product, count: number, tenant: string) => {
      await pauseEndpoints(product, true);
      await product.sql.unsafe(
        `insert into work_orders (work_center) select 'tenant-' || ${tenant} from generate_series(1, ${count}) g`,
      );
      await routeAll(product);
      await pauseEndpoints(product, false);
      await product.sql`vacuum analyze`;
    };
    /** Has some thousand deliveries made, and freezes the runner again. */
    const deliverSome = async ({ sql, runners }: Product) => {
      await sql`checkpoint`;
      await receiver.reset();
      const before = cpuSeconds([lab.serverPid]);
      runners.resume();
      await until('the deliveries', async () => (await receiver.count()).count >= deliveries, { everyMs: 25 });
      await runners.freeze();
      await pause(100);
      const { count, first, last } = await receiver.count();
      const used = cpuSeconds([lab.serverPid]) - before;
      return { delivered: count / ((last - first) / 1000), 'CPU of the server': (used / count) * 1e6 };
    };
    const contenders: Contender[] = [];
    const add = async (
      name: string,
      endpoints: number,
      before: (product: Product) => Promise<unknown>,
      each = async (_: Product): Promise<unknown> => undefined,
    ) => {
      const product = await start(endpoints);
      await before(product);
      progress(`ready: ${name}`);
      contenders.push({
        name,
        async turn() {
          await each(product);
          return deliverSome(product);
        },
      });
    };
    const many = rows.toLocaleString('en');
    const short = async (product: Product) => {
      product.runners.resume();
      await until('the rest', () => isTrue(product.sql, queueIsEmpty));
      await product.runners.freeze();
      await queue(product, deliveries + 1_000, '1');
    };
    await add('5,000 rows, 1 endpoint', 1, async () => {}, short);
    await add(`${many} rows, 1 endpoint`, 1, product => queue(product, rows, '1'));
    await add(`${many} rows, 100 endpoints, 99 % at one`, 100, product =>
      queue(product, rows, 'case g % 100 when 0 then g / 100 % 100 + 1 else 1 end'),
    );
    await add(`${many} rows, 10,000 endpoints`, 10_000, product => queue(product, rows, '(g % 10000 + 1)'));
    const due = (share: string) => `update collecta.delivery_queue set due_at = now() where ctid = any (array(
      select ctid from collecta.delivery_queue tablesample bernoulli (${share}) where due_at > now()))`;
    await add(
      `${many} future retries, 10,000 endpoints, 5,000 due`,
      10_000,
      async product => {
        await queue(product, rows, '(g % 10000 + 1)');
        await product.sql`update collecta.delivery_queue set due_at = now() + interval '1 hour'`;
        await product.sql`vacuum full analyze collecta.delivery_queue`;
      },
      product => product.sql.unsafe(due(((5_000 / rows) * 100).toFixed(4))),
    );
    const comparison = await takeTurns(contenders, { title: 'Deliveries from a long queue', measures, ...options });

    const processed = Math.round(rows / 5);
    const beside = async (name: string, held: boolean) => {
      const product = await startProduct(lab, { target });
      const holder = lab.connect(product.url, 1);
      if (held) await holder.unsafe('begin isolation level repeatable read; select 1');
      await product.sql.unsafe(insertRows('work_orders', processed));
      product.runners.resume();
      await until('what is processed before', () => isTrue(product.sql, queueIsEmpty), { timeoutMs: 600_000 });
      await product.runners.freeze();
      return drainProduct({ lab, receiver }, product, { name, deliveries, routed: false });
    };
    const snapshots = [await beside('no transaction open', false), await beside('an old snapshot held open', true)];
    const title = `Routing and delivering after ${processed.toLocaleString('en')} that cannot be vacuumed`;
    return { comparisons: [comparison, await takeTurns(snapshots, { title, measures: drainMeasures, ...options })] };
  });
