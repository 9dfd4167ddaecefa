import { type Config, readConfig } from '../config.ts';
import { createLog, type Log } from '../log.ts';
import type { Command } from './command.ts';

type Service = (config: Config, log: Log, signal: AbortSignal) => Promise<void>;

const dispatch: Service = async (...given) => (await import('../outbound/dispatcher.ts')).dispatch(...given);
const receive: Service = async (...given) => (await import('../inbound/server.ts')).receive(...given);
const operations: Service = async (...given) => (await import('../operations/serve.ts')).serveOperations(...given);

/** A command that runs until it is told to stop. When one of its services fails, the others stop too. */
function serve(summary: string, about: string, services: Service[]): Command {
  return {
    summary,
    usage: '',
    about: `${about}
Waits for the database and for its install, and says so. Logs JSON lines on standard error. SIGTERM or SIGINT stops it:
what is under way may finish within COLLECTA_STOP_TIMEOUT_MS. Any number may run at once, on any number of machines.`,
    stops: true,
    logs: true,
    run: async ({ env, signal }) => {
      const config = readConfig(env);
      const log = createLog(config.logLevel);
      const stop = new AbortController();
      signal.addEventListener('abort', () => stop.abort());
      const ends = services.map(service => service(config, log, stop.signal).finally(() => stop.abort()));
      await Promise.allSettled(ends);
      await Promise.all(ends);
      return 0;
    },
  };
}

export const runCommand = serve(
  'deliver webhooks and receive payloads: what to keep running',
  'Routes captured changes, delivers them to the endpoints, and serves inbound on COLLECTA_HOST and COLLECTA_PORT.',
  [dispatch, receive, operations],
);

export const dispatchCommand = serve(
  'deliver webhooks only',
  'Routes captured changes and delivers them: the outbound half of run.',
  [dispatch, operations],
);

export const receiveCommand = serve(
  'receive payloads only',
  'Serves POST /api/webhooks/MODULE/TOKEN on COLLECTA_HOST and COLLECTA_PORT: the inbound half of run.',
  [receive, operations],
);
