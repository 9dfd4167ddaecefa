// Runs plpgsql_check over every function, including those that are generated for modules and inbound endpoints. It
// fails if there is an error, a warning or a security warning. It needs Debian's packages postgresql-15 and
// postgresql-15-plpgsql-check.
import postgres from 'postgres';
import { migrate } from '../src/install/migrate.ts';
import { startServer } from '../test/support/server.ts';

const server = await startServer([], undefined, 'debian15');
const sql = postgres(server.url(), { max: 1, onnotice: () => {} });
try {
  await migrate(server.url());
  await sql.unsafe(`
    create schema checks; create extension plpgsql_check schema checks;
    create table public.orders (
      id int primary key, status text, tenant text, note json, custom jsonb, parts int[], at timestamptz, secret text);
    create table public.notes (id int generated always as identity primary key, at timestamptz, custom jsonb);
    select collecta.attach_module('public.notes', 'notes');
    create table public.lines (a int, b text collate "C", n numeric, primary key (a, b)) partition by list (a);
    create table public.lines_1 partition of public.lines for values in (1);
    select collecta.attach_module('public.orders', 'orders', 'status', 'custom', 'tenant',
      exclude_columns => '{secret}', ignore_columns => '{at}');
    select collecta.attach_module('public.lines', 'lines', on_truncate => 'refuse');
    select collecta.create_endpoint('https://example.com/',
      '{record_created,record_updated,record_deleted,status_change,custom_data_updated}');
    select collecta.create_inbound_endpoint('orders', '{"$.id": "id", "$.status": "status", "$.parts": "parts"}',
      '{id}');
    select collecta.create_inbound_endpoint('lines', '{"$.a": "a", "$.b": "b", "$.n": "n"}', '{a,b}');
    select collecta.create_inbound_endpoint('notes', '{"$.at": "at", "$.custom": "custom"}')`);
  // plpgsql_check does not know the columns of a parameter of type record, and reports it as not assigned. So a copy of
  // collecta_rows.row_<n> is checked whose parameters have the row type of the table.
  const rows = await sql<{ definition: string }[]>`
    select replace(pg_get_functiondef(p.oid), p.proname || '(captured record, other record)',
      format('%s_typed(captured %s, other %2$s)', p.proname, m.relation)) as definition
    from pg_proc p join collecta.modules m on p.proname = 'row_' || m.module_id
    where p.pronamespace = 'collecta_rows'::regnamespace`;
  for (const { definition } of rows) await sql.unsafe(definition);
  const findings = await sql<{ function: string; place: string; level: string; message: string }[]>`
    with function as (
      select p.oid, p.oid::regprocedure::text as name, coalesce(t.tgrelid, 0)::oid as relation,
        coalesce(t.tgoldtable, case when p.prorettype = 'trigger'::regtype then 'old_rows' end)::text as old_table,
        coalesce(t.tgnewtable, case when p.prorettype = 'trigger'::regtype then 'new_rows' end)::text as new_table
      from pg_proc p join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
      left join lateral (select * from pg_trigger t where t.tgfoid = p.oid order by t.tgrelid limit 1) t on true
      where p.pronamespace::regnamespace::text like 'collecta%'
        and (p.prorettype <> 'trigger'::regtype or t.oid is not null)
        and 'record'::regtype <> all (p.proargtypes::oid[])
    )
    select name as function, coalesce(lineno::text, '') || ' ' || coalesce(statement, '') as place, level,
      concat_ws('; ', message, detail, context) as message
    from function
    cross join lateral checks.plpgsql_check_function_tb(function.oid, function.relation, fatal_errors => false,
      security_warnings => true, performance_warnings => false, extra_warnings => false,
      oldtable => function.old_table, newtable => function.new_table) checked
    order by 1, 2`;
  const [{ functions } = { functions: 0 }] = await sql`
    select count(*)::int as functions from pg_proc p join pg_language l on l.oid = p.prolang
    where l.lanname = 'plpgsql' and p.pronamespace::regnamespace::text like 'collecta%'`;
  for (const each of findings) console.error(`${each.function}, line ${each.place}: ${each.level}: ${each.message}`);
  console.log(`plpgsql_check: ${functions} functions, ${findings.length} findings`);
  process.exitCode = findings.length > 0 || functions < 50 || rows.length < 3 ? 1 : 0;
} finally {
  await sql.end({ timeout: 1 });
  await server.stop();
}
