import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Gauge } from 'prom-client';
import type { Config, Settings } from '../config.ts';
import type { Rest } from '../database/rest.ts';
import type { Log } from '../log.ts';
import { limitEndpointLabels, processMetrics } from '../metrics.ts';
import { showMetrics } from '../operations/metrics.ts';
import { answerWake, type Site } from '../operations/serve.ts';
import { createFigures } from './figures.ts';

/**
 * The state of one database. `waiting`: it cannot be reached, or collecta is not installed in it yet. `failed`: an
 * error ended its dispatcher, which is started again later. `polling`: it is served, but without notifications.
 * `listening`: it is served with notifications. `resting`: nothing is due, its sessions are closed, and it may sleep.
 */
export type State = 'waiting' | 'failed' | 'polling' | 'listening' | 'resting';

/** One database as the operations port sees it. `site` returns its console, which is created at the first call. */
export type Served = {
  name: string;
  config: Config;
  state: State;
  rest: Rest | undefined;
  site: () => Site | undefined;
};

/**
 * Serves /livez, /readyz, /metrics and the consoles of a process that serves many databases, until `signal` aborts. The
 * process is ready once it has started, whatever state the databases are in, because a restart would repair none of
 * them and would interrupt the others. The path of a database's console ends in its name. POST /NAME/wake ends the rest
 * of one database, and POST /wake that of all.
 */
export async function serveFleetOperations(
  { operationsHost: host, operationsPort: port, metricsEndpoints, consolePath, wakeToken }: Settings,
  databases: () => Served[],
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  if (port === undefined || signal.aborted) return;
  limitEndpointLabels(metricsEndpoints);
  const base = consolePath === '/' ? '' : consolePath;
  const gauge = new Gauge({
    name: 'collecta_fleet_database',
    help:
      'The databases that this process serves, by state: waiting, failed, polling, listening or resting. ' +
      'The value is 1.',
    labelNames: ['database', 'state'] as const,
    registers: [processMetrics],
    collect() {
      gauge.reset();
      for (const { name, state } of databases()) gauge.set({ database: name, state }, 1);
    },
  });
  const countByState = () => {
    const counts = new Map<State, number>();
    for (const { state } of databases()) counts.set(state, (counts.get(state) ?? 0) + 1);
    return Array.from(counts, ([state, number]) => `${number} ${state}\n`).join('');
  };
  const figures = createFigures(log);
  const sourceOf = ({ name, config: { databaseUrl } }: Served) => ({ name, databaseUrl });
  const answers: Record<string, () => string | Promise<string>> = {
    '/livez': () => 'ok\n',
    '/readyz': () => `ok\n${countByState()}`,
    '/metrics': async () => {
      const all = databases();
      const awake = all.filter(({ state }) => state === 'listening' || state === 'polling');
      return showMetrics(await figures.current(all.map(sourceOf), awake.map(sourceOf)));
    },
  };

  /** The database that the first segment of the path after `prefix` names. */
  const named = (path: string, prefix: string) => {
    const name = path.startsWith(`${prefix}/`) ? path.slice(prefix.length + 1).split('/', 1)[0] : undefined;
    return name ? databases().find(each => each.name === name) : undefined;
  };

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url?.split('?', 1)[0] ?? '';
    const found = answers[path];
    response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8');
    if (found) {
      response.end(await found());
      return;
    }
    const woken = path === '/wake' ? databases() : path.endsWith('/wake') ? [named(path, '')] : [];
    if (wakeToken && woken[0] && (path === '/wake' || path === `/${woken[0].name}/wake`))
      return answerWake(request, response, wakeToken, () => {
        for (const each of woken) each?.rest?.wake();
      });
    const site = named(path, base)?.site();
    if (site) {
      response.removeHeader('content-type');
      await site.handle(request, response);
      return;
    }
    if (path === '/' || path === base || path === `${base}/`) {
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.setHeader('content-security-policy', "default-src 'none'");
      // A name consists of a-z, 0-9, _ and -, so it needs no escaping.
      const links = databases().map(({ name, state }) => `<li><a href="${base}/${name}/">${name}</a> (${state})`);
      response.end(
        `<!doctype html><html lang="en"><title>Databases</title><h1>Databases</h1><ul>${links.join('')}</ul>`,
      );
      return;
    }
    response
      .writeHead(404)
      .end(`there are /livez, /readyz, /metrics, and a console for each database: ${base}/NAME/\n`);
  }

  const server = createServer({ headersTimeout: 5_000, requestTimeout: 10_000 }, (request, response) => {
    answer(request, response).catch(error => {
      log.error('an operations request failed', { message: error.message });
      response.destroy();
    });
  });
  server.on('error', error => log.error('operations cannot be served', { host, port, message: error.message }));
  server.listen(port, host, () =>
    log.info('serving operations', { host, port: (server.address() as { port: number }).port }),
  );
  await once(signal, 'abort');
  server.close();
  server.closeAllConnections();
}
