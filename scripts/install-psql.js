// Writes sql/install.psql from sql/committed (or in another such FOLDER); with --check only says whether it is up to date.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

const folder = process.argv.slice(2).find(argument => !argument.startsWith('-'));
const sqlFolder = folder ? pathToFileURL(`${folder}/`) : new URL('../sql/', import.meta.url);
const target = new URL('install.psql', sqlFolder);

const head = String.raw`-- Installs or upgrades collecta with nothing but psql, re-runnable, beside and in turn with "collecta-webhooks migrate":
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f sql/install.psql
-- Written by scripts/install-psql.js from sql/committed; not edited by hand.
\set ON_ERROR_STOP on
\set QUIET on
\encoding UTF8

begin;
set local statement_timeout = 0;
select pg_advisory_xact_lock(1668246636, 4) \g /dev/null
select to_regclass('collecta.migrations') is null as collecta_absent \gset
\if :collecta_absent
\ir ledger.sql
\endif
commit;
`;

/** @param {string} filename */
function step(filename) {
  const text = readFileSync(new URL(`committed/${filename}`, sqlFolder), 'utf8');
  const previous = /^--! Previous: (\S+)$/m.exec(text)?.[1];
  const hash = /^--! Hash: (\S+)$/m.exec(text)?.[1];
  if (!previous || !hash) throw new Error(`${filename} has no header`);
  return String.raw`
begin;
set local statement_timeout = 0;
select pg_advisory_xact_lock(1668246636, 4) \g /dev/null
do $$
begin
  if exists (select from collecta.migrations where filename = '${filename}' and hash <> '${hash}') then
    raise exception '${filename} is not the file that was installed'
      using hint = 'Run the version that installed this database; a released migration never changes.';
  end if;
end
$$;
select not exists (select from collecta.migrations where filename = '${filename}') as collecta_pending \gset
\if :collecta_pending
\echo applying ${filename}
set local lock_timeout = '3s';
\ir committed/${filename}
insert into collecta.migrations (filename, hash, previous_hash)
values ('${filename}', '${hash}', ${previous === '-' ? 'null' : `'${previous}'`});
\else
\echo already installed: ${filename}
\endif
commit;
`;
}

const filenames = readdirSync(new URL('committed/', sqlFolder))
  .filter(name => name.endsWith('.sql'))
  .sort();
const script = head + filenames.map(step).join('');

if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== script) {
    console.error(`${fileURLToPath(target)} is stale: npm run sql:psql`);
    process.exit(1);
  }
} else {
  writeFileSync(target, script);
}
