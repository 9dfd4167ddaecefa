import type { Command } from './command.ts';

export const demoCommand: Command = {
  summary: 'see it work, on a PostgreSQL of its own',
  usage: '[--keep]',
  about: `Starts an embedded PostgreSQL in a temporary folder and a receiver beside it, both on 127.0.0.1 only; installs collecta,
makes changes, and shows in SQL what was delivered. Needs no settings, touches no other database, leaves nothing behind.`,
  options: { keep: { type: 'boolean', about: 'stay up until Ctrl-C, and print the URLs for psql and of the console' } },
  stops: true,
  run: async ({ options, signal, say }) =>
    (await import('../demo/demo.ts')).demo({ keep: Boolean(options.keep), signal, say }),
};
