import t from 'tap';
import { readConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { doctor } from '../../src/operations/doctor.ts';
import { serveOperations } from '../../src/operations/serve.ts';
import { tail } from '../../src/operations/tail.ts';
import { freePort, useServer } from '../support/database.ts';

const server = await useServer();
const log = createLog('error', () => {});

async function prepared() {
  const { sql, url } = await server.database();
  await sql`create table orders (id int primary key, status text)`;
  await sql`select collecta.attach_module('orders', 'orders', status_column => 'status')`;
  const [endpoint] =
    await sql`select * from collecta.create_endpoint('http://127.0.0.1:9876/hook', '{record_created}', name => 'shop')`;
  await sql`insert into orders values (1, 'open')`;
  await sql`select * from collecta.claim_deliveries(10)`;
  return { sql, url, endpoint: endpoint as { endpoint_id: string; secret: string } };
}

t.test('health probes and metrics', async t => {
  const { sql, url, endpoint } = await prepared();
  const port = await freePort();
  const stop = new AbortController();
  const config = readConfig({ DATABASE_URL: url, COLLECTA_OPERATIONS_PORT: String(port) });
  const served = serveOperations(config, log, stop.signal);
  const get = (path: string, method = 'GET') => fetch(`http://127.0.0.1:${port}${path}`, { method });
  while (!(await get('/livez').catch(() => null))) await new Promise(done => setTimeout(done, 10));
  t.equal((await get('/livez')).status, 200);
  t.equal((await get('/readyz')).status, 200);
  t.equal((await get('/readyz', 'POST')).status, 405);
  t.equal((await get('/')).status, 404);
  const metrics = await (await get('/metrics')).text();
  t.match(metrics, /^collecta_endpoints\{state="active"\} 1$/m);
  t.match(metrics, new RegExp(`^collecta_due_oldest_seconds\\{endpoint="${endpoint.endpoint_id}"\\} [0-9.]+$`, 'm'));
  t.notMatch(metrics, endpoint.secret);
  for (const line of metrics.trim().split('\n')) t.match(line, /^(# TYPE \w+ gauge|\w+(\{[^}]*\})? [0-9.e+-]+)$/);

  await sql`update collecta.installation set database_oid = 1`;
  t.equal((await get('/readyz')).status, 503, 'a copy is not ready');
  t.match(await (await get('/readyz')).text(), /resume_after_restore/);
  stop.abort();
  await served;
  await t.rejects(get('/livez'), 'stopped');
});

t.test('doctor', async t => {
  const { sql, url } = await prepared();
  const examine = async (env: Record<string, string> = {}) => {
    const lines: string[] = [];
    const status = await doctor(readConfig({ DATABASE_URL: url, ...env }), line => lines.push(line));
    return { status, text: lines.join('\n') };
  };
  const blocked = await examine();
  t.equal(blocked.status, 1);
  t.match(blocked.text, /FAIL {2}endpoint shop: blocked/);
  const well = await examine({ COLLECTA_ALLOW_HTTP: 'true', COLLECTA_ALLOW_DESTINATIONS: '127.0.0.1' });
  t.equal(well.status, 0, well.text);
  t.match(well.text, /ok {4}notifications come through/);
  t.match(well.text, /ok {4}endpoint shop: 127\.0\.0\.1:9876 is allowed/);
  await sql`alter table orders rename status to state`;
  const renamed = await examine({ COLLECTA_ALLOW_HTTP: 'true', COLLECTA_ALLOW_DESTINATIONS: '127.0.0.1' });
  t.equal(renamed.status, 1);
  t.match(renamed.text, /FAIL {2}configured column is gone/);
  await sql`update collecta.installation set database_oid = 1`;
  t.match((await examine()).text, /FAIL {2}this database is a copy/);
  const empty = await server.database('empty');
  t.match((await examine({ DATABASE_URL: empty.url })).text, /FAIL {2}collecta is not installed/);
  t.match(
    (await examine({ DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' })).text,
    /FAIL {2}database 127\.0\.0\.1:1\/none/,
  );
});

t.test('tail follows attempts', async t => {
  const { sql, url, endpoint } = await prepared();
  const record = (outcome: string, status: number) => sql`
    with q as (update collecta.delivery_queue set leased_until = now() + interval '1 minute' returning delivery_id, (extract(epoch from leased_until) * 1000000)::bigint as lease)
    select collecta.record_deliveries(array_agg(delivery_id), array_agg(lease), array[${outcome}], array['http://127.0.0.1:9876/hook'], statuses => array[${status}::int]) from q`;
  await record('failed', 500);
  const stop = new AbortController();
  const lines: string[] = [];
  const ended = tail(url, { endpoint: endpoint.endpoint_id, failed: false, last: 5 }, stop.signal, line => {
    lines.push(line);
    if (lines.length === 2) stop.abort();
  });
  while (lines.length < 1) await new Promise(done => setTimeout(done, 20));
  await sql`update collecta.delivery_queue set attempt = 2`;
  await record('delivered', 200);
  t.equal(await ended, 0);
  t.match(lines[0], / failed 500 orders record_created 1 attempt 1 /);
  t.match(lines[1], / delivered 200 orders record_created 1 attempt 2 /);
  stop.abort();
});
