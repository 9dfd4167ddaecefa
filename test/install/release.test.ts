import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { readMigrations } from '../../src/install/migrate.ts';
import { useServer } from '../support/database.ts';

// A release and the migration after it, in a copy of the project.
const { database } = await useServer();
const copy = mkdtempSync(join(tmpdir(), 'collecta-release-'));
t.teardown(() => rmSync(copy, { recursive: true, force: true }));
for (const name of ['package.json', 'package-lock.json', 'CHANGELOG.md', '.gmrc', '.gitignore', 'tsconfig.json',
  'tsconfig.build.json', 'sql', 'src', 'scripts', 'test', 'deploy']) // biome-ignore format: a list
  cpSync(name, join(copy, name), { recursive: true });
symlinkSync(join(process.cwd(), 'node_modules'), join(copy, 'node_modules'));

// tap puts its loader into NODE_OPTIONS of child processes.
const { NODE_OPTIONS: _, ...env } = process.env;
const run = (program: string, args: string[], more: Record<string, string> = {}) =>
  new Promise<{ status: number; output: string }>(done => {
    execFile(program, args, { cwd: copy, env: { ...env, ...more } }, (error, stdout, stderr) =>
      done({ status: Number(error?.code ?? 0), output: stdout + stderr }),
    );
  });
const npm = (...args: string[]) => run('npm', ['run', '-s', ...args]);
const git = async (...args: string[]) => run('git', ['-c', 'user.name=x', '-c', 'user.email=x@example.com', ...args]);
const read = (name: string) => readFileSync(join(copy, name), 'utf8');
const write = (name: string, text: string) => writeFileSync(join(copy, name), text);
const committed = () => readdirSync(join(copy, 'sql/committed')).sort();
const changed = 'outbound/2_route/internal/event_body.sql';
const change = (text: string) => write(`sql/fixtures/${changed}`, `-- ${text}\n${read(`sql/fixtures/${changed}`)}`);
const next = `create table collecta.of_the_next_version (id int, constraint of_the_next_version_pkey primary key (id));
--!include ${changed}
`;
const ending = '--!include install/pin_settings.sql\n--!include install/grants.sql\n';

t.test('a release fixes its migrations', async t => {
  const changelog = read('CHANGELOG.md');
  if (/^## Unreleased\n\s*(?=## |(?![\s\S]))/m.test(changelog))
    write('CHANGELOG.md', changelog.replace('## Unreleased\n', '## Unreleased\n\n- A change.\n'));
  await git('init', '-q');
  await git('add', '-A');
  await git('commit', '-qm', 'The project');
  const { status, output } = await npm('release', '--', '99.0.0');
  t.equal(status, 0, output);
  await git('add', '-A');
  await git('commit', '-qm', 'Release 99.0.0');
  const released = Object.assign({}, ...Object.values(JSON.parse(read('sql/released.json'))));
  t.strictSame(released, Object.fromEntries((await readMigrations()).map(({ filename, hash }) => [filename, hash])));
  t.equal(JSON.parse(read('package.json')).version, '99.0.0');
  t.match(read('CHANGELOG.md'), /^## Unreleased\n\n## 99\.0\.0 \(/m);
  t.match(read('test/install/released/99.0.0.sql'), /PostgreSQL database dump complete/);
  for (const name of readdirSync(join(copy, 'deploy/kubernetes')))
    for (const [image] of read(`deploy/kubernetes/${name}`).matchAll(/image: collecta-webhooks.*/g))
      t.equal(image, 'image: collecta-webhooks:99.0.0', name);
  t.match(await npm('release', '--', '99.0.0'), { status: 2, output: /released already/ });
  t.match(await npm('release', '--', '9.100.0'), { status: 2, output: /after it/ });
  t.match(await npm('sql:recommit'), { status: 0, output: /released and unchanged/ });
  change('A change after the release.');
  t.match(await npm('sql:recommit'), { status: 2, output: /never changes/ });
  t.match(await npm('sql:commit', '--', 'next'), { status: 2, output: /write the next migration/ });
});

t.test('the next migration is committed, and again until it is released', async t => {
  const before = committed();
  write('sql/current/1-current.sql', next);
  t.match(await npm('sql:commit', '--', 'next'), { status: 2, output: /has to end with[\s\S]*install\/grants\.sql/ });
  write('sql/current/1-current.sql', next + ending);
  t.match(await npm('sql:commit', '--', 'next'), { status: 0, output: /-next\.sql written/ });
  const [added, ...others] = committed().filter(name => !before.includes(name));
  t.strictSame(others, []);
  change('Another change.');
  t.match(await npm('sql:recommit'), { status: 0, output: /-next\.sql written/ });
  t.strictSame(committed(), [...before, added]);
  t.match(read(`sql/committed/${added}`), /Another change/);
  t.equal((await npm('sql:psql', '--', '--check')).status, 0);
});

t.test('psql upgrades an install of the release', async t => {
  await database(); // creates the roles of the cluster
  const { url, sql } = await database('empty');
  const psql = (file: string) => run('psql', [url, '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', file]);
  t.equal((await psql('test/install/released/99.0.0.sql')).status, 0);
  await sql`select collecta.resume_after_restore()`;
  for (const expected of [/applying \d+-next\.sql/, /already installed: \d+-next\.sql/])
    t.match(await psql('sql/install.psql'), { status: 0, output: expected });
  const ledger = await sql`select filename from collecta.migrations order by filename collate "C"`;
  t.strictSame(
    ledger.map(({ filename }) => filename),
    committed(),
  );
  t.strictSame([...(await sql`select problem from collecta.health where severity = 'error'`)], []);
  t.equal((await sql`select from collecta.of_the_next_version`).length, 0);
});

t.test('the upgrade test of the project passes from the release', async t => {
  const { status, output } = await run(join(copy, 'node_modules/.bin/tsx'), ['test/install/upgrade.test.ts'], {
    TAP_GREP: '/released|from 99/',
  });
  t.equal(status, 0, output);
  t.match(output, /ok \d+ - an upgrade from 99\.0\.0(?!.*SKIP)/);
});
