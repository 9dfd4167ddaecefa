import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { dumpInstall } from '../../scripts/dump-install.ts';
import { readReleases, releasedMigrations } from '../../scripts/releases.ts';
import { migrate, readMigrations, status } from '../../src/install/migrate.ts';
import { useServer } from '../support/database.ts';
import { createEndpoint, startReceiver, startRunner, until } from '../support/runner.ts';

// Upgrades start from a dump of each released version, and from a dump of this version as if it were released and a
// next one followed.
const { database } = await useServer();
const run = promisify(execFile);
const folder = 'test/install/released';
const releases = readReleases();
const scratch = mkdtempSync(join(tmpdir(), 'collecta-upgrade-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));

t.test('a released migration never changes, and a dump of each released version is kept', async t => {
  const committed = Object.fromEntries((await readMigrations()).map(({ filename, hash }) => [filename, hash]));
  for (const [filename, hash] of Object.entries(releasedMigrations(releases)))
    t.equal(committed[filename], hash, filename);
  t.strictSame(
    existsSync(folder) ? readdirSync(folder).sort() : [],
    Object.keys(releases)
      .map(version => `${version}.sql`)
      .sort(),
  );
  t.equal(Object.keys(releases).length > 0, JSON.parse(readFileSync('package.json', 'utf8')).version !== '0.1.0');
});

/** A copy of sql/ with one more migration, as the next version would have it. It changes a table and two templates. */
async function nextVersion(): Promise<URL> {
  const path = join(scratch, 'next');
  cpSync('sql', path, { recursive: true });
  const previous = (await readMigrations()).at(-1)!.hash;
  const read = (name: string) => readFileSync(join('sql/fixtures', name), 'utf8');
  const changed = (name: string) =>
    read(name).replaceAll('\ndeclare\n', '\n-- Changed by the next version.\ndeclare\n');
  const body = [
    'alter table collecta.settings add column added_by_a_test int;',
    'alter table collecta.outbox add column added_by_a_test int;',
    changed('inbound/internal/inbound_map.sql'),
    changed('inbound/internal/inbound_templates.sql'),
    read('install/pin_settings.sql'),
    `${read('install/grants.sql').trim()}\n`,
  ].join('\n');
  const hash = `sha1:${createHash('sha1').update(`${previous}\n${body}`).digest('hex')}`;
  writeFileSync(
    join(path, 'committed/999999-added-by-a-test.sql'),
    `--! Previous: ${previous}\n--! Hash: ${hash}\n\n${body}`,
  );
  return pathToFileURL(`${path}/`);
}

for (const version of [...Object.keys(releases), 'this version'])
  t.test(`an upgrade from ${version} loses nothing while rows are written and delivered`, async t => {
    const dump = join(scratch, 'dump.sql');
    if (version === 'this version') writeFileSync(dump, await dumpInstall());
    else cpSync(join(folder, `${version}.sql`), dump);
    const target = await database('empty');
    await migrate((await database('empty')).url); // creates the roles of the cluster
    await run('psql', [target.url, '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', dump]);
    const { sql } = target;
    await sql`select collecta.resume_after_restore()`;
    const { pending } = await status(target.url);
    const receiver = await startReceiver();
    await createEndpoint(sql, receiver, '/upgrade', { events: ['record_created'] });
    await sql`select collecta.pause_endpoint(endpoint_id) from collecta.endpoints where name in ('all', 'ordered')`;

    // The runner of this version waits until all of its migrations are applied.
    const runner = await startRunner(target.url);
    let written = 0;
    let stop = false;
    const writers = [1, 2].map(async writer => {
      for (let n = 1; !stop; n++) {
        await sql`insert into public.work_orders (id, status) values (${writer * 1_000_000 + n}, 'new')`;
        written++;
      }
    });
    await until('rows are written before the upgrade', () => written > 20);
    if (pending.length === 0)
      await until('rows are delivered before the upgrade', () => receiver.to('/upgrade').length > 20);
    else t.equal((await runner.logged('waiting for the install')).missing, pending.length);
    const { applied } = await migrate(target.url, { folder: await nextVersion() });
    t.strictSame(applied, [...pending, '999999-added-by-a-test.sql']);
    const before = written;
    await until('rows are written after the upgrade', () => written > before + 20);
    stop = true;
    await Promise.all(writers);
    await until(
      'all is delivered',
      () => new Set(receiver.to('/upgrade').map(({ body }) => JSON.parse(body).record_id)).size === written,
    );
    t.strictSame([...(await sql`select problem from collecta.health where severity = 'error'`)], []);
    // The functions that are written for each inbound endpoint come from the templates of the next version.
    const functions = await sql`
      select split_part(proname, '_', 1) as name, prosrc like '%-- Changed by the next version.%' as changed
      from pg_proc where pronamespace = 'collecta'::regnamespace and proname ~ '_inbound_[0-9]+$' order by proname`;
    t.strictSame(
      [...functions],
      ['accept', 'cast', 'map', 'write'].map(name => ({ name, changed: true })),
    );
    await runner.stop();
  });

t.test('an install that was restored without its owners can be upgraded at once', async t => {
  const dump = join(scratch, 'without-owners.sql');
  const statements = (await dumpInstall()).replace(/^ALTER .* OWNER TO .*;$/gm, '');
  writeFileSync(dump, statements);
  const target = await database('empty');
  await migrate((await database('empty')).url); // creates the roles of the cluster
  await run('psql', [target.url, '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', dump]);
  const owners = () => target.sql`
    select distinct relowner::regrole::text as name from pg_class
    where relnamespace = 'collecta'::regnamespace and relkind = 'r'`;
  t.not((await owners())[0]!.name, 'collecta_owner');
  const { applied } = await migrate(target.url, { folder: await nextVersion() });
  t.strictSame(applied, ['999999-added-by-a-test.sql']);
  t.strictSame([...(await owners())], [{ name: 'collecta_owner' }]);
  await target.sql`select collecta.resume_after_restore()`;
  t.strictSame([...(await target.sql`select problem from collecta.health where severity = 'error'`)], []);
});

t.test('an upgrade ends only when all functions are of the new version', async t => {
  const target = await database('empty');
  await migrate(target.url);
  const { sql } = target;
  await sql`create table t (id int primary key, n int)`;
  await sql`select collecta.attach_module('t', 't')`;
  await sql`select collecta.create_endpoint('https://example.com', '{record_created}')`;
  await sql`select collecta.create_inbound_endpoint('t', '{"$.n": "n", "$.id": "id"}', '{id}')`;
  const holder = await sql.reserve();
  await holder`begin`;
  await holder`select collecta.create_endpoint('https://example.com/2', '{record_created}')`;
  const folder = await nextVersion();
  await t.rejects(migrate(target.url, { folder, lockTimeoutMs: 50, lockAttempts: 2 }), { code: '55P03' });
  t.strictSame((await status(target.url, folder)).pending, ['999999-added-by-a-test.sql']);
  await holder`commit`;
  holder.release();
  t.strictSame((await migrate(target.url, { folder })).applied, ['999999-added-by-a-test.sql']);

  // Whatever left them as they were: upkeep finds functions that another version has generated.
  const changed = async (name: string) => {
    const [row] = await sql`select pg_get_functiondef(oid) as definition from pg_proc where proname = ${name}`;
    await sql.unsafe(row!.definition.replace(/\nbegin\n/, '\n-- Of a later version.\nbegin\n'));
  };
  const later = async () => [
    ...(await sql`
      select proname from pg_proc
      where proname in ('capture_1_insert', 'cast_inbound_1') and prosrc like '%-- Of a later version.%'
      order by 1`),
  ];
  await changed('capture_insert_template');
  await changed('inbound_cast_template');
  t.strictSame(await later(), []);
  await sql`select collecta.maintain(), collecta.maintain_inbound()`;
  t.strictSame(await later(), [{ proname: 'capture_1_insert' }, { proname: 'cast_inbound_1' }]);
});

t.test('an install from an unreleased commit is recognized, and the error says what to do', async t => {
  const target = await database('empty');
  await migrate(target.url);
  await target.sql`update collecta.migrations set hash = 'sha1:0123456789012345678901234567890123456789'`;
  await t.rejects(migrate(target.url), { message: /never released/, hint: /uninstall/ });
});
