import type { Command } from './command.ts';

export const demoCommand: Command = {
  summary: 'show how it works, on a temporary PostgreSQL',
  usage: '[--keep]',
  about: `Starts an embedded PostgreSQL in a temporary folder, and a receiver, both on 127.0.0.1 only. Installs
collecta, makes changes, and shows in SQL what was delivered. It needs no settings, uses no other database, and removes
everything at the end.`,
  options: { keep: { type: 'boolean', about: 'stay up until Ctrl-C, and print the URLs for psql and of the console' } },
  stops: true,
  run: async ({ options, signal, say }) =>
    (await import('../demo/demo.ts')).demo({ keep: Boolean(options.keep), signal, say }),
};
