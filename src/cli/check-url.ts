import { readSettings } from '../config.ts';
import type { Command } from './command.ts';

export const checkUrlCommand: Command = {
  summary: 'say whether destinations are allowed, without sending anything',
  usage: '[URL…]',
  about: `Without arguments it reads URLs from standard input, one per line. Prints a line for each URL: whether it is
allowed or blocked, the URL, its addresses, and the reason if it is blocked. It applies the rules of the runner:
COLLECTA_ALLOW_HTTP, COLLECTA_ALLOW_DESTINATIONS and COLLECTA_DNS_SERVERS. Exits with 1 if a URL is blocked.`,
  run: async ({ env, positionals, say }) => {
    const settings = readSettings(env);
    const { checkUrl, readUrls } = await import('../operations/check-url.ts');
    return await checkUrl(settings, positionals.length > 0 ? positionals : readUrls(process.stdin), say);
  },
};
