import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { type Sql, useServer } from '../support/database.ts';

// Dumps are made and restored by Debian's programs, which cannot dump a newer server. So the source is Debian's server,
// or the older one that npm run test:matrix chose. The targets are a cluster of the same version and one of the newest
// version.
const chosen = process.env.TEST_POSTGRES_PACKAGE ?? process.env.TEST_SERVER;
const likeSource = () => useServer([], undefined, chosen ? process.env.TEST_SERVER : 'debian15');
const source = await likeSource();

const scratch = mkdtempSync(join(tmpdir(), 'collecta-restore-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));
writeFileSync(
  join(scratch, 'collecta-webhooks'),
  `#!/bin/sh
exec ${process.execPath} --import ${resolve('node_modules/tsx/dist/esm/index.mjs')} ${resolve('src/cli.ts')} "$@"
`,
);
chmodSync(join(scratch, 'collecta-webhooks'), 0o755);

/** Runs shell commands from the documentation and resolves to their output. */
const shell = (script: string, env: Record<string, string> = {}) =>
  new Promise<{ status: number; text: string }>(done =>
    execFile(
      'bash',
      ['-c', script],
      { cwd: scratch, env: { PATH: `${scratch}:${process.env.PATH}`, ...env } },
      (error, out, err) => done({ status: error ? Number(error.code) : 0, text: out + err }),
    ),
  );
const section = (title: string) =>
  readFileSync('docs/operations.md', 'utf8')
    .split(/^#+ /m)
    .find(part => part.startsWith(title)) ?? '';
const recipes = (title: string) =>
  [...section(title).matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, code]) => code as string);

const health = async (sql: Sql) =>
  (await sql`select problem from collecta.health where severity <> 'warning' order by 1`).map(
    ({ problem }) => problem as string,
  );

/** The functions that run with their owner's rights and that everybody may execute. */
const open = async (sql: Sql) =>
  (
    await sql`select p.oid::regprocedure::text as name
      from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
      where p.pronamespace::regnamespace::text like 'collecta%' and p.prosecdef and a.grantee = 0`
  ).map(({ name }) => name as string);

async function original() {
  const database = await source.database('empty');
  await migrate(database.url);
  await database.sql.unsafe(`
    create table work_orders (id int primary key, status text, secret text);
    select collecta.attach_module('work_orders', 'work-orders', status_column => 'status',
      exclude_columns => '{secret}');
    select collecta.create_endpoint('https://example.com/', '{record_created,record_updated,record_deleted}');
    select collecta.create_inbound_endpoint('work-orders', '{"id": {"path": "$.id"}, "$.status": "status"}', '{id}');
    insert into work_orders values (1, 'open', 'psst')`);
  return database;
}

const from = await original();

/** New servers that have none of our roles. */
const targets = {
  'a cluster of the same version': likeSource,
  ...(!chosen && { 'a cluster of the newest version': () => useServer() }),
};

for (const [where, start] of Object.entries(targets)) {
  const target = await start();

  const dumps = {
    'pg_restore of a custom dump': 'pg_dump -Fc -f a.dump "$SOURCE_URL"; pg_restore -d "$TARGET_URL" a.dump',
    'pg_restore without owners and privileges':
      'pg_dump -Fc -f a.dump "$SOURCE_URL"; pg_restore --no-owner --no-privileges -d "$TARGET_URL" a.dump',
    'pg_restore in parallel':
      'pg_dump -Fd -f parallel "$SOURCE_URL"; pg_restore -j 2 -d "$TARGET_URL" parallel; rm -r parallel',
    'psql of a plain dump': 'pg_dump -f a.sql "$SOURCE_URL"; psql -X -q "$TARGET_URL" -f a.sql',
  };
  for (const [how, dump] of Object.entries(dumps))
    t.test(`${where}, without the roles: ${how} is repaired by migrate`, async t => {
      const copy = await target.database('empty');
      for (const { rolname } of await target.admin`select rolname from pg_roles where rolname like 'collecta%'`)
        t.fail(`${rolname} is there already`);
      await shell(dump, { SOURCE_URL: from.url, TARGET_URL: copy.url });
      t.strictSame(await open(copy.sql), [], 'no definer function is open to everybody');
      const before = await health(copy.sql);
      for (const problem of ['database is a copy', 'objects have the wrong owner'])
        t.ok(before.includes(problem), `health says: ${problem}`);
      await t.rejects(copy.sql`select collecta.check_installation(null)`, { code: 'CW040' });

      await migrate(copy.url);
      // Grants that a table's owner had made to the missing roles can only be made again by the owner. The hint does
      // it.
      const lost = 'truncate is captured as one';
      t.strictSame(
        (await health(copy.sql)).filter(problem => problem !== lost),
        ['database is a copy'],
        'migrate mends the rest',
      );
      t.strictSame([...(await copy.sql`select * from collecta.differing_grants()`)], []);
      await copy.sql`select collecta.resume_after_restore()`;
      for (const { hint } of await copy.sql`select hint from collecta.health where problem = ${lost}`)
        await copy.sql.unsafe(hint);
      t.strictSame(await health(copy.sql), []);
      await copy.sql`insert into work_orders values (2, 'open', 'psst')`;
      const changes = await copy.sql`select new::text from collecta.outbox order by change_id`;
      t.notMatch(JSON.stringify(changes), 'psst', 'what is excluded stays excluded');
      await copy.sql`drop table work_orders cascade`;
      await copy.sql`drop schema collecta cascade`;
      await copy.sql`drop schema if exists collecta_modules cascade`;
      for (const { rolname } of await target.admin`select rolname from pg_roles where rolname like 'collecta%'`)
        await copy.sql.unsafe(`drop owned by ${rolname}; drop role ${rolname}`);
    });

  t.test(`${where}: the recipes in docs/operations.md work`, async t => {
    const [never] = recipes('After a restore');
    const [whole, lean, schema, tables] = recipes('Dump and restore');
    const play = async (recipe: string | undefined, prepare = (_: string) => Promise.resolve()) => {
      const copy = await target.database('empty');
      await prepare(copy.url);
      const { text } = await shell(`${recipe}`, { SOURCE_URL: from.url, TARGET_URL: copy.url });
      return { ...copy, text };
    };
    const captured = async (sql: Sql) => {
      await sql`insert into work_orders values (${Math.floor(Math.random() * 1e9)}, 'new', 'psst')`;
      return (await sql`select from collecta.outbox where new::text like '%"new"%'`).length;
    };

    const complete = await play(whole);
    t.strictSame(await health(complete.sql), ['database is a copy'], complete.text);
    await t.rejects(complete.sql`select collecta.check_installation(null)`, { code: 'CW040' });
    t.match(await shell(never ?? '', { TARGET_URL: complete.url }), { status: 0 });
    t.strictSame(await health(complete.sql), ['this copy does not deliver']);
    await t.rejects(complete.sql`select collecta.check_installation(null)`, { code: 'CW040' });
    t.equal(await captured(complete.sql), 0, 'a copy that never delivers captures nothing');
    await complete.sql`select collecta.create_endpoint('https://example.com/more', '{record_created}')`;
    t.equal(await captured(complete.sql), 0, 'not for a new endpoint either');
    await complete.sql`select collecta.resume_after_restore()`;
    t.equal(await captured(complete.sql), 1, 'until it is resumed');
    const [received] = await complete.sql`
      select r.status, r.reason from collecta.inbound_endpoints e
      cross join collecta.receive_inbound(e.inbound_endpoint_id, '{"id": 7, "status": "received"}', final => true) r`;
    t.match(received, { status: 202 }, 'and so is inbound, although the table has another oid');
    await t.rejects(complete.sql`select collecta.disable_copy()`, { code: 'CW042' }, 'it is a copy no more');
    await complete.sql`select collecta.disable_copy(physical_copy => true)`;

    const slim = await play(lean);
    t.strictSame(await health(slim.sql), ['this copy does not deliver'], slim.text);
    for (const table of ['outbox', 'events', 'delivery_attempts', 'endpoint_secrets', 'inbound_secrets'])
      t.equal((await slim.sql.unsafe(`select from collecta.${table}`)).length, 0, `no row of ${table}`);
    t.equal((await slim.sql`select from collecta.endpoints`).length, 1);
    t.equal(await captured(slim.sql), 0);

    const structure = await play(schema);
    t.strictSame(await health(structure.sql), [], structure.text);
    await structure.sql`insert into work_orders values (1, 'new', 'psst')`;
    t.equal((await structure.sql`select from collecta.outbox`).length, 0);
    await structure.sql`select collecta.attach_module('work_orders', 'orders')`;
    await structure.sql`select collecta.create_endpoint('https://example.com/', '{record_created}')`;
    t.equal(await captured(structure.sql), 1, 'and works as a fresh install does');
    const fresh = await target.database('empty');
    await migrate(fresh.url);
    const shipped = await fresh.sql<{ name: string; count: string }[]>`
      select c.oid::regclass::text as name,
        (xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %s', c.oid::regclass), false, true,
        '')))[1]::text as count
      from pg_class c where c.relnamespace = 'collecta'::regnamespace and c.relkind = 'r'`;
    for (const { name, count } of shipped.filter(each => each.count !== '0'))
      t.ok(
        (await structure.sql.unsafe(`select from ${name}`)).length >= Number(count),
        `the rows of ${name} are there`,
      );

    const partial = await play(tables, url => migrate(url).then(() => {}));
    t.strictSame(await health(partial.sql), [], partial.text);
    t.equal((await partial.sql`select from work_orders`).length, 1);
    await partial.sql`select collecta.create_endpoint('https://example.com/', '{record_created}')`;
    t.equal(await captured(partial.sql), 1);
  });

  t.test(`${where}: a schema-only copy is recognized before migrate, and captures nothing`, async t => {
    const copy = await target.database('empty');
    await shell('pg_dump -s -f s.sql "$SOURCE_URL"; psql -X -q "$TARGET_URL" -f s.sql', {
      SOURCE_URL: from.url,
      TARGET_URL: copy.url,
    });
    t.ok((await health(copy.sql)).includes('rows are missing'));
    await t.rejects(copy.sql`select collecta.check_installation(null)`, { code: 'CW040' });
    await t.rejects(copy.sql`select collecta.resume_after_restore()`, { code: 'CW040' });
    await copy.sql`insert into work_orders values (1, 'new', 'psst')`;
    await migrate(copy.url);
    t.strictSame(await health(copy.sql), []);
    t.equal((await copy.sql`select from collecta.outbox`).length, 0);
  });
}
