import { inLab, inOrder, insertRows, type Lab, type Sql } from './lab.ts';
import { cpuSeconds, type Receiver, type Senders, until } from './processes.ts';
import { isTrue, type Product, pauseEndpoints, queueIsEmpty, routeAll, startProduct, thisCheckout } from './product.ts';
import type { Options, Outcome } from './results.ts';
import { idealLoop, jobQueues, type Rival, startRival } from './rivals.ts';
import { type Contender, type Measure, takeTurns } from './rounds.ts';

export const drainMeasures: Measure[] = [
  { name: 'delivered', unit: 'deliveries/s', compared: true },
  { name: 'CPU of all processes', unit: 'µs a delivery', compared: true },
  { name: 'of it the sender', unit: 'µs a delivery' },
  { name: 'of it the database', unit: 'µs a delivery' },
  { name: 'WAL', unit: 'bytes a delivery' },
  { name: 'transaction ids', unit: 'per 100 deliveries' },
];

export type Place = { lab: Lab; receiver: Receiver };

/**
 * Has the senders deliver what is due until `finished` returns true. The rate is from the first receipt to the last.
 */
export async function drainOnce(
  { lab, receiver }: Place,
  { sql, senders }: { sql: Sql; senders: Senders },
  deliveries: number,
  finished: string,
): Promise<Record<string, number>> {
  await receiver.reset();
  const counters = async () => {
    const [row] = await sql<[{ wal: number; ids: number }]>`
      select (pg_current_wal_insert_lsn() - '0/0')::float8 as wal,
        pg_snapshot_xmax(pg_current_snapshot())::text::float8 as ids`;
    const database = cpuSeconds([lab.serverPid]);
    const sender = cpuSeconds(senders.pids);
    return { ...row, database, sender, all: database + sender + cpuSeconds([receiver.pid]) };
  };
  const before = await counters();
  senders.resume();
  await until('the drain', async () => (await receiver.count()).count >= deliveries, { everyMs: 25 });
  await until('the last record', () => isTrue(sql, finished));
  await senders.freeze();
  const { first, last, count } = await receiver.count();
  if (count !== deliveries) throw new Error(`${count} deliveries where ${deliveries} were due`);
  const after = await counters();
  const each = (name: keyof typeof after) => (after[name] - before[name]) / deliveries;
  return {
    delivered: deliveries / ((last - first) / 1000),
    'CPU of all processes': each('all') * 1e6,
    'of it the sender': each('sender') * 1e6,
    'of it the database': each('database') * 1e6,
    WAL: each('wal'),
    'transaction ids': each('ids') * 100,
  };
}

/** Writes changes while the runners are frozen. They are either left to be routed, or routed already. */
export async function fillQueue(product: Product, changes: number, routed: boolean): Promise<void> {
  const { sql } = product;
  if (routed) await pauseEndpoints(product, true);
  await sql.unsafe(insertRows('work_orders', changes));
  if (routed) {
    await routeAll(product);
    await pauseEndpoints(product, false);
  }
  await sql`vacuum analyze`;
}

export const drainProduct = (
  place: Place,
  product: Product,
  { name, deliveries, routed }: { name: string; deliveries: number; routed: boolean },
): Contender => ({
  name,
  async turn() {
    await fillQueue(product, deliveries / product.endpointIds.length, routed);
    return drainOnce(place, { sql: product.sql, senders: product.runners }, deliveries, queueIsEmpty);
  },
});

async function drainRival(place: Place, rival: Rival, deliveries: number): Promise<Contender> {
  const { sql, senders } = await startRival(place.lab, rival, place.receiver.url);
  return {
    name: rival.name,
    async turn() {
      await sql.unsafe(rival.fill(deliveries));
      await sql`vacuum analyze`;
      return drainOnce(place, { sql, senders }, deliveries, rival.finished);
    },
  };
}

/** How fast due deliveries go out from a hand-written ideal loop, the job queues, and the product on Node and Deno. */
export const drain = ({ size: deliveries = 5_000, only = '', checkouts, ...options }: Options): Promise<Outcome> =>
  inLab([], async lab => {
    const receiver = await lab.receiver();
    const place = { lab, receiver };
    const title = (what: string) => `${deliveries.toLocaleString('en')} due deliveries, 50 at once${what}`;
    if (checkouts) {
      const comparisons = [];
      const products = await inOrder(checkouts, checkout => startProduct(lab, { checkout, target: receiver.url }));
      for (const [what, routed] of [
        ['', true],
        [', routing the changes too', false],
      ] as const) {
        const contenders = products.map((product, index) =>
          drainProduct(place, product, { name: checkouts[index]!.name, deliveries, routed }),
        );
        comparisons.push(await takeTurns(contenders, { title: title(what), measures: drainMeasures, ...options }));
      }
      return { comparisons };
    }
    const contenders: Contender[] = [];
    for (const rival of [idealLoop, ...jobQueues])
      if (rival === idealLoop || rival.name.includes(only)) contenders.push(await drainRival(place, rival, deliveries));
    for (const [name, runtime, routed] of [
      ['collecta, Node', 'node', true],
      ['collecta, Deno', 'deno', true],
      ['collecta, Node, routing the changes too', 'node', false],
    ] as const) {
      if (!name.includes(only)) continue;
      const product = await startProduct(lab, { checkout: thisCheckout, runtime, target: receiver.url });
      contenders.push(drainProduct(place, product, { name, deliveries, routed }));
    }
    return { comparisons: [await takeTurns(contenders, { title: title(''), measures: drainMeasures, ...options })] };
  });
