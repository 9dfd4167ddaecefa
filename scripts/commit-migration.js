// npm run sql:commit -- "message"   commits sql/current as the next migration
// npm run sql:recommit              replaces the last, not yet released migration by sql/current as it is now
//
// sql/current keeps its --!include lines after a commit (graphile-migrate would blank it), so that the same source can be
// recommitted until its release. For the next migration, replace its content. All work is done on a copy of sql/.
import { execFileSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { commit, defaultLogger } from 'graphile-migrate';
import { startPostgres } from './embedded-postgres.js';

const root = fileURLToPath(new URL('..', import.meta.url));
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

if (recommit ? !last : !message)
  fail(
    recommit ? 'Nothing is committed yet: npm run sql:commit -- "message"' : 'Usage: npm run sql:commit -- "message"',
  );
if (recommit && isReleased(last))
  fail(`${last} is in a release and never changes: write the next migration into sql/current and use sql:commit.`);
if (!recommit && sourceOf(lastText) === source)
  fail(`sql/current is still ${last}: npm run sql:recommit, or write the next migration into it first.`);

const postgres = await startPostgres();
try {
  const folder = join(postgres.directory, 'sql');
  cpSync(join(root, 'sql/committed'), join(folder, 'committed'), { recursive: true });
  cpSync(join(root, 'sql/fixtures'), join(folder, 'fixtures'), { recursive: true });
  if (recommit) rmSync(join(folder, 'committed', last));
  writeFileSync(join(folder, 'current.sql'), `${source}\n`);
  const before = new Set(readdirSync(join(folder, 'committed')));

  await postgres.createDatabase('development');
  await commit(
    {
      ...JSON.parse(readFileSync(join(root, '.gmrc'), 'utf8')),
      migrationsFolder: folder,
      connectionString: postgres.url('development'),
      shadowConnectionString: postgres.url('shadow'),
      rootConnectionString: postgres.url('postgres'),
      databaseOwner: 'postgres',
      logger: new defaultLogger.constructor(() => (level, text) => level === 'error' && console.error(text)),
    },
    recommit ? /^--! Message: (.*)$/m.exec(lastText)?.[1] : message,
  );

  const made = readdirSync(join(folder, 'committed')).find(name => !before.has(name));
  const text = readFileSync(join(folder, 'committed', made), 'utf8');
  if (text === lastText) console.log(`${made} unchanged`);
  else {
    writeFileSync(join(committedFolder, made), text);
    console.log(`${made} written`);
  }
  execFileSync(process.execPath, [join(root, 'scripts/install-psql.js')], { stdio: 'inherit' });
} catch (error) {
  if (!error?._gmlogged) console.error(error);
  process.exitCode = 1;
} finally {
  await pause(300); // graphile-migrate keeps its pools for 200 ms, and exits when the server goes first
  await postgres.stop();
}

/** The text before its includes were put in. */
function sourceOf(text) {
  return text
    .replace(/^(--! [A-Z].*\n)+/, '')
    .replace(/^--! Included (\S+)$[\s\S]*?^--! EndIncluded \1$/gm, '--!include $1')
    .trim();
}

function isReleased(filename) {
  const git = args =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    git(['cat-file', '-e', `${git(['describe', '--tags', '--abbrev=0'])}:sql/committed/${filename}`]);
    return true;
  } catch {
    return false;
  }
}

function fail(text) {
  console.error(text);
  process.exit(2);
}
