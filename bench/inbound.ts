import { type ChildProcess, spawn } from 'node:child_process';
import { Agent, request } from 'undici';
import { type Database, inLab } from './lab.ts';
import { cpuSeconds, type Senders } from './processes.ts';
import { type Checkout, installedDatabase, type Runtime, startCommand, thisCheckout } from './product.ts';
import { type Options, type Outcome, root } from './results.ts';
import { type Comparison, type Measure, takeTurns } from './rounds.ts';
import { quantile } from './statistics.ts';

const measures: Measure[] = [
  { name: 'accepted', unit: 'requests/s', compared: true },
  { name: 'CPU of receiver and server', unit: 'µs a request', compared: true },
  { name: 'p50', unit: 'ms' },
  { name: 'p99', unit: 'ms' },
];

const mapping = JSON.stringify({
  '$.payload.sku': 'product_code',
  '$.payload.qty': 'quantity',
  '$.payload.station': 'work_center',
});

/** Reads the port that a process prints on a line of its output when it starts. */
function portOf(child: ChildProcess): Promise<number> {
  let text = '';
  return new Promise((done, fail) => {
    child.once('exit', code => fail(new Error(`ended with ${code}: ${text}`)));
    for (const stream of [child.stdout, child.stderr])
      stream!.on('data', data => {
        text = (text + data).slice(-10_000);
        const found = /"port":(\d+)/.exec(text)?.[1];
        if (found) done(Number(found));
      });
  });
}

let requests = 0;

/** Runs `clients` senders for `seconds`, each with one request under way. Returns the milliseconds of each request. */
async function load(port: number, paths: string[], clients: number, seconds: number): Promise<number[]> {
  const agent = new Agent({ connections: clients, pipelining: 1 });
  const times: number[] = [];
  const end = performance.now() + seconds * 1000;
  const client = async () => {
    while (performance.now() < end) {
      const n = requests++;
      const payload = { sku: `A-${n}`, qty: n % 100, station: 'assembly' };
      const body = JSON.stringify({ payload, note: 'a note of some length, as people write them' });
      const before = performance.now();
      const response = await request(`http://127.0.0.1:${port}${paths[n % paths.length]}`, {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json', 'idempotency-key': `key-${n}` },
        dispatcher: agent,
      });
      await response.body.dump();
      if (response.statusCode !== 202) throw new Error(`refused with ${response.statusCode}`);
      times.push(performance.now() - before);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  await agent.close();
  return times;
}

type Accepting = Database & { name: string; port: number; paths: string[]; receivers: Senders };

/** The writes of an accepted request, written by hand for this table. */
const fourWrites = `
  create function public.four_writes(endpoint text, sku text, qty int, station text, body text, key text) returns text
  language plpgsql as $$
  declare
    arrived constant timestamptz := clock_timestamp();
    first constant int := random() * 59000;
    record text;
  begin
    update collecta.inbound_budgets b set taken_at = arrived
    where b.ctid = (
      select f.ctid from collecta.inbound_budgets f
      where f.inbound_endpoint_id = endpoint and f.slot between first and first + 5
        and f.taken_at < arrived - interval '60 s'
      limit 1 for update skip locked);
    insert into public.work_orders (product_code, quantity, work_center) values (sku, qty, station)
    returning id into record;
    insert into collecta.inbound_requests (request_id, inbound_endpoint_id, received_at, state, operation, record_id,
      mapping_version, key_hash, body)
    values (collecta.new_id('req'), endpoint, arrived, 'accepted', 'created', record, 1,
      encode(sha256(convert_to(key, 'UTF8')), 'hex'), body);
    return record;
  end $$`;

/**
 * Accepted requests, compared with the least that can be done: a handler on the same server and driver that parses the
 * JSON and does one INSERT. The product also checks the token, the budget and the idempotency key, stores the request,
 * maps and casts the values, and captures the change.
 */
export const inbound = ({ seconds = 1.5, only = '', checkouts, ...options }: Options): Promise<Outcome> =>
  inLab([], async lab => {
    const table = (sql: Database['sql']) =>
      sql.unsafe(`create table work_orders (
        id text primary key default gen_random_uuid()::text, product_code text, quantity int, work_center text)`);
    const accepting: Accepting[] = [];
    const add = async (name: string, database: Database, paths: string[], child: ChildProcess) => {
      const port = await portOf(child);
      const receivers = lab.senders([child], database.sql);
      // Long enough that the code is compiled and every session has its plans.
      for (const clients of [16, 1]) await load(port, paths, clients, 3);
      await receivers.freeze();
      accepting.push({ ...database, name, port, paths, receivers });
    };
    const bare = await lab.database();
    await table(bare.sql);
    const floor = spawn(process.execPath, ['--import', 'tsx', `${root}bench/inbound-floor.ts`], {
      cwd: root,
      env: { ...process.env, DATABASE_URL: bare.url },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await add('bare INSERT', bare, ['/'], floor);
    const byHand = await installedDatabase(lab, thisCheckout);
    await table(byHand.sql);
    await byHand.sql`select collecta.attach_module('work_orders', 'work-orders')`;
    const [endpoint] = await byHand.sql`
      select inbound_endpoint_id as id from collecta.create_inbound_endpoint(
        'work-orders', ${mapping}::text::jsonb, rate_limit_per_minute => 60000)`;
    await byHand.sql.unsafe(fourWrites);
    const hand = spawn(process.execPath, ['--import', 'tsx', `${root}bench/inbound-floor.ts`], {
      cwd: root,
      env: { ...process.env, DATABASE_URL: byHand.url, BENCH_ENDPOINT: endpoint!.id },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await add('four writes by hand', byHand, ['/'], hand);
    const product = async (name: string, checkout: Checkout, runtime: Runtime) => {
      const database = await installedDatabase(lab, checkout);
      await table(database.sql);
      await database.sql`select collecta.attach_module('work_orders', 'work-orders')`;
      const made = await database.sql`
        select (collecta.create_inbound_endpoint(
          'work-orders', ${mapping}::text::jsonb, rate_limit_per_minute => 60000)).path
        from generate_series(1, 4)`;
      const env = { COLLECTA_PORT: '0', COLLECTA_LOG_LEVEL: 'info' };
      const child = startCommand(checkout, 'receive', { url: database.url, runtime, env, output: 'pipe' });
      await add(
        name,
        database,
        made.map(({ path }) => path),
        child,
      );
    };
    for (const checkout of checkouts ?? []) await product(checkout.name, checkout, 'node');
    for (const [name, runtime] of [
      ['collecta, Node', 'node'],
      ['collecta, Deno', 'deno'],
    ] as const)
      if (!checkouts && name.includes(only)) await product(name, thisCheckout, runtime);

    const comparisons: Comparison[] = [];
    for (const clients of [1, 16]) {
      const contenders = accepting.map(({ name, port, paths, receivers }) => ({
        name,
        async turn() {
          const cpu = () => cpuSeconds([lab.serverPid, ...receivers.pids]);
          receivers.resume();
          const before = cpu();
          const times = await load(port, paths, clients, seconds);
          const used = cpu() - before;
          await receivers.freeze();
          return {
            accepted: times.length / seconds,
            'CPU of receiver and server': (used / times.length) * 1e6,
            p50: quantile(times, 0.5),
            p99: quantile(times, 0.99),
          };
        },
      }));
      const title = `${clients} sender${clients > 1 ? 's' : ''}`;
      comparisons.push(await takeTurns(contenders, { title, measures, ...options }));
    }
    return { comparisons };
  });
