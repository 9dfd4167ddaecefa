import { createTable, inLab, insertRow, insertRows, pgbench, type Sql } from './lab.ts';
import { cpuMilliseconds, cpuSeconds } from './processes.ts';
import { type Checkout, installedDatabase, thisCheckout } from './product.ts';
import type { Options, Outcome } from './results.ts';
import { type Comparison, type Measure, progress, takeTurns } from './rounds.ts';

const target = 'https://receiver.example.com/hook';
const events = '{record_created,record_updated,record_deleted,status_change}';
const rows = 20_000;

type Operation = 'insert' | 'update' | 'delete';
const operations: Operation[] = ['insert', 'update', 'delete'];

/** Hand-written triggers on the table `t`. `body(operation)` returns the body of their function. */
const byHand = (body: (operation: Operation) => string, each: 'statement' | 'row') =>
  operations
    .map(operation => {
      const tables = [
        operation !== 'insert' && 'old table as old_rows',
        operation !== 'delete' && 'new table as new_rows',
      ];
      const referencing = each === 'row' ? '' : `referencing ${tables.filter(Boolean).join(' ')}`;
      return `
        create function by_hand_${operation}() returns trigger language plpgsql as $f$
          begin ${body(operation)} return null; end $f$;
        create trigger by_hand_${operation} after ${operation} on t ${referencing}
          for each ${each} execute function by_hand_${operation}();`;
    })
    .join('\n');

/** The least that a capture can do: write the record as JSON into an outbox, and try one advisory lock. */
const floorTrigger = `
  create table floor_outbox (
    change_id bigint generated always as identity primary key, operation "char" not null, old json, new json,
    transaction_id xid8 default pg_current_xact_id(), captured_at timestamptz default clock_timestamp());
  ${byHand(
    operation =>
      `${
        {
          insert: `insert into floor_outbox (operation, new) select 'I', row_to_json(n.*) from new_rows n;`,
          update: `insert into floor_outbox (operation, old, new) select 'U', row_to_json(o.*), row_to_json(n.*)
            from old_rows o full join new_rows n using (id) where o.* *<> n.*;`,
          delete: `insert into floor_outbox (operation, old) select 'D', row_to_json(o.*) from old_rows o;`,
        }[operation]
      }
      if not pg_try_advisory_xact_lock_shared(1, 1) then perform pg_notify('floor', ''); end if;`,
    'statement',
  )}`;

const attach =
  (endpoints: number, scoped = false) =>
  async (sql: Sql) => {
    await sql`
    select collecta.attach_module('t', 'things', status_column => 'status', scope_column => 'work_center')`;
    for (let from = 1; from <= endpoints; from += 500)
      await sql`
      select collecta.create_endpoint(${target}, ${events}::text[],
        scope => case when ${scoped} then case i when 1 then 'assembly' else 'tenant-' || i end end)
      from generate_series(${from}::int, least(${from + 499}::int, ${endpoints}::int)) i`;
  };

type Variant = { name: string; checkout?: Checkout; prepare: (sql: Sql) => Promise<unknown> };
const ours = { checkout: thisCheckout };
const variants: Variant[] = [
  { name: 'bare table', prepare: async () => {} },
  { name: 'empty trigger function', prepare: sql => sql.unsafe(byHand(() => '', 'statement')) },
  { name: 'attached, nobody subscribed', ...ours, prepare: attach(0) },
  { name: 'floor trigger', prepare: sql => sql.unsafe(floorTrigger) },
  { name: 'one endpoint', ...ours, prepare: attach(1) },
  { name: '20 endpoints', ...ours, prepare: attach(20) },
  { name: '10,000 scoped endpoints, one of which matches', ...ours, prepare: attach(10_000, true) },
  {
    name: 'row trigger with pg_notify',
    prepare: sql =>
      sql.unsafe(
        byHand(
          operation => `perform pg_notify('by_hand', to_jsonb(${operation === 'delete' ? 'old' : 'new'})::text);`,
          'row',
        ),
      ),
  },
];

const scripts: Record<Operation, string> = {
  insert: insertRow('t'),
  update: `\\set id random(1, ${rows})
    update t set status = case status when 'open' then 'done' else 'open' end, updated_at = now() where id = :id`,
  delete: `\\set id random(1, ${rows})
    delete from t where id = :id`,
};

const transactionMeasures: Measure[] = [
  { name: 'committed', unit: 'transactions/s', compared: true },
  { name: 'CPU of the server', unit: 'µs a transaction', compared: true },
];
const statementMeasures: Measure[] = [
  { name: 'took', unit: 'ms', compared: true },
  { name: 'CPU of the session', unit: 'ms', compared: true },
];

/**
 * What the triggers cost the user's transaction. There is no runner, since a busy runner makes no difference to a
 * writer. Commits do not wait for the disk, which would hide the difference.
 */
export const write = ({ seconds = 1, only = '', checkouts, ...options }: Options): Promise<Outcome> =>
  inLab(['synchronous_commit=off', 'autovacuum=off'], async lab => {
    const chosen = checkouts
      ? checkouts.map(checkout => ({ name: checkout.name, checkout, prepare: attach(1) }))
      : variants.filter(({ name }, index) => index === 0 || name.includes(only));
    const ready: { name: string; url: string; sql: Sql; outbox: string }[] = [];
    for (const { name, checkout, prepare } of chosen as Variant[]) {
      const { url, sql } = checkout ? await installedDatabase(lab, checkout) : await lab.database();
      await sql.unsafe(createTable('t'));
      await prepare(sql);
      const [found] = await sql`
        select coalesce(to_regclass('collecta.outbox'), to_regclass('floor_outbox'))::text as outbox`;
      ready.push({ name, url, sql, outbox: found!.outbox ?? '' });
      progress(`ready: ${name}`);
    }
    /** Restores the table's initial content, without firing its triggers. */
    const reset = async ({ sql, outbox }: (typeof ready)[number], filled: number) => {
      await sql.begin(tx =>
        tx.unsafe(`
          set local session_replication_role = replica;
          truncate t${outbox && `, ${outbox}`} restart identity; ${insertRows('t', filled)}`),
      );
      await sql.unsafe('vacuum analyze t');
    };
    const comparisons: Comparison[] = [];
    const each = <T extends (typeof ready)[number]>(turn: (it: T) => Promise<Record<string, number>>) =>
      ready.map(it => ({ name: it.name, turn: () => turn(it as T) }));
    for (const operation of operations)
      for (const clients of [1, 16]) {
        const contenders = each(async it => {
          await reset(it, operation === 'insert' ? 0 : rows);
          const before = cpuSeconds([lab.serverPid]);
          const committed = pgbench(it.url, scripts[operation], clients, seconds);
          const used = cpuSeconds([lab.serverPid]) - before;
          return { committed, 'CPU of the server': (used / (committed * seconds)) * 1e6 };
        });
        const title = `${operation.toUpperCase()}, ${clients} client${clients > 1 ? 's' : ''}`;
        comparisons.push(await takeTurns(contenders, { title, measures: transactionMeasures, ...options }));
      }
    const statement = async (sql: Sql, text: string) => {
      const [session] = await sql`select pg_backend_pid() as pid`;
      const before = cpuMilliseconds(session!.pid);
      const started = performance.now();
      await sql.unsafe(text);
      const took = performance.now() - started;
      return { took, 'CPU of the session': cpuMilliseconds(session!.pid) - before };
    };
    const bulk = 'update t set price = price + 1 where id <= 10000';
    const oneByOne = `do $$ begin
      for i in 1 .. 1000 loop update t set price = price + 1 where id = i; end loop;
    end $$`;
    for (const [title, filled, text, first] of [
      ['INSERT of 10,000 rows', 0, insertRows('t', 10_000), ''],
      ['UPDATE of 10,000 rows', 10_000, bulk, ''],
      ['UPDATE of 10,000 rows, in a session that has updated 1,000 one by one', 10_000, bulk, oneByOne],
    ] as const) {
      const contenders = each(async it => {
        await reset(it, filled);
        const session = lab.connect(it.url, 1);
        await session.unsafe(first || 'select 1');
        const result = await statement(session, text);
        await session.end();
        return result;
      });
      comparisons.push(await takeTurns(contenders, { title, measures: statementMeasures, ...options }));
    }
    return { comparisons };
  });
