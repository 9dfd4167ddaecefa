import { readConfig } from '../config.ts';
import { describeDatabase } from '../database/connect.ts';
import { type Command, complain } from './command.ts';

export const migrateCommand: Command = {
  summary: 'install collecta in the database, or bring it up to date',
  usage: '[--check] [--role-prefix PREFIX]',
  about: `Applies the migrations that the database lacks, each in its own transaction, and records them in
collecta.migrations. Then it restores the owners and privileges of all objects of collecta. It needs CREATE on the
database. It is safe to run it again, and from several places at once. Without Node, this does the same:
psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f sql/install.psql`,
  options: {
    check: {
      type: 'boolean',
      about: 'apply nothing, but print what would be applied; exit with 1 if there is anything, or an obstacle',
    },
    'role-prefix': {
      type: 'string',
      value: 'PREFIX',
      about: 'prefix of the role names, instead of collecta_; use the same one at each run',
    },
  },
  run: async ({ env, options, say }) => {
    const { databaseUrl } = readConfig(env);
    const { check, migrate } = await import('../install/migrate.ts');
    if (options.check) {
      const { state, pending } = await check(databaseUrl);
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
    const counts = `${applied.length} applied, ${already.length} already there`;
    say(`collecta is up to date in ${describeDatabase(databaseUrl)}: ${counts}`);
    return 0;
  },
};

export const uninstallCommand: Command = {
  summary: 'remove collecta and its history from the database',
  usage: '[--yes]',
  about: `Drops the triggers on your tables, the schema "collecta" with the outbox, the queue and all history, and the
roles collecta_* that nothing else needs. Your tables and their rows stay. Without --yes it only prints what would be
dropped.`,
  options: { yes: { type: 'boolean', about: 'drop everything listed' } },
  run: async ({ env, options, say }) => {
    const { uninstallCommand } = await import('../install/uninstall.ts');
    return await uninstallCommand(readConfig(env).databaseUrl, Boolean(options.yes), say);
  },
};
