import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { useServer } from '../support/database.ts';

// The folders of sql/fixtures say who may call a function. In each topic, the files at the top are the public API, the
// tables and the views; runner/ holds what a runner's login may execute; internal/ holds what only our own functions
// call. The grants must agree.
const { database } = await useServer();

const files = (readdirSync('sql/fixtures', { recursive: true }) as string[]).filter(name => name.endsWith('.sql'));
type Folder = 'top' | 'runner' | 'internal';
const folderOf = (file: string): Folder =>
  /\/runner\//.test(file) ? 'runner' : /\/internal\//.test(file) ? 'internal' : 'top';

const homes = new Map<string, { file: string; folder: Folder }>();
for (const file of files)
  for (const [, name] of readFileSync(join('sql/fixtures', file), 'utf8').matchAll(
    /^create (?:or replace )?(?:function|procedure|aggregate) collecta\.(\w+)/gm,
  ))
    homes.set(name as string, { file, folder: folderOf(file) });

t.test('the folder of a function’s file says who may call it', async t => {
  const { sql } = await database();
  const functions = await sql<{ name: string; grantees: string[] }[]>`
    select p.proname as name,
      array(select distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end
            from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
            where a.grantee <> p.proowner order by 1) as grantees
    from pg_proc p where p.pronamespace = 'collecta'::regnamespace order by 1`;
  t.ok(functions.length > 50);
  // The SQL generated for a module or an endpoint runs as these two roles, so they may execute the functions that it
  // calls.
  const writes = (role: string) => /^collecta_(capture|writer|viewer)$/.test(role);
  const runs = (role: string) => role === 'collecta_dispatcher' || role === 'collecta_inbound';
  // A process that only serves the console shows the same figures as a runner, so it may call these.
  const readsToo = (name: string, role: string) => name === 'read_figures' && role === 'collecta_reader';
  for (const { name, grantees } of functions) {
    const { file, folder } = homes.get(name) ?? {};
    // These two are not created from a file in sql/fixtures: role_name.sql and sql/repair.sql create them with a value
    // in them.
    if (name === 'role_prefix' || name === 'installed_migrations') {
      t.strictSame(grantees, [], name);
      continue;
    }
    t.ok(file, `${name} is in sql/fixtures`);
    const others = grantees.filter(role => !writes(role));
    const main = file?.endsWith(`/${name}.sql`);
    if (folder === 'internal') t.strictSame(others, [], `${file}: nobody may execute ${name}`);
    if (folder === 'runner') {
      t.ok(
        others.every(role => runs(role) || readsToo(name, role)),
        `${file}: at most runners may execute ${name}, found ${others}`,
      );
      if (main) t.ok(others.length > 0, `${file}: runners may execute it`);
    }
    if (folder === 'top') t.notOk(others.some(runs), `${file}: no runner executes ${name}, found ${others}`);
  }
});

t.test('files on top of a topic are public: tables, views, and functions that the README documents', t => {
  const readme = readFileSync('README.md', 'utf8');
  for (const [name, { file, folder }] of homes)
    if (folder === 'top' && file.endsWith(`/${name}.sql`))
      t.ok(new RegExp(`\\b${name}\\b`).test(readme), `${file}: README names ${name}`);
  for (const file of files) {
    const text = readFileSync(join('sql/fixtures', file), 'utf8');
    if (/^create (table|(materialized )?view)/m.test(text))
      t.equal(folderOf(file), 'top', `${file} holds a table or view`);
  }
  t.end();
});
