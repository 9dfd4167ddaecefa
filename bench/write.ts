import { insertMany, insertRow, pgbench, progress, type Sql, save, startBenchServer, Table, table } from './support.ts';

const target = 'https://receiver.example.com/hook';
const events = '{record_created,record_updated,record_deleted,status_change}';
const rows = 50_000;

/** Hand-written triggers on table `t`: `body(operation)` is the function's. */
const byHand = (body: (operation: 'insert' | 'update' | 'delete') => string, each: 'statement' | 'row' = 'statement') =>
  (['insert', 'update', 'delete'] as const)
    .map(operation => {
      const referencing =
        each === 'row'
          ? ''
          : `referencing ${[operation !== 'insert' && 'old table as old_rows', operation !== 'delete' && 'new table as new_rows'].filter(Boolean).join(' ')}`;
      return `create function by_hand_${operation}() returns trigger language plpgsql as $f$ begin ${body(operation)} return null; end $f$;
        create trigger by_hand_${operation} after ${operation} on t ${referencing} for each ${each} execute function by_hand_${operation}();`;
    })
    .join('\n');

const lockTry = `if not pg_try_advisory_xact_lock_shared(1668246636, 1) then perform pg_notify('collecta_wake', ''); end if;`;
const floor = `create table floor_outbox (change_id bigint generated always as identity primary key, operation "char" not null, old json, new json, transaction_id xid8 default pg_current_xact_id(), captured_at timestamptz default clock_timestamp());
${byHand(
  operation =>
    ({
      insert: `insert into floor_outbox (operation, new) select 'I', row_to_json(n.*) from new_rows n;`,
      update: `insert into floor_outbox (operation, old, new) select 'U', row_to_json(o.*), row_to_json(n.*) from old_rows o full join new_rows n using (id) where o.* *<> n.*;`,
      delete: `insert into floor_outbox (operation, old) select 'D', row_to_json(o.*) from old_rows o;`,
    })[operation] + lockTry,
)}`;
const rowNotify = byHand(
  operation => `perform pg_notify('by_hand', to_jsonb(${operation === 'delete' ? 'old' : 'new'})::text);`,
  'row',
);

type Variant = { name: string; prepare: (sql: Sql) => Promise<unknown>; asleep?: true };

async function attach(sql: Sql, endpoints: number, scoped = false): Promise<void> {
  await sql`select collecta.attach_module('t', 'things', status_column => 'status', scope_column => 'work_center')`;
  for (let i = 0; i < endpoints; i += 500)
    await sql`select collecta.create_endpoint(${target}, ${events}::text[], scope => ${scoped ? sql`case when i = 0 then 'assembly' else 'tenant-' || i end` : null})
      from generate_series(${i}::int, least(${i + 499}::int, ${endpoints - 1}::int)) i`;
}

const variants: Variant[] = [
  { name: 'bare table', prepare: async () => {} },
  { name: 'empty function', prepare: sql => sql.unsafe(byHand(() => '')) },
  { name: 'attached, nobody subscribed', prepare: sql => attach(sql, 0) },
  { name: 'floor trigger', prepare: sql => sql.unsafe(floor) },
  { name: 'one endpoint', prepare: sql => attach(sql, 1) },
  { name: '20 endpoints', prepare: sql => attach(sql, 20) },
  { name: '10,000 scoped endpoints', prepare: sql => attach(sql, 10_000, true) },
  { name: 'one endpoint, runner asleep', prepare: sql => attach(sql, 1), asleep: true },
  { name: 'row trigger with pg_notify', prepare: sql => sql.unsafe(rowNotify) },
];

const scripts = {
  insert: insertRow('t'),
  update: `\\set id random(1, ${rows})\nupdate t set status = case status when 'open' then 'done' else 'open' end, updated_at = now() where id = :id`,
  delete: `\\set id random(1, ${rows})\ndelete from t where id = :id`,
};

const time = async (work: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await work();
  return performance.now() - started;
};

/** What the triggers cost the user's transaction. A busy runner and none are the same to a writer: nobody holds the wake lock. */
export async function write({ repetitions = 3, seconds = 2, only = '' } = {}): Promise<void> {
  const server = await startBenchServer(['synchronous_commit=off', 'autovacuum=off']);
  const chosen = variants.filter(({ name }) => !only || only.split(',').includes(name));
  const ready: { variant: Variant; url: string; sql: Sql }[] = [];
  for (const variant of chosen) {
    const { url, sql } = await server.database();
    await sql.unsafe(table('t'));
    await variant.prepare(sql);
    if (variant.asleep) {
      const [holder] = [await sql.reserve()];
      await holder`select pg_advisory_lock(1668246636, 1)`;
    }
    ready.push({ variant, url, sql });
    progress(`ready: ${variant.name}`);
  }
  const tables: Table[] = [];
  const reset = async (sql: Sql, full: boolean) => {
    await sql.unsafe(
      `set session_replication_role = replica; truncate t, collecta.outbox restart identity; ${full ? insertMany('t', rows) : 'select 1'}; set session_replication_role = origin`,
    );
    if (await sql`select to_regclass('floor_outbox') is not null as there`.then(([row]) => row?.there))
      await sql`truncate floor_outbox`;
    await sql.unsafe('vacuum analyze t');
  };
  for (const [operation, script] of Object.entries(scripts))
    for (const clients of [1, 4, 16]) {
      const result = new Table(
        `${operation}, ${clients} client${clients > 1 ? 's' : ''}`,
        'transactions/s',
        'bare table',
      );
      tables.push(result);
      for (let i = 0; i < repetitions; i++)
        for (const { variant, url, sql } of ready) {
          await reset(sql, operation !== 'insert');
          result.add(variant.name, pgbench(url, script, clients, seconds));
        }
      progress(
        `${operation} at ${clients}: ${[...result.rows.keys()].map(name => `${name} ${result.ratio(name).toFixed(2)}`).join(', ')}`,
      );
    }
  const bulk = new Table('10,000-row INSERT', 'ms', 'bare table');
  const fresh = new Table('10,000-row UPDATE in a fresh session', 'ms', 'bare table');
  const after = new Table('10,000-row UPDATE after 1,000 one-row updates', 'ms', 'bare table');
  const million = new Table('1,000,000-row UPDATE', 'ms', 'empty function');
  for (let i = 0; i < repetitions; i++)
    for (const { variant, sql } of ready) {
      await reset(sql, true);
      bulk.add(variant.name, await time(() => sql.unsafe(insertMany('t', 10_000))));
      const session = await sql.reserve();
      await session`discard all`;
      fresh.add(variant.name, await time(() => session.unsafe(`update t set price = price + 1 where id <= 10000`)));
      await session.unsafe(
        `do $$ begin for i in 1 .. 1000 loop update t set price = price + 1 where id = i; end loop; end $$`,
      );
      after.add(variant.name, await time(() => session.unsafe(`update t set price = price + 1 where id <= 10000`)));
      session.release();
    }
  for (const { variant, sql } of ready) {
    if (!['bare table', 'empty function', 'one endpoint'].includes(variant.name)) continue;
    await reset(sql, false);
    await sql.unsafe(
      `set session_replication_role = replica; ${insertMany('t', 1_000_000)}; set session_replication_role = origin`,
    );
    million.add(variant.name, await time(() => sql.unsafe('update t set price = price + 1')));
    await reset(sql, false);
    progress(`1,000,000-row update: ${variant.name}`);
  }
  for (const { sql } of ready) await sql.end({ timeout: 1 });
  await server.stop();
  save(
    'write',
    [...tables, bulk, fresh, after, million],
    ['synchronous_commit off, autovacuum off, pgbench on the same two cores.'],
  );
}
