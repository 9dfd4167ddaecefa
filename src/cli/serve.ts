import process from 'node:process';
import { type Config, ConfigError, type Environment, readConfig, readSettings } from '../config.ts';
import { createRest, type Rest } from '../database/rest.ts';
import { createLog, type Log } from '../log.ts';
import type { Command } from './command.ts';

type Service = (config: Config, log: Log, signal: AbortSignal, rest?: Rest) => Promise<void>;

// Each service's code is imported when it runs, so that a command loads only the code that it uses.
const dispatch: Service = async (config, log, signal, rest) =>
  (await import('../outbound/dispatcher.ts')).dispatch(config, log, signal, undefined, rest);
const receive: Service = async (config, log, signal, rest) =>
  (await import('../inbound/service.ts')).receive(config, log, signal, { rest });
const receiveInThread: Service = async (config, log, signal, rest) => {
  // If idle sessions are released, it runs in the dispatcher's thread, because each of the two tells the other of work.
  if (rest) await receive(config, log, signal, rest);
  else await (await import('../inbound/thread.ts')).receiveInThread(config, log, signal);
};
const operations: Service = async (config, log, signal, rest) => {
  const [{ serveOperations }, { createConsole }] = await Promise.all([
    import('../operations/serve.ts'),
    import('../console/server.ts'),
  ]);
  await serveOperations(config, log, signal, createConsole, rest);
};
const observing: Service = async (...args) => (await import('../operations/observe.ts')).observe(...args);

/** Serves the databases that COLLECTA_DATABASES names. SIGHUP makes it read that file or directory again. */
async function serveFleet(env: Environment, services: Service[], path: string, signal: AbortSignal): Promise<void> {
  if (env.DATABASE_URL || env.DATABASE_URL_FILE)
    throw new ConfigError('COLLECTA_DATABASES and DATABASE_URL are both set: unset one');
  const settings = readSettings(env);
  const [{ runFleet }, { createConsole }] = await Promise.all([
    import('../fleet/fleet.ts'),
    import('../console/server.ts'),
  ]);
  const receives = services.includes(receive) || services.includes(receiveInThread);
  const options = { settings, env, path, delivers: services.includes(dispatch), receives, openSite: createConsole };
  await runFleet(options, createLog(settings.logLevel), signal, reload => process.on('SIGHUP', reload));
}

/** A command that runs its services until `signal` aborts. When one of them ends or fails, it stops the others too. */
function serve(summary: string, about: string, services: Service[]): Command {
  return {
    summary,
    usage: '',
    about: `${about}
If the database cannot be reached or collecta is not installed in it, the command logs that and waits. It logs JSON
lines to standard error. On SIGTERM or SIGINT it stops; deliveries and requests under way may finish within
COLLECTA_STOP_TIMEOUT_MS. Any number of processes may run at once, on any number of machines.
With COLLECTA_DATABASES it serves many databases; SIGHUP makes it read that file or directory again (docs/fleet.md).`,
    stops: true,
    logs: true,
    run: async ({ env, signal }) => {
      if (env.COLLECTA_DATABASES) {
        await serveFleet(env, services, env.COLLECTA_DATABASES, signal);
        return 0;
      }
      const config = readConfig(env);
      const log = createLog(config.logLevel);
      const longestMs = config.idleIntervalHours * 3_600_000;
      const rest = config.idle === 'release' ? createRest(longestMs, !services.includes(dispatch)) : undefined;
      const stop = new AbortController();
      signal.addEventListener('abort', () => stop.abort());
      const ends = services.map(service => service(config, log, stop.signal, rest).finally(() => stop.abort()));
      await Promise.allSettled(ends);
      await Promise.all(ends);
      return 0;
    },
  };
}

export const runCommand = serve(
  'deliver webhooks and receive payloads; this is the service to keep running',
  'Routes captured changes, delivers them to the endpoints, and serves inbound on COLLECTA_HOST and COLLECTA_PORT.',
  [dispatch, receiveInThread, operations, observing],
);

export const dispatchCommand = serve(
  'deliver webhooks only',
  'Routes captured changes and delivers them. This is the outbound half of run.',
  [dispatch, operations, observing],
);

export const receiveCommand = serve(
  'receive payloads only',
  'Serves POST /api/webhooks/MODULE/TOKEN on COLLECTA_HOST and COLLECTA_PORT. This is the inbound half of run.',
  [receive, operations],
);

export const consoleCommand = serve(
  'serve the web page that shows deliveries and acts on them, without delivering',
  `Serves the console under COLLECTA_CONSOLE_PATH on COLLECTA_OPERATIONS_HOST and COLLECTA_OPERATIONS_PORT (9090 by
default for this command), together with /livez, /readyz and /metrics. run, dispatch and receive serve the same if
COLLECTA_OPERATIONS_PORT is set. A person logs in with the name and password of a PostgreSQL role, and has that role's
rights: collecta_reader may look, collecta_operator may also act. If a proxy logs people in, use
COLLECTA_CONSOLE_TRUST_HEADER.`,
  [(config, log, signal) => operations({ ...config, operationsPort: config.operationsPort ?? 9090 }, log, signal)],
);
