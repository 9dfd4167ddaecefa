// npm run release -- 0.2.0
// Prepares a release of what is checked out. The migrations that no release contains yet become released, and must
// never change again. The script writes package.json, package-lock.json, CHANGELOG.md, sql/released.json, the images'
// versions in deploy/, and test/install/released/<version>.sql, the dump that upgrade tests start from. It commits and
// tags nothing. It needs Debian's package postgresql-15.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readMigrations } from '../src/install/migrate.ts';
import { dumpInstall } from './dump-install.ts';
import { readReleases, releasedFile, releasedMigrations, root } from './releases.ts';

const version = process.argv[2] ?? '';
if (!/^\d+\.\d+\.\d+$/.test(version)) fail('Usage: npm run release -- 0.2.0');
const releases = readReleases();
if (Object.hasOwn(releases, version)) fail(`${version} is released already: choose the next version.`);
const numbers = (of: string) => of.split('.').map(part => part.padStart(9, '0'));
const later = Object.keys(releases).find(each => numbers(each).join() > numbers(version).join());
if (later !== undefined) fail(`${later} is released already: choose a version after it.`);
const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
if (git('status', '--porcelain') !== '') fail('There are changes that are not committed: commit them first.');
const changelogFile = join(root, 'CHANGELOG.md');
const changelog = readFileSync(changelogFile, 'utf8');
const [, unreleased = ''] = /^## Unreleased\n([\s\S]*?)(?=^## |(?![\s\S]))/m.exec(changelog) ?? [];
if (unreleased.trim() === '') fail('CHANGELOG.md says nothing under "## Unreleased": write what changes for users.');

execFileSync('npm', ['run', '-s', 'sql:recommit'], { cwd: root, stdio: 'inherit' });
if (git('status', '--porcelain') !== '') fail('sql/committed was not up to date: look at what changed, and commit it.');

const alreadyReleased = releasedMigrations(releases);
const added = (await readMigrations()).filter(({ filename }) => !Object.hasOwn(alreadyReleased, filename));
releases[version] = Object.fromEntries(added.map(({ filename, hash }) => [filename, hash]));
writeFileSync(releasedFile, `${JSON.stringify(releases, null, 2)}\n`);
execFileSync('npm', ['version', version, '--no-git-tag-version', '--allow-same-version'], { cwd: root, stdio: 'pipe' });
const today = new Date().toISOString().slice(0, 10);
writeFileSync(changelogFile, changelog.replace(/^## Unreleased$/m, `## Unreleased\n\n## ${version} (${today})`));
const deployments = join(root, 'deploy/kubernetes');
for (const name of readdirSync(deployments)) {
  const file = join(deployments, name);
  writeFileSync(file, readFileSync(file, 'utf8').replace(/(image: collecta-webhooks):\S+/g, `$1:${version}`));
}
const folder = join(root, 'test/install/released');
if (!existsSync(folder)) mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, `${version}.sql`), await dumpInstall());
console.log(`${version}: ${added.map(({ filename }) => filename).join(', ') || 'no new migration'}
Now run .ci/run, commit everything as "Release ${version}", and tag it.`);

function fail(text: string): never {
  console.error(text);
  process.exit(2);
}
