import { readFileSync } from 'node:fs';
import t, { type Test as Tap } from 'tap';
import { readConfig } from '../../src/config.ts';
import { createLog, type Log } from '../../src/log.ts';
import { countAttempt } from '../../src/metrics.ts';
import { doctor } from '../../src/operations/doctor.ts';
import { healthcheck } from '../../src/operations/healthcheck.ts';
import { serveOperations } from '../../src/operations/serve.ts';
import { tail } from '../../src/operations/tail.ts';
import { freePort, useServer } from '../support/database.ts';
import { startRunner, until } from '../support/runner.ts';

const server = await useServer();

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

/** The operations port of a runner on `url`, stopped when the test ends. */
async function serving(t: Tap, url: string, env: Record<string, string> = {}, log: Log = createLog('error', () => {})) {
  const port = await freePort();
  const stop = new AbortController();
  const config = readConfig({ DATABASE_URL: url, COLLECTA_OPERATIONS_PORT: String(port), ...env });
  const served = serveOperations(config, log, stop.signal);
  t.teardown(async () => {
    stop.abort();
    await served;
  });
  const get = (path: string, method = 'GET') => fetch(`http://127.0.0.1:${port}${path}`, { method });
  while (!(await get('/livez').catch(() => null))) await new Promise(done => setTimeout(done, 10));
  return { get, port, config, stop, served };
}

t.test('the port serves health probes and metrics', async t => {
  const { sql, url, endpoint } = await prepared();
  const { get, stop, served } = await serving(t, url);
  t.equal((await get('/livez')).status, 200);
  const ledger = await sql`delete from collecta.migrations returning filename, hash`;
  t.equal((await get('/readyz')).status, 503, 'it waits for migrate');
  for (const { filename, hash } of ledger)
    await sql`insert into collecta.migrations (filename, hash) values (${filename}, ${hash})`;
  t.equal((await get('/readyz')).status, 200);
  t.equal((await get('/readyz', 'POST')).status, 405);
  t.equal((await get('/')).status, 404);
  countAttempt({
    endpointId: endpoint.endpoint_id,
    eventId: 'evt_019ab3c5',
    outcome: 'failed',
    status: 503,
    totalMs: 12,
  });
  const metrics = await (await get('/metrics')).text();
  t.match(metrics, /^collecta_endpoints\{state="active"\} 1$/m);
  t.match(metrics, /^collecta_captured_total 1$/m);
  t.match(metrics, new RegExp(`^collecta_endpoint_info\\{name="shop",endpoint="${endpoint.endpoint_id}"\\} 1$`, 'm'));
  t.match(metrics, new RegExp(`^collecta_due_oldest_seconds\\{endpoint="${endpoint.endpoint_id}"\\} [0-9.]+$`, 'm'));
  t.match(
    metrics,
    new RegExp(
      `^collecta_attempts_total\\{endpoint="${endpoint.endpoint_id}",outcome="failed",status_class="5xx"\\} 1$`,
      'm',
    ),
  );
  t.match(metrics, /^collecta_answer_seconds_bucket\{le="0.025",outcome="failed"\} 1$/m);
  t.match(metrics, /^nodejs_eventloop_lag_seconds /m);
  t.notMatch(metrics, endpoint.secret);
  const families = [...metrics.matchAll(/^# HELP (collecta_\w+) (.*)$/gm)];
  t.ok(families.length > 10);
  for (const [, name, help] of families)
    t.match(help, /\bprocess\b|Of the database\.$/, `${name} says whose figure it is`);

  await sql`update collecta.installation set database_oid = 1`;
  const copy = await get('/readyz');
  t.equal(copy.status, 503, 'a copy is not ready');
  t.match(await copy.text(), /CW040/);
  stop.abort();
  await served;
  await t.rejects(get('/livez'), 'stopped');
});

t.test('the README’s runner login can read the metrics; queue depths are exact up to 10,000', async t => {
  const { sql, url, endpoint } = await prepared();
  const readme = readFileSync('README.md', 'utf8');
  const [, login] = /^create role collecta_runner login (.*);$/m.exec(readme)!;
  await server.admin.unsafe(`create role readme_runner login password 'x' ${login}`);
  const { get } = await serving(t, url.replace('postgres:postgres@', 'readme_runner:x@'));
  const [, at] = /^collecta_outbox_rows (\d+)$/m.exec(await (await get('/metrics')).text()) ?? [];
  t.equal(at, '0');
  const metric = async (name: string) => {
    const response = await get('/metrics');
    t.equal(response.status, 200);
    return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(await response.text())?.[1]);
  };
  await sql`select collecta.pause_endpoint(${endpoint.endpoint_id})`;
  await sql`insert into orders select n, 'open' from generate_series(2, 3002) n`;
  t.equal(await metric('collecta_outbox_rows'), 3001, 'though the planner knows of none');
  t.equal(await metric('collecta_outbox_rows_estimated'), 0);
  await sql`insert into orders select n, 'open' from generate_series(3003, 15003) n`;
  t.equal(await metric('collecta_outbox_rows_estimated'), 1);
  const estimate = await metric('collecta_outbox_rows');
  t.ok(estimate > 10_000, `an estimate of 15,002: ${estimate}`);
});

t.test('endpoints above the limit share one label', async t => {
  const { sql, url } = await prepared();
  const { get } = await serving(t, url, { COLLECTA_METRICS_ENDPOINTS: '0' });
  await sql`update collecta.delivery_queue set due_at = now() - interval '1 hour', leased_until = null`;
  for (const endpointId of ['ep_1', 'ep_2', 'ep_3'])
    countAttempt({ endpointId, eventId: 'evt_019ab3c5', outcome: 'blocked', status: null, totalMs: 1 });
  const metrics = await (await get('/metrics')).text();
  t.match(metrics, /^collecta_attempts_total\{endpoint="other",outcome="blocked",status_class="none"\} 3$/m);
  t.match(metrics, /^collecta_due_oldest_seconds\{endpoint="other"\} 3[56]\d\d\./m);
  t.notMatch(metrics, /ep_1/);
});

t.test('the endpoints with the most attempts have the labels, and a deleted one gives its label back', async t => {
  const { sql, url, endpoint } = await prepared();
  const { get } = await serving(t, url, { COLLECTA_METRICS_ENDPOINTS: '2' });
  const make = async (name: string) =>
    (
      await sql`select endpoint_id from collecta.create_endpoint('https://x.example/', '{record_created}',
      name => ${name})`
    )[0]!.endpoint_id as string;
  const [busy, slow, later] = [await make('busy'), await make('slow'), await make('later')];
  const attempt = (endpointId: string, times: number) => {
    for (let i = 0; i < times; i++)
      countAttempt({ endpointId, eventId: 'evt_019ab3c5', outcome: 'failed', status: 500, totalMs: 1 });
  };
  const scrape = async () => (await get('/metrics')).text();
  /** The endpoints whose next attempt has a label of its own. */
  const labels = async () => {
    await scrape();
    for (const endpointId of [endpoint.endpoint_id, busy, slow, later]) attempt(endpointId, 1);
    const metrics = await scrape();
    const of = (name: string) =>
      [...metrics.matchAll(new RegExp(`^${name}\\{.*?endpoint="(ep_\\w+)"`, 'gm'))].map(([, id]) => id).sort();
    t.strictSame(of('collecta_endpoint_info'), of('collecta_attempts_total'));
    return of('collecta_attempts_total');
  };
  attempt(slow, 1);
  attempt(endpoint.endpoint_id, 20);
  attempt(busy, 60);
  t.strictSame(await labels(), [endpoint.endpoint_id, busy].sort(), 'not the first two');
  attempt(slow, 30);
  t.strictSame(await labels(), [endpoint.endpoint_id, busy].sort(), 'a little more does not change labels');
  attempt(slow, 40);
  t.strictSame(await labels(), [slow, busy].sort(), 'more than twice as much does');
  await sql`select collecta.delete_endpoint(${busy})`;
  t.strictSame(await labels(), [slow, endpoint.endpoint_id].sort(), 'the one with the most attempts follows');
});

t.test('a hundred scrapes cost one query and do not block the probes', async t => {
  const { sql, url } = await prepared();
  const { get } = await serving(t, url);
  await get('/metrics');
  // Every scrape waits for this lock.
  const blocker = await sql.reserve();
  await blocker`begin`;
  await blocker`lock table collecta.endpoints in access exclusive mode`;
  const scrapes = Array.from({ length: 100 }, () => get('/metrics'));
  const waiting = async () =>
    (await sql`select from pg_stat_activity where wait_event_type = 'Lock' and query like '%read_figures%'`).length;
  while ((await waiting()) === 0) await new Promise(done => setTimeout(done, 10));
  const started = performance.now();
  t.equal((await get('/livez')).status, 200);
  t.equal((await get('/readyz')).status, 200);
  t.ok(performance.now() - started < 1_000, 'the probes wait for no scrape');
  t.equal(await waiting(), 1, 'one of them asks for all');
  await blocker`rollback`;
  blocker.release();
  t.strictSame([...new Set((await Promise.all(scrapes)).map(({ status }) => status))], [200]);
});

t.test('unauthenticated answers name no database, host, user or environment', async t => {
  const url = 'postgres://secret_user:secret_password@127.0.0.1:1/secret_database';
  const lines: string[] = [];
  const { get } = await serving(
    t,
    url,
    {},
    createLog('info', line => lines.push(line)),
  );
  for (const path of ['/readyz', '/metrics', '/nothing']) {
    const answer = await get(path);
    t.notMatch(await answer.text(), /secret|127\.0\.0\.1|:1\b/, path);
    t.not(answer.status, 200);
  }
  t.match(lines.join(''), /127\.0\.0\.1/, 'the log says why');

  const { sql, url: labelled } = await server.database();
  await sql`update collecta.installation set environment = 'the-secret-environment'`;
  const other = await (await serving(t, labelled, { COLLECTA_ENVIRONMENT: 'staging' })).get('/readyz');
  t.equal(other.status, 503);
  t.notMatch(await other.text(), /secret-environment|staging/);
});

t.test('healthcheck asks the local port', async t => {
  const { sql, url } = await prepared();
  const { config, stop, served } = await serving(t, url, { COLLECTA_OPERATIONS_HOST: '0.0.0.0' });
  const said: string[] = [];
  const ask = (live = false, settings = config) => healthcheck(settings, live, line => said.push(line));
  t.equal(await ask(), 0);
  await sql`update collecta.installation set database_oid = 1`;
  t.equal(await ask(), 1);
  t.match(said.at(-1), /CW040/);
  t.equal(await ask(true), 0, 'it lives, ready or not');
  stop.abort();
  await served;
  t.equal(await ask(true), 1);
  t.equal(await ask(true, { ...config, operationsPort: undefined }), 1);
});

t.test('doctor reports what is set up and what is missing', async t => {
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

t.test('doctor checks only what the login’s roles are for', async t => {
  const { sql, url } = await prepared();
  const examine = async (roles: string) => {
    const name = `doctor_${roles.replace(/collecta_|\W/g, '') || 'nobody'}`;
    await server.admin.unsafe(`create role ${name} login password 'x' ${roles && `in role ${roles}`}`);
    const lines: string[] = [];
    const at = url.replace('postgres:postgres@', `${name}:x@`);
    const env = { COLLECTA_ALLOW_HTTP: 'true', COLLECTA_ALLOW_DESTINATIONS: '127.0.0.1' };
    const status = await doctor(readConfig({ DATABASE_URL: at, ...env }), line => lines.push(line));
    const text = lines.join('\n');
    return {
      text,
      status,
      asks: {
        installation: text.includes('this is the database'),
        notifications: text.includes('notifications come through'),
        // Logins of other tests may claim from several databases, which health reports.
        health: /collecta\.health has nothing|a login can claim for two databases/.test(text),
        destinations: text.includes('endpoint shop'),
      },
    };
  };
  await sql`select * from collecta.maintain()`;
  const nothing = { installation: false, notifications: false, health: false, destinations: false };
  const runs = { ...nothing, installation: true, notifications: true };
  for (const [roles, asks] of [
    ['collecta_dispatcher', runs],
    ['collecta_inbound', runs],
    ['collecta_dispatcher, collecta_inbound', runs],
    ['collecta_reader', { ...nothing, health: true }],
    ['collecta_operator', { ...nothing, health: true }],
    ['collecta_dispatcher, collecta_reader', { ...runs, health: true, destinations: true }],
  ] as const) {
    const found = await examine(roles);
    t.strictSame(found.asks, asks, `${roles}: ${found.text}`);
    t.equal(found.status, 0, `nothing fails for ${roles}`);
  }
  const nobody = await examine('');
  t.equal(nobody.status, 1);
  t.match(nobody.text, /FAIL/);
});

t.test('tail prints new attempts', async t => {
  const { sql, url, endpoint } = await prepared();
  const record = (outcome: string, status: number) => sql`
    with q as (update collecta.delivery_queue set leased_until = now() + interval '1 minute'
      returning delivery_id, leased_until)
    select collecta.record_deliveries(array_agg(r), '{http://127.0.0.1:9876/hook}')
    from q, json_populate_record(null::collecta.delivery_result, json_build_object('id', delivery_id,
      'outcome', ${outcome}::text, 'lease', (extract(epoch from leased_until) * 1000000)::bigint, 'url', 1,
      'status', ${status}::int)) r`;
  await record('failed', 500);
  const stop = new AbortController();
  const lines: string[] = [];
  const ended = tail(url, { endpoint: endpoint.endpoint_id, failed: false, last: 5 }, stop.signal, line => {
    lines.push(line);
    if (lines.length === 2) stop.abort();
  });
  while (lines.length < 1) await new Promise(done => setTimeout(done, 20));
  await sql`update collecta.delivery_queue set attempt = 1`;
  await record('delivered', 200);
  t.equal(await ended, 0);
  t.match(lines[0], / failed 500 orders record_created 1 attempt 1 /);
  t.match(lines[1], / delivered 200 orders record_created 1 attempt 2 /);
  stop.abort();
});

t.test('the runbook’s table of sessions matches pg_stat_activity', async t => {
  const [, section = ''] = readFileSync('docs/runbook.md', 'utf8').split(/^## Sessions$/m);
  const rows = [...section.matchAll(/^\| (`.*?) \|/gm)].map(([, cell]) => cell as string);
  const documented = rows.flatMap(cell => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name as string)).sort();
  const { sql, url } = await prepared();
  await sql.unsafe(`drop role if exists eve; create role eve login password 'eve' in role collecta_reader`);
  const [port, inbound] = [await freePort(), await freePort()];
  const runner = await startRunner(url, {
    command: 'run',
    env: { COLLECTA_OPERATIONS_PORT: String(port), COLLECTA_PORT: String(inbound) },
  });
  const origin = `http://127.0.0.1:${port}`;
  await runner.logged('serving operations');
  const seen = new Set<string>();
  const stop = new AbortController();
  const ended = tail(url, { endpoint: undefined, failed: false, last: 5 }, stop.signal, () => {});
  await until(
    'each of them was seen',
    async () => {
      // Inbound may not listen yet; a request that fails now is repeated.
      await Promise.allSettled([
        ...['/readyz', '/metrics'].map(path => fetch(origin + path).then(answer => answer.text())),
        fetch(`http://127.0.0.1:${inbound}/api/webhooks/orders/none`, { method: 'POST', body: '{}' }).then(a =>
          a.text(),
        ),
        fetch(`${origin}/console/login`, {
          method: 'POST',
          body: 'name=eve&password=eve',
          redirect: 'manual',
          headers: { 'content-type': 'application/x-www-form-urlencoded', 'sec-fetch-site': 'same-origin', origin },
        }),
        doctor(readConfig({ DATABASE_URL: url }), () => {}),
        (async () => {
          for (let n = 0; n < 20; n++) {
            const found = await sql`select distinct application_name as name from pg_stat_activity
              where datname = current_database() and application_name like 'collecta-webhooks%'`;
            for (const { name } of found) seen.add(name.replace(/^collecta-webhooks ?/, ''));
            await new Promise(done => setTimeout(done, 20));
          }
        })(),
      ]);
      return documented.every(name => seen.has(name));
    },
    30_000,
  ).catch(() => {});
  stop.abort();
  await ended;
  await runner.stop();
  // The first session of a process finds out which settings the server accepts. It has no name.
  seen.delete('');
  t.strictSame([...seen].sort(), documented);
});
