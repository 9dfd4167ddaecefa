import { readFileSync } from 'node:fs';
import t from 'tap';
import { page, path, readPrivileges } from '../../scripts/privileges.ts';
import { useServer } from '../support/database.ts';

const { database } = await useServer();

t.test('docs/privileges.md matches the catalog of a fresh install', async t => {
  const { sql } = await database();
  const privileges = await readPrivileges(sql);
  t.equal(readFileSync(path, 'utf8'), page(privileges), 'otherwise: npm run privileges');

  const rowOf = (name: string) => privileges.rows.find(row => row.name === name);
  t.strictSame(rowOf('collecta.endpoint_secrets')?.granted, [], 'nobody but the owner reads secrets');
  t.strictSame(rowOf('collecta.outbox')?.granted, [{ role: 'collecta_capture', privilege: 'INSERT' }]);
  t.strictSame(rowOf('collecta.claim_deliveries')?.granted, [{ role: 'collecta_dispatcher', privilege: 'EXECUTE' }]);

  const partitions = await sql`
    select c.oid::regclass::text as name, array_remove(array_agg(a.grantee <> c.relowner), false) as others
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
    where c.relnamespace = 'collecta'::regnamespace and c.relispartition and c.relkind in ('r', 'p')
    group by c.oid`;
  t.ok(partitions.length > 0);
  t.strictSame(
    partitions.filter(({ others }) => others.length > 0),
    [],
    'partitions, which the page leaves out, are their owner’s alone',
  );
});

t.test('granting or revoking a privilege changes the generated page', async t => {
  const { sql } = await database();
  const before = page(await readPrivileges(sql)).split('\n');
  const changed = async (statement: string) => {
    const other = await database();
    await other.sql.unsafe(statement);
    return page(await readPrivileges(other.sql))
      .split('\n')
      .filter(line => !before.includes(line));
  };
  t.match(await changed('grant select on collecta.inbound_secrets to collecta_inbound'), [
    /^\| `inbound_secrets` \| owner \| {2}\| {2}\| {2}\| SELECT \|/,
  ]);
  t.match(await changed('grant select (url) on collecta.endpoints to collecta_operator with grant option'), [
    /^\| `endpoints.url` \| owner \| {2}\| SELECT with grant option \|/,
  ]);
  t.match(await changed('revoke execute on function collecta.observe() from collecta_dispatcher'), [
    /^ {2}`observe`,$/,
  ]);
  await t.rejects(
    changed('grant execute on function collecta.new_secret() to public'),
    /PUBLIC/,
    'nothing is written for PUBLIC',
  );
});
