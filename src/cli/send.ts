import { readSettings } from '../config.ts';
import { type Command, complain, name, readInput, UsageError } from './command.ts';

export const sendCommand: Command = {
  summary: 'post a payload to an inbound URL',
  usage: 'URL [FILE|-]',
  about: `Posts the JSON in FILE (or on standard input) with an idempotency key. Signs it if COLLECTA_SECRET or
COLLECTA_SECRET_FILE is set. Tries again after 429, 5xx and network failures, and waits as long as Retry-After says.
Prints only the record's id on standard output.`,
  options: {
    'idempotency-key': { type: 'string', value: 'KEY', about: 'makes it harmless to repeat this command' },
  },
  run: async ({ env, positionals, options, say, signal }) => {
    const [url, file = '-', ...rest] = positionals;
    if (!url || rest.length > 0 || !/^https?:\/\/./.test(url))
      throw new UsageError('a URL is expected, and at most one file, or - for standard input');
    const { secret } = readSettings(env);
    const body = await readInput(file);
    const { send, SendError } = await import('../operations/send.ts');
    try {
      const idempotencyKey = options['idempotency-key'] as string | undefined;
      const { recordId } = await send({ url, body, secret, signal, idempotencyKey });
      say(recordId);
      return 0;
    } catch (error) {
      if (!(error instanceof SendError)) throw error;
      complain(`${name}: ${error.message}`);
      return 1;
    }
  },
};
