// Dumps a database in which this version is installed and each feature was used once. pg_dump of PostgreSQL 15 writes
// the dump, which PostgreSQL 14 to 18 can restore. Upgrade tests begin with such a dump of each released version.
import { execFileSync } from 'node:child_process';
import postgres from 'postgres';
import { migrate } from '../src/install/migrate.ts';
import { startServer } from '../test/support/server.ts';

/** Uses only functions and parameters that every version keeps. */
const sample = `
  create table public.work_orders (
    id int primary key, status text, custom_data jsonb, tenant text, note text, secret text);
  select collecta.attach_module('public.work_orders', 'work-orders', status_column => 'status',
    custom_data_column => 'custom_data', scope_column => 'tenant', exclude_columns => '{secret}',
    ignore_columns => '{note}');
  select collecta.create_endpoint('https://example.com/all',
    '{record_created,record_updated,record_deleted,status_change,custom_data_updated}', name => 'all');
  select collecta.create_endpoint('https://example.com/ordered', '{record_updated}', name => 'ordered', ordered => true,
    filter => '$.record.status == "done"');
  select collecta.create_endpoint('https://example.com/paused', '{record_deleted}', name => 'paused');
  select collecta.pause_endpoint(endpoint_id) from collecta.endpoints where name = 'paused';
  select collecta.create_inbound_endpoint('work-orders', '{"$.id": "id", "$.status": "status"}', '{id}');
  insert into public.work_orders select n, 'open', '{}', 'eu', 'note', 'secret' from generate_series(1, 20) n;
  update public.work_orders set status = 'done' where id % 2 = 0;
  delete from public.work_orders where id = 3`;

export async function dumpInstall(): Promise<string> {
  const server = await startServer([], undefined, 'debian15');
  const sql = postgres(server.url(), { max: 1, onnotice: () => {} });
  try {
    await migrate(server.url());
    await sql.unsafe(sample);
    await sql.end();
    return execFileSync('pg_dump', [server.url()], { encoding: 'utf8', maxBuffer: 100_000_000 });
  } finally {
    await server.stop();
  }
}
