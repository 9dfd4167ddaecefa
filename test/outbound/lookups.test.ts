/** The queries that README and docs/operations.md recommend to a DBA use indexes, however long the history is. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { tail } from '../../src/operations/tail.ts';
import { deliver, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';

const { admin, database } = await useServer();

/** There are 20,000 attempts, which the planner estimates as 10,000,000 because it multiplies rows a page by pages. */
async function pretendHistory(sql: Sql): Promise<string[]> {
  await sql.unsafe(`create table t (id text primary key); select collecta.attach_module('t', 't')`);
  await subscribe(sql);
  await sql`insert into t values ('rec_1')`;
  await deliver(sql);
  const [events, attempts] = await Promise.all(
    ['events', 'delivery_attempts'].map(async parent => {
      const [row] = await sql`select tableoid::regclass::text as name from ${sql(`collecta.${parent}`)} limit 1`;
      return row!.name as string;
    }),
  );
  const columns = async (table: string, changed: Record<string, string>) => {
    const rows =
      await sql`select attname from pg_attribute where attrelid = ${table}::regclass and attnum > 0 and not attisdropped
      order by attnum`;
    return rows.map(({ attname }) => changed[attname] ?? `x."${attname}"`).join(', ');
  };
  const id = (prefix: string) => `'${prefix}_' || lpad(to_hex(n), 32, '0')`;
  await sql.unsafe(`insert into ${events}
    select ${await columns(events!, { event_id: id('evt'), record_id: id('rec') })}
    from ${events} x, generate_series(1, 20000) n`);
  await sql.unsafe(`insert into ${attempts} select ${await columns(attempts!, { id: id('dlv'), event_id: id('evt') })}
    from ${attempts} x, generate_series(1, 20000) n`);
  await sql.unsafe(`vacuum analyze ${events}; `);
  await sql.unsafe(`vacuum analyze ${attempts}`);
  for (const table of [events, attempts])
    await sql`update pg_class set reltuples = 10000000 where oid = ${table!}::regclass`;
  return [events!, attempts!];
}

t.test('the documented queries use indexes', async t => {
  const { sql } = await database();
  const large = await pretendHistory(sql);
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const page = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
  const blocks = [readme, page].flatMap(text => Array.from(text.matchAll(/```sql\n(.*?)```/gs), match => match[1]!));
  const queries = blocks
    .flatMap(block => block.replace(/--.*$/gm, '').split(/;\s*(?:\n|$)/))
    .filter(query => /^\s*select[^;]*from collecta\.(webhook_deliveries|events)/.test(query));
  t.ok(queries.length >= 4, `${queries.length} queries of the history`);
  await admin.unsafe(`
    create role looks_up login in role collecta_reader; create role looks_up_one login in role collecta_reader`);
  await sql.unsafe(`
    create table secured (id int primary key);
    select collecta.attach_module('secured', 'secured', on_truncate => 'ignore');
    alter table secured enable row level security;
    select collecta.restrict_login('looks_up_one', '{acme}')`);
  for (const role of ['postgres', 'looks_up', 'looks_up_one'])
    await sql.begin(async tx => {
      await tx.unsafe(`set local role ${role}`);
      const readsAll = async (query: string) => {
        const plan = (await tx.unsafe(`explain ${query}`)).map(row => row['QUERY PLAN']).join('\n');
        return large.some(table => plan.includes(`Seq Scan on ${table.replace('collecta.', '')} `)) && plan;
      };
      t.ok(
        await readsAll('select id from collecta.webhook_deliveries order by error limit 10'),
        `${role}: what has no index is seen`,
      );
      for (const query of queries) t.notOk(await readsAll(query), `${role}: ${query.trim().slice(0, 200)}`);
    });
});

t.test('the hints of health and the functions’ queries use indexes', async t => {
  const { sql } = await database();
  await pretendHistory(sql);
  const [{ id, endpoint_id }] = (await sql`
    select id, endpoint_id from collecta.delivery_attempts order by id desc limit 1`) as never as [
    { id: string; endpoint_id: string },
  ];
  // The queries in the hints of health, with an endpoint, a module or a number filled in.
  const hints = (readdirSync('sql/fixtures', { recursive: true }) as string[])
    .filter(name => /check_\w+\.sql$/.test(name))
    // SQL joins adjacent string literals on separate lines.
    .map(name => readFileSync(join('sql/fixtures', name), 'utf8').replace(/'\s*\n\s*'/g, ''))
    .flatMap(text => [...text.matchAll(/'(select [^']* from collecta\.[^']*)'/g)])
    .flatMap(([, text]) => text!.split(';'))
    .map(text => text.replace(/--.*$/, '').replaceAll('%L', `'${endpoint_id}'`).replaceAll('%s', '1').trim())
    .filter(text =>
      /^select [^(]* from collecta\.(undelivered|webhook_deliveries|delivery_attempts|events)\b/.test(text),
    );
  t.ok(hints.length > 0, `${hints.length} look-ups in hints`);
  const statements = [
    ...hints,
    'select * from collecta.health',
    'select * from collecta.read_figures()',
    'select * from collecta.observe()',
    `select collecta.replay_delivery('${id}')`,
    `select collecta.replay_undelivered(since => now() - interval '1 day')`,
    `select collecta.replay_undelivered('${endpoint_id}')`,
    'select * from collecta.undelivered order by id desc limit 20',
    'select * from collecta.maintain()',
  ];
  /** The large tables that a statement scans sequentially. The statement is rolled back. */
  const scanned = async (statement: string) => {
    let tables: string[] = [];
    await sql
      .begin(async tx => {
        const read = async () =>
          new Map(
            (
              await tx`
                select relname, seq_tup_read::float8 as rows from pg_stat_xact_user_tables
                where schemaname = 'collecta' and relname ~ '^(events|delivery_attempts)_'`
            ).map(({ relname, rows }) => [relname as string, rows as number]),
          );
        const before = await read();
        await tx.unsafe(statement);
        tables = [...(await read())]
          .filter(([name, rows]) => rows - (before.get(name) ?? 0) > 1000)
          .map(([name]) => name);
        throw new Error('rolled back');
      })
      .catch(error => {
        if (error.message !== 'rolled back') throw error;
      });
    return tables;
  };
  t.equal((await scanned('select count(error) from collecta.delivery_attempts')).length, 1, 'a scan is seen');
  for (const statement of statements) t.strictSame(await scanned(statement), [], statement);
});

t.test('tail works with the privileges of collecta_reader', async t => {
  const target = await database();
  await target.sql.unsafe(`create table t (id text primary key); select collecta.attach_module('t', 't')`);
  await subscribe(target.sql);
  await target.sql`insert into t values ('rec_1')`;
  await deliver(target.sql);
  await admin.unsafe(`create role reads_only login password 'x' in role collecta_reader`);
  const lines: string[] = [];
  const stop = new AbortController();
  await tail(
    target.url.replace('postgres:postgres@', 'reads_only:x@'),
    { endpoint: undefined, failed: false, last: 5 },
    stop.signal,
    line => {
      lines.push(line);
      stop.abort();
    },
  );
  t.match(lines[0], /delivered .* rec_1 /);
});
