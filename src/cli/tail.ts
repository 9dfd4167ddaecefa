import { readConfig } from '../config.ts';
import { type Command, UsageError } from './command.ts';

export const tailCommand: Command = {
  summary: 'follow the delivery attempts as they are recorded',
  usage: '[--failed] [--endpoint ID] [--last N]',
  about: `Prints a line for each row of collecta.webhook_deliveries: time, outcome, status, module, event, record,
attempt and ids. The role must be a member of collecta_reader.`,
  options: {
    failed: { type: 'boolean', about: 'only attempts that were not delivered' },
    endpoint: { type: 'string', value: 'ID', about: 'only this endpoint' },
    last: { type: 'string', value: 'N', about: 'begin with the last N attempts [10]' },
  },
  stops: true,
  run: async ({ env, options, signal, say }) => {
    const last = Number(options.last ?? 10);
    if (!Number.isInteger(last) || last < 0 || last > 10_000)
      throw new UsageError('--last must be a whole number up to 10000');
    const { tail } = await import('../operations/tail.ts');
    const endpoint = options.endpoint as string | undefined;
    return await tail(readConfig(env).databaseUrl, { endpoint, failed: Boolean(options.failed), last }, signal, say);
  },
};
