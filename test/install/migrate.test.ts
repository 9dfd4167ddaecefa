import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { isMadeOnce } from '../../scripts/releases.ts';
import { MigrationError, migrate, readMigrations, status } from '../../src/install/migrate.ts';
import { planUninstall, uninstallCommand } from '../../src/install/uninstall.ts';
import { waitUntilInstalled } from '../../src/install/wait.ts';
import { createLog } from '../../src/log.ts';
import { freePort, type Sql, useServer } from '../support/database.ts';

const run = promisify(execFile);
const graphile = createRequire(import.meta.url);
const { calculateHash } = graphile('../../node_modules/graphile-migrate/dist/hash.js');
const { migrate: graphileMigrate } = graphile('graphile-migrate');

const { server, admin, database, connect } = await useServer();
const scratch = mkdtempSync(join(tmpdir(), 'collecta-migrate-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));
const installed = await readMigrations();
const filenames = installed.map(({ filename }) => filename);

let folders = 0;
/** Creates a folder like sql/ with these migrations, hashed and chained by graphile-migrate's own function. */
function sqlFolder(...bodies: string[]) {
  const path = join(scratch, String(++folders));
  mkdirSync(join(path, 'committed'), { recursive: true });
  for (const name of ['prepare.sql', 'repair.sql', 'released.json']) cpSync(join('sql', name), join(path, name));
  let previous: string | null = null;
  for (const [index, body] of bodies.entries()) {
    const hash: string = calculateHash(body, previous);
    writeFileSync(
      join(path, 'committed', `00000${index + 1}-step.sql`),
      `--! Previous: ${previous ?? '-'}\n--! Hash: ${hash}\n\n${body.trim()}\n`,
    );
    previous = hash;
  }
  return { path, url: pathToFileURL(`${path}/`) };
}

const psql = (url: string, folder = 'sql') =>
  run('psql', [url, '-X', '-v', 'ON_ERROR_STOP=1', '-f', join(folder, 'install.psql')]);
const writePsql = (...args: string[]) => run(process.execPath, ['--import', 'tsx', 'scripts/install-psql.ts', ...args]);
const ledger = (sql: Sql) => sql`select filename, hash, previous_hash from collecta.migrations order by filename`;

/** The whole schema as text, as a dump would show it. */
async function describeSchema(sql: Sql): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    with namespace as (select * from pg_namespace where nspname = 'collecta'),
      relation as (select c.* from pg_class c join namespace n on n.oid = c.relnamespace)
    select concat_ws(' | ', 'schema', nspname, nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace')) as line
      from namespace
    union all
    select concat_ws(' | ', 'relation', relname, relkind, relowner::regrole, relacl, reloptions, relreplident,
      relrowsecurity,
      pg_get_expr(relpartbound, oid), obj_description(oid, 'pg_class')) from relation where relkind <> 'i'
    union all
    select concat_ws(' | ', 'column', relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
      attgenerated, attacl,
      pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
    from relation join pg_attribute a on attrelid = relation.oid
      left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attnum > 0 and not attisdropped
    union all
    select concat_ws(' | ', 'constraint', relname, conname, pg_get_constraintdef(c.oid),
      obj_description(c.oid, 'pg_constraint'))
    from relation join pg_constraint c on conrelid = relation.oid
    union all
    select concat_ws(' | ', 'index', pg_get_indexdef(oid)) from relation where relkind = 'i'
    union all
    select concat_ws(' | ', 'view', relname, pg_get_viewdef(oid)) from relation where relkind = 'v'
    union all
    select concat_ws(' | ', 'trigger', pg_get_triggerdef(t.oid))
      from relation join pg_trigger t on tgrelid = relation.oid where not tgisinternal
    union all
    select concat_ws(' | ', 'function', proowner::regrole, proacl, pg_get_functiondef(p.oid),
      obj_description(p.oid, 'pg_proc'))
    from pg_proc p join namespace n on n.oid = pronamespace where prokind in ('f', 'p')
    union all
    select concat_ws(' | ', 'default privileges', defaclrole::regrole, defaclobjtype, defaclacl)
      from pg_default_acl join namespace n on n.oid = defaclnamespace
    order by 1`;
  return rows.map(({ line }) => line);
}

function gate() {
  let open = () => {};
  const opened = new Promise<void>(done => {
    open = done;
  });
  return { open, opened };
}

const failure = (promise: Promise<unknown>): Promise<Error & { stderr?: string; code?: string }> =>
  promise.then(
    () => t.fail('it was not refused'),
    error => error,
  );

async function refusal(promise: Promise<unknown>): Promise<MigrationError> {
  const error = await failure(promise);
  if (!(error instanceof MigrationError)) throw error;
  return error;
}

t.test('migrate installs once, and a second run applies nothing', async t => {
  const { url, sql } = await database('empty');
  t.strictSame(await status(url), { state: 'not installed', pending: filenames });
  t.strictSame(await migrate(url), { applied: filenames, already: [] });
  const before = await describeSchema(sql);
  t.strictSame(await migrate(url), { applied: [], already: filenames });
  t.strictSame(await describeSchema(sql), before);
  t.strictSame(await status(url), { state: 'up to date', pending: [] });
  t.strictSame(
    [...(await ledger(sql))],
    installed.map(({ filename, hash, previousHash }) => ({ filename, hash, previous_hash: previousHash })),
  );
});

t.test('asking for the status does not read the contents of the migrations', async t => {
  // A fleet asks for the status of all its databases at once.
  const unreadable = t.testdir({ committed: { [filenames[0]!]: {} } });
  const { url } = await database();
  const folder = pathToFileURL(`${unreadable}/`);
  t.strictSame(await status(url, folder), { state: 'up to date', pending: [] });
  await t.rejects(readMigrations(folder), { code: 'EISDIR' });
});

t.test('simultaneous installs by CLI and psql apply every migration once', async t => {
  const { url, sql } = await database('empty');
  const runs = await Promise.all([migrate(url), migrate(url), migrate(url), psql(url), psql(url)]);
  const applied = runs.flatMap(each =>
    'applied' in each ? each.applied : [...each.stdout.matchAll(/^applying (.*)$/gm)].map(([, filename]) => filename),
  );
  t.strictSame(applied.sort(), filenames);
  t.strictSame(
    [...(await ledger(sql))].map(({ filename }) => filename),
    filenames,
  );
});

t.test('psql and CLI give the same schema and ledger, beside another graphile-migrate chain', async t => {
  const host = sqlFolder('create table public.host_table (id int primary key);');
  const [byCli, byPsql] = [await database('empty'), await database('empty')];
  const hostMigrate = (url: string) =>
    graphileMigrate({
      connectionString: url,
      rootConnectionString: server.url(),
      databaseOwner: 'postgres',
      migrationsFolder: host.path,
      logger: silent,
    });
  const silent = new (graphile('graphile-migrate').defaultLogger.constructor)(() => () => {});
  for (const { url } of [byCli, byPsql]) await hostMigrate(url);
  const hostLedger = await byCli.sql`select hash from graphile_migrate.migrations`;

  await migrate(byCli.url);
  await psql(byPsql.url);
  t.strictSame(await describeSchema(byPsql.sql), await describeSchema(byCli.sql));
  t.strictSame([...(await ledger(byPsql.sql))], [...(await ledger(byCli.sql))]);
  t.match(await migrate(byPsql.url), { applied: [], already: filenames });
  const { stdout, stderr } = await psql(byCli.url);
  t.notMatch(stdout, 'applying');
  t.equal(stderr, '');
  for (const { url, sql } of [byCli, byPsql]) {
    await hostMigrate(url);
    t.strictSame([...(await sql`select hash from graphile_migrate.migrations`)], [...hostLedger]);
  }
});

t.test('psql and CLI each continue an install that the other began', async t => {
  const steps = [
    'create table collecta.one (a int);',
    'alter table collecta.one add b text; create function collecta.two() returns int language sql return 2;',
  ];
  const first = sqlFolder(...steps.slice(0, 1));
  const both = sqlFolder(...steps);
  for (const { path } of [first, both]) await writePsql(path);
  const [psqlFirst, cliFirst] = [await database('empty'), await database('empty')];
  await psql(psqlFirst.url, first.path);
  t.strictSame(await status(psqlFirst.url, both.url), { state: 'pending', pending: ['000002-step.sql'] });
  t.strictSame(await migrate(psqlFirst.url, { folder: both.url }), {
    applied: ['000002-step.sql'],
    already: ['000001-step.sql'],
  });
  await migrate(cliFirst.url, { folder: first.url });
  t.match(
    (await psql(cliFirst.url, both.path)).stdout,
    /already installed: 000001-step.sql\s+applying 000002-step.sql/,
  );
  t.strictSame(await describeSchema(cliFirst.sql), await describeSchema(psqlFirst.sql));
  t.strictSame([...(await ledger(cliFirst.sql))], [...(await ledger(psqlFirst.sql))]);
  t.equal((await status(cliFirst.url, first.url)).state, 'up to date', 'an older runner goes on beside a newer schema');
});

t.test('a changed file, broken chain or missing header is refused before anything is applied', async t => {
  const { url, sql } = await database('empty');
  const change = (edit: (path: string) => void) => {
    const folder = sqlFolder('select 1;', 'select 2;', 'select 3;');
    edit(join(folder.path, 'committed'));
    return refusal(migrate(url, { folder: folder.url }));
  };
  const second = '000002-step.sql';
  t.match(
    await change(path => writeFileSync(join(path, second), `${readFileSync(join(path, second), 'utf8')}select 4;\n`)),
    {
      message: /000002-step.sql was changed/,
      hint: /Install the package again/,
    },
  );
  t.match(await change(path => rmSync(join(path, second))), { message: /000003-step.sql follows sha1:/ });
  t.match(await change(path => writeFileSync(join(path, second), 'select 2;\n')), {
    message: /000002-step.sql has no header/,
  });
  t.match(await change(path => (rmSync(path, { recursive: true }) as undefined) ?? mkdirSync(path)), {
    message: /no migration in/,
  });
  t.strictSame([...(await sql`select to_regnamespace('collecta') as schema`)], [{ schema: null }]);
});

t.test('a ledger that the files do not continue is refused by CLI and psql', async t => {
  const { url, sql } = await database('empty');
  const old = sqlFolder('select 1;', 'select 2;');
  const rewritten = sqlFolder('select 1;', 'select 22;');
  await writePsql(rewritten.path);
  await migrate(url, { folder: old.url });
  t.match(await refusal(migrate(url, { folder: rewritten.url })), {
    message: /000002-step.sql was installed from a commit that was never released/,
    hint: /uninstall/,
  });
  t.match(await failure(psql(url, rewritten.path)), { stderr: /000002-step.sql is not the file that was installed/ });
  const older = sqlFolder('select 1;');
  await writePsql(older.path);
  t.match(await refusal(migrate(url, { folder: older.url })), {
    message: /has 000002-step.sql, which this version does not know/,
    hint: /upgrade this package/,
  });
  t.match(await failure(psql(url, older.path)), { stderr: /has 000002-step.sql, which this version does not know/ });
  await sql`delete from collecta.migrations where filename = '000001-step.sql'`;
  t.match(await refusal(migrate(url, { folder: old.url })), {
    message: /has 000002-step.sql where this version has 000001-step.sql/,
    hint: /restore/,
  });
});

t.test('a failed migration leaves nothing behind, and the next run continues with it', async t => {
  const good = ['create table collecta.one ();', 'create table collecta.two ();'];
  const bad = sqlFolder(good[0] as string, `${good[1]} select 1 / 0;`);
  await writePsql(bad.path);
  const dumps = await Promise.all(
    [(url: string) => migrate(url, { folder: bad.url }), (url: string) => psql(url, bad.path)].map(async install => {
      const { url, sql } = await database('empty');
      t.match(await failure(install(url)), { message: /division by zero/ });
      t.strictSame([...(await sql`select filename from collecta.migrations`)], [{ filename: '000001-step.sql' }]);
      t.strictSame([...(await sql`select to_regclass('collecta.two') as two`)], [{ two: null }]);
      t.strictSame(await migrate(url, { folder: sqlFolder(...good).url }), {
        applied: ['000002-step.sql'],
        already: ['000001-step.sql'],
      });
      return describeSchema(sql);
    }),
  );
  t.strictSame(dumps[0], dumps[1]);
});

t.test('a migration does not queue for a held lock: writers pass, and it is applied later', async t => {
  const { url, sql } = await database('empty');
  await sql`create table public.busy (id int)`;
  const folder = sqlFolder('reset role; alter table public.busy add column more int;');
  const waits: string[] = [];
  const { open: release, opened: released } = gate();
  const holder = sql.begin(async tx => {
    await tx`insert into public.busy values (1)`;
    await released;
  });
  await sql`select 1`;
  const migration = migrate(url, {
    folder: folder.url,
    lockTimeoutMs: 50,
    onWait: async reason => {
      waits.push(reason);
      await sql`insert into public.busy values (2)`;
      release();
    },
  });
  t.strictSame(await migration, { applied: ['000001-step.sql'], already: [] });
  await holder;
  t.match(waits[0], 'a transaction holds a lock');
  t.equal((await sql`select from public.busy`).length, waits.length + 1);
  await sql`alter table public.busy drop column more`;
  const again = sqlFolder(
    'reset role; alter table public.busy add column more int;',
    'reset role; alter table public.busy add column most int;',
  );
  await sql.begin(async tx => {
    await tx`lock table public.busy in access share mode`;
    await t.rejects(migrate(url, { folder: again.url, lockTimeoutMs: 20, lockAttempts: 1 }), { code: '55P03' });
  });
});

t.test('an installer without superuser can install with CREATE on the database', async t => {
  const { name, sql } = await database('empty');
  await admin.unsafe(`create role ${name}_installer login password 'x'`);
  await admin.unsafe(`grant create on database ${name} to ${name}_installer`);
  const notices: string[] = [];
  const url = server.url(name).replace('postgres:postgres', `${name}_installer:x`);
  t.strictSame(await migrate(url, { onNotice: ({ message }) => notices.push(message) }), {
    applied: filenames,
    already: [],
  });
  t.strictSame(
    [...(await sql`select nspowner::regrole::text as owner from pg_namespace where nspname = 'collecta'`)],
    [{ owner: `${name}_installer` }],
  );
  for (const notice of notices) t.match(notice, /^collecta/);
});

t.test('sql/install.psql lists all of sql/committed, and a check notices when it does not', async t => {
  await writePsql('--check');
  const folder = sqlFolder('select 1;');
  await writePsql(folder.path);
  await writePsql('--check', folder.path);
  cpSync(sqlFolder('select 1;', 'select 2;').path, folder.path, { recursive: true });
  t.match(await failure(writePsql('--check', folder.path)), { stderr: /stale/ });
});

t.test('every definition in sql/fixtures is committed, or is in the migration being written', async t => {
  const current = readdirSync('sql/current')
    .map(name => readFileSync(join('sql/current', name), 'utf8'))
    .join('\n')
    .trim();
  const included = /^--! Included (\S+)\n([\s\S]*?)\n--! EndIncluded \1$/gm;
  const committed = [...installed].reverse();
  const sourceOfLast = committed[0]?.body.replace(included, '--!include $1').trim();
  const fixtures = (readdirSync('sql/fixtures', { recursive: true }) as string[]).filter(name => name.endsWith('.sql'));
  t.ok(fixtures.length > 0);
  for (const name of fixtures) {
    if (current !== sourceOfLast && current.includes(`--!include ${name}`)) continue;
    const text = readFileSync(join('sql/fixtures', name), 'utf8');
    const [newest] = committed.filter(({ body }) => body.includes(`--! Included ${name}\n`));
    // An object that can be made only once is altered by a later migration, which does not include it again.
    if (newest !== committed[0] && isMadeOnce(text)) continue;
    const found = [...(newest?.body ?? '').matchAll(included)].find(([, each]) => each === name);
    const hash = (text: string) => createHash('sha1').update(text.trim()).digest('hex');
    t.equal(
      hash(found?.[2] ?? 'in no migration'),
      hash(text),
      `${name}: include it in sql/current, then npm run sql:recommit`,
    );
  }
});

t.test('a runner waits for the database and for the install, and logs it', async t => {
  const lines: string[] = [];
  const log = createLog('info', line => lines.push(line));
  const controller = new AbortController();
  const unreachable = `postgres://postgres:sekret@127.0.0.1:${await freePort()}/nowhere`;
  const waiting = waitUntilInstalled(unreachable, log, controller.signal);
  while (lines.length === 0) await new Promise(done => setTimeout(done, 10));
  controller.abort();
  await waiting;
  t.match(JSON.parse(lines[0] ?? ''), {
    level: 'warn',
    event: 'waiting for the database',
    reason: /ECONNREFUSED/,
    retry_in_ms: 500,
  });
  t.notMatch(lines.join(), /sekret|\.ts:/);

  const { url } = await database('empty');
  lines.length = 0;
  const installing = waitUntilInstalled(url, log, new AbortController().signal);
  while (lines.length === 0) await new Promise(done => setTimeout(done, 10));
  t.match(JSON.parse(lines[0] ?? ''), {
    event: 'waiting for the install',
    state: 'not installed',
    hint: /collecta-webhooks migrate/,
  });
  await migrate(url);
  await installing;
});

t.test('uninstall lists what it would remove, then removes it and leaves the tables', async t => {
  const { url, sql } = await database('empty');
  const lines: string[] = [];
  const say = (line: string) => lines.push(line);
  t.equal(await uninstallCommand(url, true, say), 0);
  t.match(lines, ['collecta is not installed in this database']);
  await migrate(url);
  await sql.unsafe(`
    create function collecta.test_default() returns text language sql return 'x';
    create function collecta.test_capture() returns trigger language plpgsql as 'begin return null; end';
    create table public.orders (id text primary key default collecta.test_default(), n int);
    create trigger capture after insert on public.orders for each statement execute function collecta.test_capture();
    create view public.report as select filename from collecta.migrations;
    insert into public.orders (n) values (1)`);

  lines.length = 0;
  t.equal(await uninstallCommand(url, false, say), 1);
  const text = lines.join('\n');
  t.match(text, /detach collecta from:\n {2}public.orders\n/);
  t.match(text, /default value for column id of table public.orders/);
  t.match(text, /view public.report/);
  t.notMatch(text, /(table|function|index|constraint) collecta\./);
  t.match(text, /uninstall --yes/);
  t.match(await planUninstall(sql), { captures: [{ procedure: 'collecta.test_capture()' }] }, 'nothing was dropped');

  // A writer locks the table for a moment; uninstall succeeds afterwards.
  const { open: release, opened: released } = gate();
  const writer = sql.begin(async tx => {
    await tx`insert into public.orders values ('y', 2)`;
    await released;
  });
  setTimeout(release, 300);
  lines.length = 0;
  t.equal(await uninstallCommand(url, true, say), 0);
  await writer;
  t.match(lines[0], /^detached public.orders/);
  t.ok(lines.includes('dropped the schema collecta'));
  t.strictSame(
    [...(await sql`select id, n from public.orders order by n`)],
    [
      { id: 'x', n: 1 },
      { id: 'y', n: 2 },
    ],
  );
  t.strictSame(
    [
      ...(await sql`select to_regnamespace('collecta') as schema, (select count(*)::int from pg_trigger
        where not tgisinternal) as triggers`),
    ],
    [{ schema: null, triggers: 0 }],
  );
  t.equal((await migrate(url)).applied.length, filenames.length, 'and it can be installed again');
});

t.test('uninstall keeps roles that another database of the cluster uses', async t => {
  const { url } = await database('empty');
  await migrate(url);
  const other = await database('empty');
  const sql = connect(other.url);
  await admin`select 1`;
  const [role] = await sql<{ rolname: string }[]>`select rolname from pg_roles where rolname = 'collecta_reader'`;
  if (!role) await admin.unsafe('create role collecta_reader');
  await other.sql.unsafe('create table public.kept (); grant select on public.kept to collecta_reader');
  const lines: string[] = [];
  t.equal(await uninstallCommand(url, true, line => lines.push(line)), 0);
  t.match(
    lines.find(line => line.includes('collecta_reader')),
    /^kept the role collecta_reader/,
  );
  t.equal((await sql`select from pg_roles where rolname = 'collecta_reader'`).length, 1);
});

t.test('uninstalling the last install of a cluster leaves nothing behind', async t => {
  const alone = await useServer();
  const { url, sql } = await alone.database('empty');
  await migrate(url);
  await sql.unsafe(`
    create table public.orders (id int primary key, status text);
    select collecta.attach_module('public.orders', 'orders', status_column => 'status');
    select collecta.create_endpoint('https://example.com/', '{record_created,record_updated,record_deleted}');
    insert into public.orders values (1, 'open')`);
  t.equal((await sql`select from collecta.outbox`).length, 1);
  t.equal(await uninstallCommand(url, true, () => {}), 0);
  t.strictSame([...(await sql`select rolname from pg_roles where rolname like 'collecta%'`)], []);
  t.strictSame(
    [
      ...(await sql`select to_regnamespace('collecta') as schema, (select count(*)::int from pg_trigger
        where not tgisinternal) as triggers`),
    ],
    [{ schema: null, triggers: 0 }],
  );
  await sql`update public.orders set status = 'done'`;
});
