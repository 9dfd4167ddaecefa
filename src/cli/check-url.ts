import { readSettings } from '../config.ts';
import type { Command } from './command.ts';

export const checkUrlCommand: Command = {
  summary: 'say whether destinations are allowed, without sending anything',
  usage: '[URL…]',
  about: `Reads URLs from standard input, one a line, where none is given. Prints a line for each: allowed or blocked, the URL,
its addresses, and why it is blocked. Judges as the runner does, by COLLECTA_ALLOW_HTTP, COLLECTA_ALLOW_DESTINATIONS and
COLLECTA_DNS_SERVERS. Exits with 1 if any is blocked.`,
  run: async ({ env, positionals, say }) => {
    const settings = readSettings(env);
    const { checkUrl, readUrls } = await import('../operations/check-url.ts');
    return await checkUrl(settings, positionals.length > 0 ? positionals : readUrls(process.stdin), say);
  },
};
