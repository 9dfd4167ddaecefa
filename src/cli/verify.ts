import { ConfigError, readSettings } from '../config.ts';
import { type Command, readInput, UsageError } from './command.ts';

export const verifyCommand: Command = {
  summary: 'check the signature of a webhook',
  usage: '--signature SIGNATURE [--id ID --timestamp SECONDS [--any-age]] FILE|-',
  about: `FILE (or standard input) must have the exact bytes of the body. The secret comes from COLLECTA_SECRET or
COLLECTA_SECRET_FILE. Prints "valid" and exits with 0, or prints "invalid" with the reason and exits with 1.`,
  options: {
    signature: {
      type: 'string',
      value: 'SIGNATURE',
      about: 'X-Webhook-Signature (sha256=…), or webhook-signature (v1,…)',
    },
    id: { type: 'string', value: 'ID', about: 'webhook-id, for webhook-signature' },
    timestamp: {
      type: 'string',
      value: 'SECONDS',
      about: 'webhook-timestamp, for webhook-signature; at most 300 s off',
    },
    'any-age': { type: 'boolean', about: 'accept any timestamp: for a request from the history' },
  },
  run: async ({ env, positionals, options, say }) => {
    const { signature, id, timestamp, 'any-age': anyAge } = options as Record<string, string>;
    if (!signature) throw new UsageError('--signature is missing');
    if (positionals.length !== 1) throw new UsageError('one file is expected, or - for standard input');
    const { secret } = readSettings(env);
    if (!secret)
      throw new ConfigError(
        'COLLECTA_SECRET (or COLLECTA_SECRET_FILE) is not set, for example COLLECTA_SECRET_FILE=/run/secrets/webhook',
      );
    const body = await readInput(positionals[0] as string);
    const { verify } = await import('../operations/verify.ts');
    const { ok, reason } = verify(secret, body, { signature, id, timestamp, anyAge: Boolean(anyAge) });
    say(ok ? 'valid' : `invalid: ${reason}`);
    return ok ? 0 : 1;
  },
};
