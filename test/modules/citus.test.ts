import t from 'tap';
import { refuses, route, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';

const { database, admin } = await useServer();

/**
 * Citus's catalogs in a server without Citus; its functions return what the catalogs hold. There are two nodes beside
 * the coordinator, and this server plays the node of the group `here`.
 */
async function standInCatalogs(sql: Sql, here: number): Promise<void> {
  await sql.begin(async tx => {
    await tx.unsafe(`
      set local allow_system_table_mods = on;
      create table pg_catalog.pg_dist_partition (logicalrelid regclass primary key, partmethod "char", partkey text,
        colocationid int, repmodel "char", autoconverted boolean);
      create table pg_catalog.pg_dist_shard (logicalrelid regclass, shardid bigint primary key, shardstorage "char",
        shardminvalue text, shardmaxvalue text);
      create table pg_catalog.pg_dist_placement (placementid bigserial primary key, shardid bigint, shardstate int,
        shardlength bigint, groupid int);
      create table pg_catalog.pg_dist_node (nodeid int primary key, groupid int, nodename text, nodeport int,
        noderole text, isactive boolean, shouldhaveshards boolean);
      create table pg_catalog.pg_dist_local_group (groupid int);
      grant select on pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement,
        pg_catalog.pg_dist_node, pg_catalog.pg_dist_local_group to public;
      insert into pg_catalog.pg_dist_node values (1, 0, 'coordinator', 5432, 'primary', true, false),
        (2, 1, 'worker-1', 5432, 'primary', true, true), (3, 2, 'worker-2', 5432, 'primary', true, true);
      insert into pg_catalog.pg_dist_local_group values (${here});`);
  });
}

const columns = '(id bigint primary key, customer bigint, status text, note text)';

/** Distributes an existing table. Each shard is [its number, its group]; the shards of this group are created. */
async function distribute(sql: Sql, name: string, shards: [id: number, group: number][], here: number): Promise<void> {
  await sql`insert into pg_catalog.pg_dist_partition values (${name}::text::regclass, 'h', 'x', 1, 's', false)`;
  for (const [id, group] of shards) {
    await sql`insert into pg_catalog.pg_dist_shard values (${name}::text::regclass, ${id}, 't', '0', '1')`;
    await sql`insert into pg_catalog.pg_dist_placement (shardid, shardstate, shardlength, groupid)
      values (${id}, 1, 0, ${group})`;
    if (group === here) await sql.unsafe(`create table ${name}_${id} (like ${name} including all)`);
  }
}

const triggersOf = async (sql: Sql, name: string) => {
  const rows =
    await sql`select tgname from pg_trigger where tgrelid = ${name}::text::regclass and tgname like 'collecta%'`;
  return rows.length;
};
const health = async (sql: Sql) =>
  (await sql`select severity, problem, subject, hint from collecta.health`) as {
    problem: string;
    subject: string;
    hint: string;
    severity: string;
  }[];
const about = (rows: { problem: string; subject: string }[], subject: string) =>
  rows.filter(row => row.subject === subject).map(row => row.problem);

t.test('on a coordinator a distributed table is refused, and the hint says where to attach it', async t => {
  const { sql } = await database();
  await standInCatalogs(sql, 0);
  await sql.unsafe(`create table orders ${columns}`);
  await distribute(
    sql,
    'orders',
    [
      [102008, 1],
      [102009, 2],
    ],
    0,
  );
  const error = await refuses(t, sql`select collecta.attach_module('orders', 'orders')`, 'CW002', 'attach_module');
  t.match(error?.detail, /worker-1:5432, worker-2:5432/);
  t.match(error?.hint, /collecta\.attach_shards\('public\.orders', 'orders'\)/);
  await refuses(
    t,
    sql`select collecta.attach_shards('orders', 'orders')`,
    'CW002',
    'attach_shards without shards here',
  );
  await sql.unsafe(`create table plain ${columns}`);
  await refuses(t, sql`select collecta.attach_shards('plain', 'plain')`, 'CW002', 'attach_shards of an ordinary table');
  await sql`select collecta.attach_module('plain', 'plain')`;
  t.same(about(await health(sql), 'plain'), []);

  // For a module whose table was distributed after it was attached, health has an error.
  await distribute(sql, 'plain', [[102020, 1]], 0);
  t.same(about(await health(sql), 'plain'), ['no shard is on this node']);
});

t.test('on a worker the shards are one module, and maintain attaches shards that were moved there', async t => {
  const { sql } = await database();
  await standInCatalogs(sql, 1);
  await sql.unsafe(`create table orders ${columns}`);
  await distribute(
    sql,
    'orders',
    [
      [102008, 1],
      [102009, 2],
      [102010, 1],
    ],
    1,
  );
  await refuses(t, sql`select collecta.attach_module('orders', 'orders')`, 'CW002', 'attach_module on a worker');
  const [made] = await sql`select collecta.attach_shards('orders', 'orders', status_column => 'status') as shards`;
  t.equal(made!.shards, 2);
  t.equal(await triggersOf(sql, 'orders_102008'), 4);
  t.equal(await triggersOf(sql, 'orders_102010'), 4);
  t.equal(await triggersOf(sql, 'orders'), 0, 'the table itself has none: they would never fire');
  t.same(about(await health(sql), 'orders'), []);

  await subscribe(sql);
  await sql`insert into orders_102008 values (1, 1, 'open', 'a')`;
  await sql`insert into orders_102010 values (2, 1, 'open', 'b')`;
  await sql`update orders_102010 set status = 'done'`;
  await sql`delete from orders_102008`;
  const payloads = await route(sql);
  t.same(
    payloads.map(({ event, record_id, module }) => `${module} ${event} ${record_id}`),
    [
      'orders record_created 1',
      'orders record_created 2',
      'orders record_updated 2',
      'orders status_change 2',
      'orders record_deleted 1',
    ],
  );

  // Shard 102009 is moved here: a new table without triggers.
  await sql.unsafe('create table orders_102009 (like orders including all)');
  await sql`update pg_catalog.pg_dist_placement set groupid = 1 where shardid = 102009`;
  const [row] = (await health(sql)).filter(each => each.subject === 'orders');
  t.match(row, { severity: 'error', problem: 'changes are not captured' });
  // maintain can create triggers only where its owner has the privilege. Otherwise health keeps its row, and the hint
  // repairs it.
  await sql`select * from collecta.maintain()`;
  t.same(about(await health(sql), 'orders'), ['changes are not captured']);
  await sql.unsafe(
    'grant trigger on orders_102009 to collecta_owner; grant select on orders_102009 to collecta_capture',
  );
  const done = await sql`select done, subject from collecta.maintain()`;
  t.ok(done.some(each => each.done === 'attached shards' && each.subject === 'orders'));
  t.same(about(await health(sql), 'orders'), []);
  await sql`insert into orders_102009 values (3, 2, 'open', 'c')`;
  t.same(
    (await route(sql)).map(({ record_id }) => record_id),
    ['3'],
  );

  // Another shard appears that cannot be found, and the hint of health solves it.
  await sql`insert into pg_catalog.pg_dist_shard values ('orders'::regclass, 102011, 't', '0', '1')`;
  await sql`insert into pg_catalog.pg_dist_placement (shardid, shardstate, shardlength, groupid)
    values (102011, 1, 0, 1)`;
  t.same(about(await health(sql), 'orders'), ['shard cannot be found']);
  await sql.unsafe('create table orders_102011 (like orders including all)');
  const [hinted] = (await health(sql)).filter(each => each.subject === 'orders');
  await sql.unsafe(hinted!.hint);
  t.same(about(await health(sql), 'orders'), []);

  await sql`select collecta.detach_module('orders')`;
  t.equal(await triggersOf(sql, 'orders_102009'), 0);
});

t.test('shards of partitions and shards with shortened names are found', async t => {
  const { sql } = await database();
  await standInCatalogs(sql, 1);
  await sql.unsafe(`
    create table log (id bigint, at date, primary key (id, at)) partition by range (at);
    create table log_2026 partition of log for values from ('2026-01-01') to ('2027-01-01');
    create table log_102008 (id bigint, at date, primary key (id, at)) partition by range (at);
    create table log_2026_102009 partition of log_102008 for values from ('2026-01-01') to ('2027-01-01');`);
  for (const [name, id] of [
    ['log', 102008],
    ['log_2026', 102009],
  ] as const) {
    await sql`insert into pg_catalog.pg_dist_partition values (${name}::text::regclass, 'h', 'x', 1, 's', false)`;
    await sql`insert into pg_catalog.pg_dist_shard values (${name}::text::regclass, ${id}, 't', '0', '1')`;
    await sql`insert into pg_catalog.pg_dist_placement (shardid, shardstate, shardlength, groupid)
      values (${id}, 1, 0, 1)`;
  }
  await sql`select collecta.attach_shards('log', 'log')`;
  await subscribe(sql);
  await sql`insert into log_102008 values (1, '2026-02-03')`;
  await sql`insert into log_2026_102009 values (2, '2026-02-03')`;
  t.same(
    (await route(sql)).map(({ record_id }) => record_id),
    ['["1","2026-02-03"]', '["2","2026-02-03"]'].map(id => id.replace(/"(\d)"/, '$1')),
  );

  const long = `t${'x'.repeat(59)}`;
  await sql.unsafe(`create table ${long} ${columns}`);
  await sql`insert into pg_catalog.pg_dist_partition values (${long}::text::regclass, 'h', 'x', 1, 's', false)`;
  await sql`insert into pg_catalog.pg_dist_shard values (${long}::text::regclass, 102030, 't', '0', '1')`;
  await sql`insert into pg_catalog.pg_dist_placement (shardid, shardstate, shardlength, groupid)
    values (102030, 1, 0, 1)`;
  await sql.unsafe(`create table txxxxxxxx_1a2b3c4d_102030 (like ${long} including all)`);
  await sql`select collecta.attach_shards(${long}::text::regclass, 'long')`;
  t.equal(await triggersOf(sql, 'txxxxxxxx_1a2b3c4d_102030'), 4);
});

t.test('the settings that Citus needs are set during the work and restored afterwards', async t => {
  const { sql } = await database();
  const names = [
    'citus.enable_ddl_propagation',
    'citus.override_table_visibility',
    'citus.enable_manual_changes_to_shards',
  ];
  const values = async (tx: Pick<Sql, 'unsafe'>) =>
    (
      await tx.unsafe(`select ${names.map(name => `current_setting('${name}', true)`).join(` || ' ' || `)} as values`)
    )[0]!.values;
  t.equal(await values(sql), null, 'nothing is set where Citus is absent');
  await sql.begin(async tx => {
    // These settings exist where Citus is loaded.
    for (const name of names)
      await tx.unsafe(
        `set local "${name.split('.')[0]}"."${name.split('.')[1]}" = '${name.includes('manual') ? 'off' : 'on'}'`,
      );
    await tx.unsafe(`
      create table public.noted (at text);
      create function note() returns event_trigger language plpgsql security definer as $$
        begin insert into public.noted values (tg_tag || ' ' || current_setting('citus.enable_ddl_propagation'));
        end $$;
      create event trigger noting on ddl_command_end execute function note();
      create table things ${columns};
      select collecta.attach_module('things', 'things');
      select * from collecta.create_endpoint('https://example.com/', '{record_created}');
      select collecta.detach_module('things');
      drop event trigger noting;`);
    const rows =
      await tx`select distinct at from public.noted where at like 'CREATE TRIGGER%' or at like '%FUNCTION%' order by 1`;
    t.ok(rows.length > 0);
    for (const { at } of rows) t.match(at, / off$/, at);
    t.equal(await values(tx as never), 'on on off', 'put back');
  });
});

t.teardown(() => admin.end({ timeout: 1 }));
