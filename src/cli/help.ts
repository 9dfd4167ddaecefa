import { readFileSync } from 'node:fs';
import { variables } from '../config.ts';
import { type Command, name } from './command.ts';

export const version = (): string =>
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;

const columns = (rows: string[][]) => {
  const width = Math.max(...rows.map(([first = '']) => first.length));
  return rows.map(([first = '', ...rest]) => `  ${first.padEnd(width)}  ${rest.join('  ')}`).join('\n');
};

export function generalHelp(commands: Record<string, Command>): string {
  const settings = Object.entries<{ about: string; default?: string; secret?: true }>(variables).map(
    ([each, { about, default: fallback, secret }]) => [
      `${each}${secret ? ' *' : ''}`,
      `${about}${fallback ? ` [${fallback}]` : ''}`,
    ],
  );
  return `${name} ${version()}: webhooks for the tables of an existing PostgreSQL.

Usage: ${name} COMMAND [OPTIONS]
       ${name} COMMAND --help

Commands:
${columns(Object.entries(commands).map(([each, { summary }]) => [each, summary]))}

Settings come from the environment. One marked * can also be in a file, which for example DATABASE_URL_FILE names:
${columns(settings)}

Exit status: 0 for success, 1 for a negative answer, 2 for wrong usage or settings.

First steps:
  export DATABASE_URL='${variables.DATABASE_URL.example}'
  ${name} migrate
  psql "$DATABASE_URL" -c "
    select collecta.attach_module('public.work_orders', 'work-orders', status_column => 'status')"
  psql "$DATABASE_URL" -c "
    select * from collecta.create_endpoint('https://example.com/hook', '{record_created,status_change}')"
  ${name} run`;
}

export function commandHelp(each: string, { usage, about, options = {} }: Command): string {
  const rows = Object.entries(options).map(([option, { value, about }]) => [
    `--${option}${value ? ` ${value}` : ''}`,
    about,
  ]);
  return `Usage: ${`${name} ${each} ${usage}`.trim()}

${about}

Options:
${columns([...rows, ['--help', 'show this text']])}

Settings come from the environment. ${name} --help lists them.`;
}
