import { readConfig } from '../config.ts';
import { describeDatabase } from '../database/connect.ts';
import { type Command, complain } from './command.ts';

export const migrateCommand: Command = {
  summary: 'install collecta in the database, or bring it up to date',
  usage: '[--check] [--role-prefix PREFIX]',
  about: `Applies what the schema "collecta" lacks, each migration in a transaction of its own, and notes it in
collecta.migrations; then sets owners and privileges to what the design says. Needs CREATE on the database. Safe to run
again, and from several places at once.
psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f sql/install.psql does the same without Node.`,
  options: {
    check: { type: 'boolean', about: 'apply nothing; say what would be applied, and exit with 1 if anything' },
    'role-prefix': {
      type: 'string',
      value: 'PREFIX',
      about: 'what the names of the roles begin with, instead of collecta_; the same at each run',
    },
  },
  run: async ({ env, options, say }) => {
    const { databaseUrl } = readConfig(env);
    const { migrate, status } = await import('../install/migrate.ts');
    if (options.check) {
      const { state, pending } = await status(databaseUrl);
      for (const filename of pending) say(`would apply ${filename}`);
      say(`collecta in ${describeDatabase(databaseUrl)}: ${state}`);
      return pending.length > 0 ? 1 : 0;
    }
    const { applied, already } = await migrate(databaseUrl, {
      rolePrefix: options['role-prefix'] as string | undefined,
      onWait: reason => complain(`waiting: ${reason}`),
      onNotice: ({ message, hint }) => complain(`notice: ${message}${hint ? `\n  ${hint}` : ''}`),
    });
    for (const filename of applied) say(`applied ${filename}`);
    say(
      `collecta is up to date in ${describeDatabase(databaseUrl)}: ${applied.length} applied, ${already.length} already there`,
    );
    return 0;
  },
};

export const uninstallCommand: Command = {
  summary: 'take collecta out of the database, its history included',
  usage: '[--yes]',
  about: `Without --yes only says what would be dropped: the triggers on your tables, the schema "collecta" with the outbox,
the queue and all history, and the roles collecta_* that nothing else needs. Your tables and their rows stay.`,
  options: { yes: { type: 'boolean', about: 'do it' } },
  run: async ({ env, options, say }) => {
    const { uninstallCommand } = await import('../install/uninstall.ts');
    return await uninstallCommand(readConfig(env).databaseUrl, Boolean(options.yes), say);
  },
};
