import { readSettings } from '../config.ts';
import type { Command } from './command.ts';

export const healthcheckCommand: Command = {
  summary: 'ask the operations port whether the process is ready',
  usage: '[--live]',
  about: `Requests /readyz from COLLECTA_OPERATIONS_HOST and COLLECTA_OPERATIONS_PORT. Exits with 0 if the process is
ready; otherwise it prints the answer and exits with 1. It suits a container's HEALTHCHECK, since it needs no shell and
no curl.`,
  options: {
    live: { type: 'boolean', about: 'request /livez, which says only whether the process runs, not the database' },
  },
  run: async ({ env, options, say }) =>
    (await import('../operations/healthcheck.ts')).healthcheck(readSettings(env), Boolean(options.live), say),
};
