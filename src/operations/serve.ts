import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Config } from '../config.ts';
import { openPool, type Query } from '../database/pool.ts';
import type { Log } from '../log.ts';

const patienceMs = 2_000;

/** Sizes are the planner's estimates and ages index look-ups: a scrape costs a million-row queue nothing. */
const figures = (sql: Query) => sql`
  select 'collecta_outbox_oldest_seconds' as name, '' as labels, coalesce(extract(epoch from now() - (select captured_at from collecta.outbox order by change_id limit 1)), 0)::float8 as value
  union all
  select 'collecta_' || relname || '_rows', '', greatest(reltuples, 0)::float8
  from pg_class where oid in ('collecta.outbox'::regclass, 'collecta.delivery_queue'::regclass)
  union all
  select 'collecta_due_oldest_seconds', format('{endpoint="%s"}', e.endpoint_id), greatest(extract(epoch from now() - q.due_at), 0)::float8
  from collecta.endpoints e
  cross join lateral (select due_at from collecta.delivery_queue q where q.endpoint_id = e.endpoint_id order by due_at limit 1) q
  where e.state <> 'deleted' and q.due_at < now()
  union all
  select 'collecta_endpoints', format('{state="%s"}', state), count(*)::float8 from collecta.endpoints group by state
  union all
  select 'collecta_unrouted', '', count(*)::float8 from collecta.unrouted
  union all
  select 'collecta_attempts_last_minute', format('{outcome="%s"}', outcome), count(*)::float8
  from collecta.delivery_attempts where started_at > now() - interval '1 minute' group by outcome
  union all
  select 'collecta_health', format('{severity="%s",problem="%s"}', severity, problem), count(*)::float8 from collecta.health group by severity, problem
  order by 1, 2`;

/**
 * Serves /livez (this process runs), /readyz (the database answers and is the one to deliver from) and /metrics (Prometheus'
 * text format; needs collecta_reader) on COLLECTA_HOST and COLLECTA_OPERATIONS_PORT until `signal` aborts; without the port
 * only waits for that.
 */
export async function serveOperations(config: Config, log: Log, signal: AbortSignal): Promise<void> {
  const { operationsPort: port, host } = config;
  if (signal.aborted) return;
  if (port === undefined) return void (await once(signal, 'abort'));
  const sql = openPool(config.databaseUrl, {
    max: 1,
    idle_timeout: 60,
    prepare: false,
    patienceMs,
    graceMs: 0,
  });
  const answers: Record<string, () => Promise<string>> = {
    '/livez': async () => 'ok\n',
    '/readyz': async () => {
      await sql`select collecta.check_installation(${config.environment ?? null})`;
      return 'ok\n';
    },
    '/metrics': async () => {
      const rows = (await figures(sql)) as { name: string; labels: string; value: number }[];
      const types = [...new Set(rows.map(({ name }) => name))].map(name => [name, `# TYPE ${name} gauge\n`] as const);
      return types
        .map(
          ([each, type]) =>
            type +
            rows
              .filter(({ name }) => name === each)
              .map(row => `${row.name}${row.labels} ${row.value}\n`)
              .join(''),
        )
        .join('');
    },
  };
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 10_000 }, async (request, response) => {
    const answer = answers[request.url?.split('?')[0] ?? ''];
    response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8');
    if (!answer) return response.writeHead(404).end('there are /livez, /readyz and /metrics\n');
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return response.writeHead(405, { allow: 'GET, HEAD' }).end();
    try {
      response.end(await answer());
    } catch (error) {
      const { message, code, hint } = error as { message: string; code?: string; hint?: string };
      log.warn('not ready', { path: request.url, message, code });
      response.writeHead(503).end(`${message}${hint ? `\n${hint}` : ''}\n`);
    }
  });
  server.on('error', error => log.error('operations cannot be served', { host, port, message: error.message }));
  server.listen(port, host, () =>
    log.info('serving operations', { host, port: (server.address() as { port: number }).port }),
  );
  await once(signal, 'abort');
  server.close();
  server.closeAllConnections();
  await sql.end({ timeout: 1 });
}
