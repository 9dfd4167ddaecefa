// Connects with both drivers and prints the result of each: plain, tls, or the reason of the refusal. tls.test.ts runs
// it on Node and on Deno.
import process from 'node:process';
import pg from 'pg';
import { connect } from '../../src/database/connect.ts';
import { listenerConfig } from '../../src/database/listen.ts';

type Row = { found: string };
const query = `select case when ssl then concat_ws(' ', 'tls', client_dn) else 'plain' end as found
  from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid()`;

export async function probe(url: string): Promise<{ postgres: string; pg: string; why: string }> {
  const why: string[] = [];
  const attempt = async (ask: () => Promise<Row | undefined>) => {
    try {
      return (await ask())?.found ?? 'nothing';
    } catch (error) {
      why.push(`${(error as { code?: string }).code} ${(error as Error).message}`);
      return 'refused';
    }
  };
  const sql = connect(url, { max: 1, connect_timeout: 5 });
  const byPostgres = await attempt(async () => (await sql.unsafe<Row[]>(query))[0]);
  await sql.end({ timeout: 1 });
  const byPg = await attempt(async () => {
    const client = new pg.Client(await listenerConfig(url));
    client.on('error', () => {});
    try {
      await client.connect();
      return (await client.query<Row>(query)).rows[0];
    } finally {
      await client.end();
    }
  });
  return { postgres: byPostgres, pg: byPg, why: why.join('; ') };
}

const urls = process.argv.slice(2);
if (urls[0] === '--print') {
  for (const url of urls.slice(1)) console.log(JSON.stringify(await probe(url)));
  process.exit(0);
}
