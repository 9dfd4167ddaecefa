import { once } from 'node:events';
import { createServer } from 'node:http';
import { Gauge } from 'prom-client';
import type { Settings } from '../config.ts';
import type { Log } from '../log.ts';
import { limitEndpointLabels, processMetrics } from '../metrics.ts';

/**
 * The state of one database. `waiting`: it cannot be reached, or collecta is not installed in it yet. `failed`: an
 * error ended its dispatcher, which is started again later. `polling`: it is served, but without notifications.
 * `listening`: it is served with notifications.
 */
export type State = 'waiting' | 'failed' | 'polling' | 'listening';

/**
 * Serves /livez, /readyz and /metrics of a process that serves many databases, until `signal` aborts. The process is
 * ready once it has started, whatever state the databases are in, because a restart would repair none of them and would
 * interrupt the others. /metrics has no figures of the databases, such as the length of their queues.
 */
export async function serveFleetOperations(
  { operationsHost: host, operationsPort: port, metricsEndpoints }: Settings,
  states: () => Iterable<[name: string, state: State]>,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  if (port === undefined || signal.aborted) return;
  limitEndpointLabels(metricsEndpoints);
  const gauge = new Gauge({
    name: 'collecta_fleet_database',
    help: 'The databases that this process serves, by state: waiting, failed, polling or listening. Its value is 1.',
    labelNames: ['database', 'state'] as const,
    registers: [processMetrics],
    collect() {
      gauge.reset();
      for (const [database, state] of states()) gauge.set({ database, state }, 1);
    },
  });
  const countByState = () => {
    const counts = new Map<State, number>();
    for (const [, state] of states()) counts.set(state, (counts.get(state) ?? 0) + 1);
    return Array.from(counts, ([state, number]) => `${number} ${state}\n`).join('');
  };
  const answers: Record<string, () => string | Promise<string>> = {
    '/livez': () => 'ok\n',
    '/readyz': () => `ok\n${countByState()}`,
    '/metrics': () => processMetrics.metrics(),
  };
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 10_000 }, async (request, response) => {
    const answer = answers[request.url?.split('?', 1)[0] ?? ''];
    response.setHeader('content-type', 'text/plain; version=0.0.4; charset=utf-8');
    if (!answer) response.writeHead(404).end('there are /livez, /readyz and /metrics\n');
    else response.end(await answer());
  });
  server.on('error', error => log.error('operations cannot be served', { host, port, message: error.message }));
  server.listen(port, host, () =>
    log.info('serving operations', { host, port: (server.address() as { port: number }).port }),
  );
  await once(signal, 'abort');
  server.close();
  server.closeAllConnections();
}
