import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { createTable, type Database, type Lab, type Sql } from './lab.ts';
import { type Senders, until } from './processes.ts';
import { root } from './results.ts';

export type Runtime = 'node' | 'deno';

/** This repository, or another commit of it in another folder. A bench uses only its CLI and its public SQL. */
export type Checkout = { name: string; folder: string };

export const thisCheckout: Checkout = { name: 'collecta', folder: root };

/** Builds the checkout in `folder`, and names it after its commit. */
export function openCheckout(folder: string): Checkout {
  const path = resolve(folder);
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: path, stdio: 'inherit' });
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: path, encoding: 'utf8' }).trim();
  return { name: `commit ${commit}`, folder: path };
}

const denoFlags = ['--allow-net', '--allow-env', '--allow-read', '--allow-sys', '--no-prompt'];

/** Starts a command of the product, which may deliver to this machine. */
export function startCommand(
  { folder }: Checkout,
  name: string,
  { url, runtime = 'node', env = {}, output = 'inherit' }: CommandOptions,
): ChildProcess {
  const [program, ...args] =
    runtime === 'node'
      ? [process.execPath, `${folder}/dist/cli.js`]
      : [`${folder}/node_modules/.bin/deno`, 'run', ...denoFlags, `${folder}/src/cli.ts`];
  return spawn(program!, [...args, name], {
    cwd: folder,
    env: {
      ...process.env,
      DATABASE_URL: url,
      COLLECTA_ALLOW_HTTP: 'true',
      COLLECTA_ALLOW_DESTINATIONS: '127.0.0.1',
      COLLECTA_LOG_LEVEL: 'error',
      COLLECTA_CONCURRENCY: '50',
      ...env,
    },
    stdio: ['ignore', output, output],
  });
}

export type CommandOptions = {
  url: string;
  runtime?: Runtime;
  env?: Record<string, string>;
  output?: 'inherit' | 'pipe';
};

/** Creates a database with the checkout's SQL installed. */
export async function installedDatabase(lab: Lab, { folder }: Checkout): Promise<Database> {
  const database = await lab.database();
  execFileSync(process.execPath, [`${folder}/dist/cli.js`, 'migrate'], {
    env: { ...process.env, DATABASE_URL: database.url },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return database;
}

/** A database whose table work_orders is attached, with its endpoints and runners. */
export type Product = Database & { runners: Senders; endpointIds: string[] };

export type ProductOptions = {
  checkout?: Checkout;
  runtime?: Runtime;
  target: string;
  endpoints?: number;
  /** Each endpoint gets the rows of one tenant. The tenants are the work_centers `tenant-1`, `tenant-2` and so on. */
  scoped?: boolean;
  runners?: number;
};

/**
 * Starts the product, has it deliver a thousand changes, so that its code is compiled and its plans are cached, and
 * freezes its runners.
 */
export async function startProduct(
  lab: Lab,
  { checkout = thisCheckout, runtime = 'node', target, endpoints = 1, scoped = false, runners = 1 }: ProductOptions,
): Promise<Product> {
  const database = await installedDatabase(lab, checkout);
  const { sql, url } = database;
  await sql.unsafe(createTable('work_orders'));
  await sql`
    select collecta.attach_module('work_orders', 'work-orders', status_column => 'status',
      scope_column => ${scoped ? 'work_center' : null})`;
  const made = await sql`
    select (collecta.create_endpoint(${target}, '{record_created,record_updated,record_deleted,status_change}',
      scope => case when ${scoped} then 'tenant-' || tenant end, max_in_flight => 1000)).endpoint_id
    from generate_series(1, ${endpoints}) tenant`;
  const children = Array.from({ length: runners }, () => startCommand(checkout, 'dispatch', { url, runtime }));
  const product = {
    ...database,
    runners: lab.senders(children, sql),
    endpointIds: made.map(({ endpoint_id }) => endpoint_id as string),
  };
  await sql`insert into work_orders (work_center) select 'tenant-1' from generate_series(1, 1000)`;
  await until('the first deliveries', () => isTrue(sql, queueIsEmpty));
  await product.runners.freeze();
  return product;
}

export const isTrue = async (sql: Sql, statement: string) => (await sql.unsafe(statement))[0]!.done as boolean;

export const queueIsEmpty =
  'select not exists (select from collecta.outbox) and not exists (select from collecta.delivery_queue) as done';

/** Pauses all endpoints, so that their deliveries are queued, or resumes them. */
export async function pauseEndpoints({ sql, endpointIds }: Product, paused: boolean): Promise<void> {
  await sql.unsafe(
    `select collecta.${paused ? 'pause' : 'resume'}_endpoint(endpoint_id) from unnest($1::text[]) endpoint_id`,
    [endpointIds],
  );
}

/** Has the runners route what was captured, and freezes them. Returns the time that it took, in seconds. */
export async function routeAll({ sql, runners }: Product): Promise<number> {
  // Changes are routed in their order, so all of them are routed when the last one is.
  const [last] = await sql`select max(change_id)::text as id from collecta.outbox`;
  if (last!.id === null) return 0;
  const started = performance.now();
  runners.resume();
  const routed = async () => {
    const [row] = await sql`select not exists (select from collecta.outbox where change_id = ${last!.id}) as done`;
    return row!.done as boolean;
  };
  await until('the routing', routed, { everyMs: 2 });
  const seconds = (performance.now() - started) / 1000;
  await runners.freeze();
  return seconds;
}
