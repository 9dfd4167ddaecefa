import { readConfig } from '../config.ts';
import type { Command } from './command.ts';

export const doctorCommand: Command = {
  summary: 'check everything that deliveries from this machine need',
  usage: '',
  about: `Checks the connection, the install, the privileges, whether the database was restored from another one, the
notifications, collecta.health, and whether each endpoint's destination is allowed. Prints a line for each: ok, note, or
FAIL with what to do. It changes nothing and sends nothing. Exits with 1 if a check failed.`,
  run: async ({ env, say }) => (await import('../operations/doctor.ts')).doctor(readConfig(env), say),
};
