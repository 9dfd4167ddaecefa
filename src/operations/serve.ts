import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Config } from '../config.ts';
import { openPool } from '../database/pool.ts';
import type { Rest } from '../database/rest.ts';
import { status } from '../install/migrate.ts';
import type { Log } from '../log.ts';
import { limitEndpointLabels, whySilent } from '../metrics.ts';
import { readFigures, showMetrics } from './metrics.ts';

const patienceMs = 2_000;
const maxConnections = 500;

/** Answers all other paths of the port. This is the console. */
export type Site = {
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>;
  close(): Promise<void>;
};

/**
 * Serves COLLECTA_OPERATIONS_HOST and COLLECTA_OPERATIONS_PORT until `signal` aborts: /livez (this process runs),
 * /readyz (the database answers and is the one to deliver from), /metrics, and the site of `openSite` for all other
 * paths. If no port is set, it only waits for the signal. Anybody who can reach the port sees the three paths without a
 * login, so the answers do not name the database. With `rest` it does not query a database that may sleep, and POST
 * /wake ends the rest.
 */
export async function serveOperations(
  config: Config,
  log: Log,
  signal: AbortSignal,
  openSite?: (config: Config, log: Log) => Site,
  rest?: Rest,
): Promise<void> {
  const { operationsPort: port, operationsHost: host } = config;
  if (signal.aborted) return;
  if (port === undefined) return void (await once(signal, 'abort'));
  limitEndpointLabels(config.metricsEndpoints);
  // Each has its own session, so that slow metrics do not make this process look as if it were not ready.
  const open = (purpose: string) =>
    openPool(config.databaseUrl, {
      purpose,
      max: 1,
      idle_timeout: rest ? 1 : 60,
      prepare: false,
      patienceMs,
      graceMs: 0,
    });
  const probe = open('probe');
  const scrape = open('metrics');
  let isInstalled = false;
  const answers: Record<string, () => Promise<string>> = {
    '/livez': async () => 'ok\n',
    '/readyz': shared(async () => {
      if (rest?.resting) return 'ok\nresting: the database is not asked\n';
      await probe`select collecta.check_installation(${config.environment ?? null})`;
      if (!isInstalled) {
        const { pending } = await status(config.databaseUrl);
        if (pending.length > 0) throw new Error(`waiting for collecta-webhooks migrate: ${pending.join(', ')}`);
        isInstalled = true;
      }
      // It is ready even without notifications, because polling delivers. The reason may name a host, so only the log
      // has it.
      return whySilent() === undefined ? 'ok\n' : `ok\nno notification comes through: polling\n`;
    }),
    '/metrics': shared(async () => showMetrics(rest?.resting ? [] : await readFigures(scrape))),
  };

  const site = openSite?.(config, log);

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url?.split('?', 1)[0] ?? '';
    const operation = answers[path];
    if (path === '/wake' && rest && config.wakeToken) return answerWake(request, response, config.wakeToken, rest.wake);
    if (!operation && site) return await site.handle(request, response);
    response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8');
    if (!operation) {
      response.writeHead(404).end('there are /livez, /readyz and /metrics\n');
      return;
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD' }).end();
      return;
    }
    try {
      response.end(await operation());
    } catch (error) {
      // The message may name the database, its host or its user, so only the log has it.
      const { message, code } = error as { message: string; code?: string };
      log.warn('not ready', { path, message, code });
      response.writeHead(503).end(`not ready${code ? ` (${code})` : ''}: this process's log says why\n`);
    }
  }

  const server = createServer(
    { headersTimeout: 5_000, requestTimeout: 10_000, maxHeaderSize: 16_384 },
    (request, response) => {
      answer(request, response).catch(error => {
        log.error('an operations request failed', { message: error.message });
        response.destroy();
      });
    },
  );
  server.maxConnections = maxConnections;
  server.on('error', error => log.error('operations cannot be served', { host, port, message: error.message }));
  server.listen(port, host, () =>
    log.info('serving operations', { host, port: (server.address() as { port: number }).port }),
  );
  await once(signal, 'abort');
  server.close();
  server.closeAllConnections();
  await Promise.all([site?.close(), probe.end({ timeout: 1 }), scrape.end({ timeout: 1 })]);
}

/** Answers a request to /wake, and calls `wake` if it has the token. */
export function answerWake(
  { method, headers }: IncomingMessage,
  response: ServerResponse,
  token: string,
  wake: () => void,
): void {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  if (method !== 'POST') response.writeHead(405, { allow: 'POST' }).end();
  else if (!timingSafeEqual(digest(headers.authorization ?? ''), digest(`Bearer ${token}`)))
    response.writeHead(401, { 'www-authenticate': 'Bearer' }).end();
  else {
    wake();
    response.writeHead(204).end();
  }
}

/** Shares one result among all calls that come while it is computed, so that a hundred scrapes at once cost one. */
function shared<T>(compute: () => Promise<T>): () => Promise<T> {
  let underway: Promise<T> | undefined;
  return () => {
    underway ??= compute().finally(() => {
      underway = undefined;
    });
    return underway;
  };
}
