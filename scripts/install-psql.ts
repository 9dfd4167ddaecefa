// npx tsx scripts/install-psql.ts [FOLDER] [--check]   writes install.psql in sql/, or in another folder like it, from
// the files in its folder committed/. With --check it only tells whether install.psql is up to date.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

const folder = process.argv.slice(2).find(argument => !argument.startsWith('-'));
const sqlFolder = folder ? pathToFileURL(`${folder}/`) : new URL('../sql/', import.meta.url);
const target = new URL('install.psql', sqlFolder);

const filenames = readdirSync(new URL('committed/', sqlFolder))
  .filter(name => name.endsWith('.sql'))
  .sort();

const head = String.raw`-- Installs or upgrades collecta with psql alone. It can be run again, and both it and
-- "collecta-webhooks migrate" can be used for the same database:
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f sql/install.psql
-- scripts/install-psql.ts writes this file from sql/committed. Do not edit it.
\set ON_ERROR_STOP on
\set QUIET on
\encoding UTF8

-- With psql -v role_prefix=app1_collecta_ this database gets its own roles.
\if :{?role_prefix}
\else
\set role_prefix ''
\endif
`;

const begin = String.raw`
begin;
set local search_path = pg_catalog, pg_temp;
set local standard_conforming_strings = on;
set local statement_timeout = 0;
select set_config('collecta.role_prefix', :'role_prefix', true) \g /dev/null
select pg_advisory_xact_lock(1668246636, 4) \g /dev/null
set local lock_timeout = '3s';
\ir prepare.sql
do $$
declare
  unknown text;
begin
  select min(filename collate "C") into unknown from collecta.migrations
  where filename <> all (array[${filenames.map(name => `'${name}'`).join(', ')}]);
  if unknown is not null then
    raise exception 'the database has %, which this version does not know', unknown
      using hint = 'The database was installed by a newer version: run the sql/install.psql of that version.';
  end if;
end
$$;`;

const end = String.raw`${begin}
\ir repair.sql
commit;
`;

function step(filename: string): string {
  const text = readFileSync(new URL(`committed/${filename}`, sqlFolder), 'utf8');
  const previous = /^--! Previous: (\S+)$/m.exec(text)?.[1];
  const hash = /^--! Hash: (\S+)$/m.exec(text)?.[1];
  if (!previous || !hash) throw new Error(`${filename} has no header`);
  return String.raw`${begin}
do $$
begin
  if exists (
    select from collecta.migrations
    where filename = '${filename}' and hash <> '${hash}'
  ) then
    raise exception '${filename} is not the file that was installed'
      using hint = 'Run the version that installed this database. A released migration never changes; '
                   'docs/operations.md says what to do after an install from an unreleased commit.';
  end if;
end
$$;
select not exists (select from collecta.migrations where filename = '${filename}') as collecta_pending \gset
\if :collecta_pending
\echo applying ${filename}
\ir committed/${filename}
insert into collecta.migrations (filename, hash, previous_hash)
values ('${filename}', '${hash}', ${previous === '-' ? 'null' : `'${previous}'`});
\else
\echo already installed: ${filename}
\endif
commit;
`;
}

const script = head + filenames.map(step).join('') + end;

if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== script) {
    console.error(`${fileURLToPath(target)} is stale: npm run sql:psql`);
    process.exit(1);
  }
} else {
  writeFileSync(target, script);
}
