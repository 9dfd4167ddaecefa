/**
 * Settings of a database or a role apply to every session. Here each setting that can be set for a role gets unusual
 * values, and the round trip must give the same results as without them. Settings for which it cannot are listed in
 * `exceptions` and in docs/databases.md.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { migrate } from '../../src/install/migrate.ts';
import { deliver, subscribe } from '../support/changes.ts';
import { useServer } from '../support/database.ts';
import { roundTrip } from '../support/round-trip.ts';

const { admin, connect, database } = await useServer();

/** With these settings a role breaks its own sessions; the documentation says what happens then. */
const exceptions = [
  'default_transaction_read_only',
  'session_replication_role',
  'row_security',
  'restrict_nonsystem_relation_kind',
  'transaction_read_only',
  'transaction_isolation',
  'transaction_deferrable',
];
/** A timeout of 0 is no timeout, and the longest one is longer than this test. Short timeouts have their own test. */
const unusual: Record<string, string[]> = {
  DateStyle: ['SQL, DMY', 'German, YMD'],
  TimeZone: ['Asia/Kathmandu', 'America/St_Johns'],
  application_name: ["it's", ''],
  backtrace_functions: ['exec_stmt_raise'],
  client_encoding: ['LATIN1', 'SQL_ASCII'],
  createrole_self_grant: ['set, inherit'],
  default_table_access_method: ['heap'],
  default_text_search_config: ['pg_catalog.german'],
  // The operating system allows less than max_val.
  max_stack_depth: ['100kB', '5MB'],
  // Before PostgreSQL 18 a disabled plan type makes a plan cost so much that all of it is compiled.
  jit: Array(6).fill('off'),
  lc_messages: ['POSIX'],
  lc_monetary: ['POSIX'],
  lc_numeric: ['POSIX'],
  lc_time: ['POSIX'],
  search_path: ['"a, b", public', 'public, pg_catalog'],
  timezone_abbreviations: ['India'],
  wal_consistency_checking: ['all'],
  client_min_messages: ['error', 'debug5'],
  // With the maximum, PostgreSQL would plan for minutes.
  from_collapse_limit: ['1', '12'],
  geqo_threshold: ['2', '12'],
  join_collapse_limit: ['1', '12'],
};
/** These need another program, library or device. */
const elsewhere = [
  'default_tablespace',
  'dynamic_library_path',
  'event_source',
  'extension_control_path',
  'extension_destdir', // Debian's
  'jit_provider',
  'local_preload_libraries',
  'session_authorization',
  'session_preload_libraries',
  'temp_tablespaces',
];

/** These control the server's log; the test would take minutes to write all of it. */
const logged = '^(log_|debug_print_|debug_pretty_print|trace_)';

type Setting = { name: string; vartype: string; values: (string | undefined)[] };

const settings: Setting[] = (
  await admin`
    select name, vartype, setting, boot_val, min_val, max_val, enumvals from pg_settings
    where context in ('user', 'superuser') and name <> all (${[...exceptions, ...elsewhere]}::text[])
      and name !~ ${logged} order by name`
).map((row, index) => ({
  name: row.name,
  vartype: row.vartype,
  values:
    unusual[row.name] ??
    (row.vartype === 'bool'
      ? // Only some plan types are disabled at once: with all of them disabled, no good plan would be left.
        row.name.startsWith('enable_')
        ? [...Array(index % 6), row.setting === 'on' ? 'off' : 'on']
        : [row.setting === 'on' ? 'off' : 'on']
      : row.vartype === 'enum'
        ? (row.enumvals as string[]).filter((value, _, all) => all.length === 1 || value !== row.setting)
        : row.vartype === 'string'
          ? []
          : // With costs that are all 0 or all infinite, the planner takes any plan.
            row.name.endsWith('_cost')
            ? ['0.001', '1000']
            : [row.min_val, row.max_val]),
}));

const columns: Record<string, [string, string]> = {
  big: ['bigint', '9007199254740993'],
  ratio: ['float8', '0.1::float8 + 0.2'],
  small: ['real', '0.1'],
  price: ['money', '1234.5'],
  raw: ['bytea', `decode('00ff5c', 'hex')`],
  seen: ['timestamptz', `'2026-03-04 05:06:07.89+00'`],
  local: ['timestamp', `'2026-03-04 05:06:07'`],
  day: ['date', `'2026-03-04'`],
  clock: ['timetz', `'05:06:07+05:45'`],
  span: ['interval', `make_interval(years => 1, days => -2, hours => 3)`],
  spans: ['interval[]', `array[make_interval(mins => -1)]`],
  days: ['daterange', `daterange('2026-01-02', '2026-02-03')`],
  doc: ['json', `E'{"a": "\\\\u20ac", "n": 1.10}'`],
  place: ['point', `point(0.1, 1e-9)`],
  grid: ['int[]', 'array[[1, null], [3, 4]]'],
  address: ['inet', `'10.0.0.1/8'`],
  kind: ['regclass', `'pg_catalog.pg_class'`],
};

/** Runs the round trip in a database that had these settings before the install. */
async function withSettings(chosen: Record<string, string>): Promise<string[]> {
  const target = await database('empty');
  for (const [name, value] of Object.entries(chosen))
    await admin.unsafe(
      `alter database ${target.name} set
        ${/^(search_path|DateStyle)$/.test(name) ? `${name} = ${value}` : `"${name}" = ${literal(value)}`}`,
    );
  // With `exit_on_error` the DBA's session would end at its first error, so it is off there. Its search_path must find
  // its tables.
  const sql = connect(target.url, { connection: { exit_on_error: 'off' } } as never);
  try {
    await migrate(target.url);
    return await roundTrip({ url: target.url, sql }, { columns });
  } catch (error) {
    return [`${(error as Error).message}`];
  } finally {
    await sql.end({ timeout: 1 });
  }
}

const literal = (value: string) => `'${value.replaceAll("'", "''")}'`;

const usual = await withSettings({});

t.test('every PostgreSQL setting is tested or listed as an exception', async t => {
  t.ok(usual.length > 100, 'the round trip without any of them');
  for (const { name, values } of settings) t.not(values.length, 0, name);
  const page = readFileSync(new URL('../../docs/databases.md', import.meta.url), 'utf8');
  for (const name of exceptions.filter(each => !each.startsWith('transaction_')))
    t.ok(page.includes(`\`${name}`), `docs/databases.md speaks of ${name}`);
});

const [restriction] = await admin`select from pg_settings where name = 'restrict_nonsystem_relation_kind'`;
const without = restriction ? false : 'this version does not have the setting';

t.test('with restrict_nonsystem_relation_kind changes are still delivered', { skip: without }, async t => {
  const target = await database();
  await admin.unsafe(`alter database ${target.name} set restrict_nonsystem_relation_kind = 'view,foreign-table'`);
  const sql = connect(target.url);
  await t.rejects(sql`select from collecta.webhook_deliveries`, { code: '55000' });
  await sql.unsafe(`create table t (id int primary key); select collecta.attach_module('t', 't')`);
  await subscribe(sql);
  await sql`insert into t values (1)`;
  await deliver(sql);
  const attempts = await sql`select outcome from collecta.delivery_attempts`;
  t.strictSame(
    attempts.map(({ outcome }) => outcome),
    ['delivered'],
  );
  await sql`select * from collecta.maintain()`;
});

/**
 * The settings of `chosen` that change the results alone, or a group that does so only together. A failure shows them.
 */
async function culprits(chosen: [string, string][]): Promise<string[]> {
  if (chosen.length === 1) return [chosen[0]!.join(' = ')];
  const half = Math.ceil(chosen.length / 2);
  const found: string[] = [];
  for (const part of [chosen.slice(0, half), chosen.slice(half)]) {
    const lines = await withSettings(Object.fromEntries(part));
    if (JSON.stringify(lines) !== JSON.stringify(usual)) found.push(...(await culprits(part)));
  }
  return found.length > 0 ? found : chosen.map(pair => pair.join(' = '));
}

const passes = Math.max(...settings.map(({ values }) => values.length));
for (let pass = 0; pass < passes; pass++) {
  const chosen = settings
    .filter(({ values }) => values[pass] !== undefined)
    .map(({ name, values }) => [name, values[pass]!] as [string, string]);
  t.test(`the round trip works with value ${pass + 1} of ${chosen.length} settings`, async t => {
    const lines = await withSettings(Object.fromEntries(chosen));
    const same = JSON.stringify(lines) === JSON.stringify(usual);
    t.ok(same, same ? 'as usual' : `not as usual with ${(await culprits(chosen)).join(', ')}`);
    const different = lines.findIndex((line, index) => line !== usual[index]);
    const [line = '', expected = ''] = [lines[different], usual[different]];
    const position = Array.from(line).findIndex((letter, index) => letter !== expected[index]);
    const around = (text: string) => text.slice(Math.max(0, position - 60), position + 60);
    t.equal(around(line), around(expected), expected.slice(0, 40));
  });
}
