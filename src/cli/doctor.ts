import { readConfig } from '../config.ts';
import type { Command } from './command.ts';

export const doctorCommand: Command = {
  summary: 'look at everything that a delivery needs, from here',
  usage: '',
  about: `Connection, install, rights, restore check, notifications, collecta.health, and whether each endpoint's destination is
allowed: a line for each, ok, note or FAIL with what to do. Changes and sends nothing. Exits with 1 if anything failed.`,
  run: async ({ env, say }) => (await import('../operations/doctor.ts')).doctor(readConfig(env), say),
};
