import { readSettings } from '../config.ts';
import type { Command } from './command.ts';

export const healthcheckCommand: Command = {
  summary: 'ask the operations port of this machine whether it is ready',
  usage: '[--live]',
  about: `Asks /readyz at COLLECTA_OPERATIONS_HOST and COLLECTA_OPERATIONS_PORT. Exits with 0 if it is ready, else with 1 and what it
answered. For a container's HEALTHCHECK: it needs no shell and no curl.`,
  options: { live: { type: 'boolean', about: 'ask /livez: whether the process runs, whatever the database does' } },
  run: async ({ env, options, say }) =>
    (await import('../operations/healthcheck.ts')).healthcheck(readSettings(env), Boolean(options.live), say),
};
