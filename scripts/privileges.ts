// npm run privileges   installs collecta in a new cluster and writes docs/privileges.md from its catalog: who owns each
// object, and what else each role may do with it. test/install/privileges.test.ts compares the page with the catalog.
import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import postgres from 'postgres';
import { migrate } from '../src/install/migrate.ts';
import { startServer } from '../test/support/server.ts';

export const path = 'docs/privileges.md';

/** The columns of the page. An owner may do everything with what it owns, which the column Owner shows. */
const roles = ['reader', 'operator', 'dispatcher', 'inbound', 'capture', 'writer', 'viewer'];

/** One module and one inbound endpoint, because the page shows the functions that are generated for one of each. */
const sample = `
  create table public.privileges_sample (id int primary key, name text);
  select collecta.attach_module('public.privileges_sample', 'privileges-sample');
  select collecta.create_endpoint('https://example.com/', '{record_created,record_updated,record_deleted}');
  select collecta.create_inbound_endpoint('privileges-sample', '{"id": {"path": "$.id"}, "$.name": "name"}', '{id}')`;

// An ACL that is null means PostgreSQL's defaults, which acldefault() returns. They let everybody execute a function.
// Partitions are left out, because their names contain dates.
const catalog = `
  with schema as (
    select oid, nspname::text as name, nspowner as owner, nspacl as acl from pg_catalog.pg_namespace
    where nspname in ('collecta', 'collecta_modules', 'collecta_rows')
  ), relation as (
    select c.oid, schema.name || '.' || c.relname as name, c.relkind::text as kind, c.relowner as owner,
      coalesce(c.relacl, acldefault((case c.relkind when 'S' then 's' else 'r' end)::"char", c.relowner)) as acl
    from pg_catalog.pg_class c join schema on schema.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and not c.relispartition
  ), object as (
    select 'schema' as kind, name, owner, coalesce(acl, acldefault('n', owner)) as acl from schema
    union all
    select case kind when 'v' then 'view' when 'm' then 'view' when 'S' then 'sequence' else 'table' end, name, owner,
      acl
    from relation
    union all
    select 'column', relation.name || '.' || a.attname, relation.owner, a.attacl
    from relation join pg_catalog.pg_attribute a on a.attrelid = relation.oid
    where a.attacl is not null and not a.attisdropped
    union all
    select 'function', schema.name || '.' || p.proname || case
        when pg_catalog.count(*) over (partition by p.pronamespace, p.proname) = 1 then ''
        else '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')' end,
      p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_catalog.pg_proc p join schema on schema.oid = p.pronamespace
  )
  select object.kind, object.name, pg_catalog.pg_get_userbyid(object.owner)::text as owner,
    coalesce(granted.list, '[]') as granted
  from object
  cross join lateral (
    select pg_catalog.json_agg(pg_catalog.json_build_object(
        'role', case a.grantee when 0 then 'PUBLIC' else pg_catalog.pg_get_userbyid(a.grantee)::text end,
        'privilege', a.privilege_type || case when a.is_grantable then ' with grant option' else '' end)
      order by a.privilege_type collate "C") as list
    from pg_catalog.aclexplode(object.acl) a where a.grantee <> object.owner
  ) granted
  order by object.kind collate "C", object.name collate "C"`;

const members = `
  select r.rolname::text as role, r.rolcanlogin as login,
    r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolbypassrls or r.rolreplication as special,
    coalesce((select pg_catalog.string_agg(of.rolname, ' ' order by of.rolname) from pg_catalog.pg_auth_members m
      join pg_catalog.pg_roles of on of.oid = m.roleid where m.member = r.oid), '') as member_of
  from pg_catalog.pg_roles r where r.rolname like 'collecta\\_%' order by r.rolname collate "C"`;

export type Row = {
  kind: 'schema' | 'table' | 'view' | 'sequence' | 'column' | 'function';
  name: string;
  owner: string;
  granted: { role: string; privilege: string }[];
};
type Role = { role: string; login: boolean; special: boolean; member_of: string };

/** Creates the sample module and inbound endpoint, and reads the catalog of the database. */
export async function readPrivileges(sql: postgres.Sql): Promise<{ rows: Row[]; roles: Role[] }> {
  await sql.unsafe(sample);
  return { rows: [...(await sql.unsafe<Row[]>(catalog))], roles: [...(await sql.unsafe<Role[]>(members))] };
}

const withoutPrefix = (name: string) => name.replace(/^collecta[._]/, '');
const yes = (value: boolean) => (value ? 'yes' : 'no');

function table(rows: Row[]): string {
  const lines = rows.map(({ name, owner, granted }) => {
    const of = (role: string) => granted.filter(each => each.role === role).map(each => each.privilege);
    const unexpected = granted.filter(({ role }) => !roles.includes(withoutPrefix(role)));
    if (unexpected.length > 0) throw new Error(`${name}: ${JSON.stringify(unexpected)} has no column on the page`);
    const cells = roles.map(role => of(`collecta_${role}`).join(', '));
    return `| \`${name.replace(/^collecta\./, '')}\` | ${withoutPrefix(owner)} | ${cells.join(' | ')} |`;
  });
  return `| Object | Owner | ${roles.join(' | ')} |\n|---|---|${'---|'.repeat(roles.length)}\n${lines.join('\n')}\n`;
}

/** The page as Markdown. */
export function page({ rows, roles: databaseRoles }: { rows: Row[]; roles: Role[] }): string {
  const of = (...kinds: Row['kind'][]) => table(rows.filter(({ kind }) => kinds.includes(kind)));
  const functions = rows.filter(({ kind }) => kind === 'function');
  const owners = [...new Set(functions.map(({ owner }) => owner))].sort();
  // Each function has its own line, so that two branches that each add one merge without a conflict.
  const ownersOnly = owners.map(owner => {
    const names = functions
      .filter(each => each.owner === owner && each.granted.length === 0)
      .map(({ name }) => `\`${name.replace(/^collecta\./, '')}\``);
    return `- \`${owner}\`:\n  ${names.join(',\n  ')}`;
  });
  const roleRows = databaseRoles.map(
    ({ role, login, special, member_of }) => `| \`${role}\` | ${yes(login)} | ${yes(special)} | ${member_of} |`,
  );
  return `# Privileges

\`npm run privileges\` writes this page from the catalog of a fresh install, and
[a test](../test/install/privileges.test.ts) compares the two. Do not edit it. [security.md](security.md) says what the
roles are for.

- The head of a column is a role's name without \`collecta_\`. An empty cell means that the role has no privilege.
- An owner may do everything with what it owns. Superusers may do everything. No object has a privilege for PUBLIC.
- Objects without a schema are in \`collecta\`.
- Functions with a number in their name are generated for a module or an inbound endpoint. The page shows those of one
  module and one inbound endpoint.
- A function that only its owner may execute is called by a trigger, or by another function of the same owner.
- Partitions are not listed, because only their owner has privileges on them.

## Roles

| Role | Can log in | Superuser, or may create roles or databases, replicate, or bypass row security | Member of |
|---|---|---|---|
${roleRows.join('\n')}

## Schemas

${of('schema')}
## Tables and single columns

${of('table', 'column')}
## Views

${of('view')}
## Sequences

${of('sequence')}
## Functions that a role may execute

${table(functions.filter(({ granted }) => granted.length > 0))}
## Functions that only their owner may execute

${ownersOnly.join('\n')}
`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const server = await startServer();
  const sql = postgres(server.url(), { max: 1, onnotice: () => {} });
  try {
    await migrate(server.url());
    writeFileSync(path, page(await readPrivileges(sql)));
  } finally {
    await sql.end({ timeout: 1 });
    await server.stop();
  }
}
