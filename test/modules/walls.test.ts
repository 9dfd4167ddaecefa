/**
 * Code that belongs to the owner of a table or type must not run during capture, and what it could damage is repaired.
 */
import t, { type Test } from 'tap';
import { brief, refuses, route, subscribe } from '../support/changes.ts';
import { type Sql, useServer } from '../support/database.ts';

const { admin, connect, database, server } = await useServer();
await admin.unsafe(`create role attacker login password 'x' noinherit; create role bystander login password 'x'`);
const as = (role: string, name: string) =>
  connect(server.url(name).replace('postgres:postgres@', `${role}:x@`), { max: 1 });

/** A schema that belongs to the attacker, with functions that note the role that they ran as. */
async function prepared() {
  const { sql, name } = await database();
  await sql.unsafe(`
    create schema loot authorization attacker; grant usage on schema loot to public;
    grant create on schema public to attacker;
    set role attacker;
    create table loot.ran (who text, place text); grant all on loot.ran to public;
    create function loot.note(place text) returns void language plpgsql as $$
      begin if current_user <> 'attacker' then insert into loot.ran values (current_user, place); end if; end $$;
    create function loot.seen(n int) returns int language plpgsql immutable as $$
      begin perform loot.note('index'); return n; end $$;
    create function loot.visible() returns boolean language plpgsql as $$
      begin perform loot.note('policy'); return true; end $$;
    create type loot.mood as enum ('sad', 'ok');
    create type loot.pair as (a int, m loot.mood);
    create type loot.span as range (subtype = float8);
    create domain loot.checked as loot.mood;
    create type loot.tree as (name text, leaf loot.pair, leaves loot.pair[], at loot.span);
    reset role`);
  const ran = async () =>
    (
      await sql`select who, place from loot.ran
        where who <> session_user::text and who not in ('postgres', 'bystander')`
    ).map(row => `${row.place} as ${row.who}`);
  return { sql, name, ran, attacker: as('attacker', name) };
}

/** Casts to json of all types that the attacker owns. Each one notes that it ran. */
const casts = `
  create function loot.as_json(v loot.mood) returns json language plpgsql as $$
    begin perform loot.note('cast of mood'); return '"cast"'; end $$;
  create function loot.as_json(v loot.span) returns json language plpgsql as $$
    begin perform loot.note('cast of span'); return '"cast"'; end $$;
  create function loot.as_json(v loot.pair) returns json language plpgsql as $$
    begin perform loot.note('cast of pair'); return '"cast"'; end $$;
  create cast (loot.mood as json) with function loot.as_json(loot.mood) as implicit;
  create cast (loot.span as json) with function loot.as_json(loot.span) as implicit;
  create cast (loot.pair as json) with function loot.as_json(loot.pair) as implicit;
  create function loot.as_text(v loot.mood) returns text language plpgsql as $$
    begin perform loot.note('cast to text'); return 'cast'; end $$;
  create cast (loot.mood as text) with function loot.as_text(loot.mood) as implicit`;

const columns = `id int primary key, m loot.mood, ms loot.mood[], d loot.checked, ds loot.checked[],
  p loot.pair, ps loot.pair[], s loot.span, ss loot.span[], t loot.tree, big text`;
const values = `'ok', '{sad,NULL,ok}', 'sad', '{ok}', row(1, 'ok'), array[row(2, 'sad'), null]::loot.pair[], '[1,2)',
  array['[1,2)'::loot.span], row('x', row(3, 'ok'), array[row(4, 'sad')]::loot.pair[], '[5,6)')::loot.tree`;
const document = {
  m: 'ok',
  ms: ['sad', null, 'ok'],
  d: 'sad',
  ds: ['ok'],
  p: { a: 1, m: 'ok' },
  ps: [{ a: 2, m: 'sad' }, null],
  s: '[1,2)',
  ss: ['[1,2)'],
  t: { name: 'x', leaf: { a: 3, m: 'ok' }, leaves: [{ a: 4, m: 'sad' }], at: '[5,6)' },
};

async function everyOperation(t: Test, sql: Sql, table: string) {
  await sql.unsafe(`insert into ${table} values (1, ${values}, null), (2, ${values}, repeat('x', 300000))`);
  await sql.unsafe(`update ${table} set big = 'y' where id = 1`);
  await sql.unsafe(`update ${table} set big = md5(id::text)`);
  await sql.unsafe(`update ${table} set id = id + 10`);
  await sql.unsafe(`delete from ${table} where id = 11`);
  await sql.unsafe(`truncate ${table}`);
  const events = await route(sql);
  t.strictSame(brief(events).sort(), [
    'created 1',
    'created 11',
    'created 12',
    'created 2',
    'deleted 1',
    'deleted 11',
    'deleted 12',
    'deleted 2',
    'updated 1',
    'updated 1',
    'updated 2',
  ]);
  for (const { record } of events) t.match(record, document, 'as JSON, as it would be without casts');
}

for (const when of ['before the table is attached', 'after it'])
  t.test(`casts to json and to text created ${when} are not run`, async t => {
    const { sql, ran, attacker } = await prepared();
    await attacker.unsafe(`create table loot.t (${columns})`);
    if (when.startsWith('before')) await attacker.unsafe(casts);
    await sql`select collecta.attach_module('loot.t', 't')`;
    await subscribe(sql);
    if (when.startsWith('after')) await attacker.unsafe(casts);
    await everyOperation(t, sql, 'loot.t');
    t.strictSame(await ran(), [], 'none of them runs in capture');
    t.match(
      [...(await sql`select distinct severity, problem, subject from collecta.health where problem ~ 'cast'`)],
      [{ severity: 'warning', subject: 't' }],
      'and health says that they are not used',
    );
  });

t.test('casts of types whose columns are added to an attached table are not run', async t => {
  const { sql, ran, attacker } = await prepared();
  await attacker.unsafe(`${casts}; create table loot.t (id int primary key, big text)`);
  await sql`select collecta.attach_module('loot.t', 't')`;
  await subscribe(sql);
  // One session with cached plans, and one with a snapshot older than the new column.
  await sql`insert into loot.t values (1)`;
  const old = as('attacker', sql.options.database as string);
  await old`insert into loot.t values (2)`;
  await old`begin isolation level repeatable read`;
  await old`select pg_current_snapshot()`;
  await attacker`alter table loot.t add column m loot.mood default 'ok', alter column big type loot.mood using 'sad'`;
  await sql`insert into loot.t values (3)`;
  await old`insert into loot.t values (4)`;
  await old`update loot.t set m = 'sad' where id = 4`;
  await old`commit`;
  await old`insert into loot.t values (5)`;
  t.strictSame(await ran(), []);
  t.strictSame(
    (await route(sql)).map(({ event, record_id, record }) => [event, record_id, record?.m]),
    [
      ['record_created', '1', undefined],
      ['record_created', '2', undefined],
      ['record_created', '3', 'ok'],
      ['record_created', '4', undefined],
      ['record_updated', '4', undefined],
      ['record_created', '5', 'ok'],
    ],
    'whole rows at once, and key and status where an old snapshot does not show the columns',
  );
  await sql`select * from collecta.maintain()`;
  await sql`insert into loot.t values (6)`;
  t.match(await route(sql), [{ record: { m: 'ok' } }]);
  t.strictSame(await ran(), []);
});

t.test('TRUNCATE of a table with hostile indexes, statistics or policies runs none of their code', async t => {
  for (const [title, trap] of Object.entries({
    'an expression index': 'create index on loot.t ((n + loot.seen(1)))',
    'a partial index': 'create index on loot.t (n) where loot.seen(1) > 0',
    statistics: 'create statistics loot.s on (n + loot.seen(1)), n from loot.t',
    'a policy': `alter table loot.t enable row level security; create policy a on loot.t using (loot.visible());
      create policy b on loot.t using (true)`,
  })) {
    const { sql, ran, attacker } = await prepared();
    await attacker.unsafe('create table loot.t (id int primary key, n int)');
    await sql`select collecta.attach_module('loot.t', 't')`;
    await subscribe(sql);
    await attacker.unsafe(trap);
    await attacker.unsafe('insert into loot.t values (1, 1), (2, 2)');
    await route(sql);
    await sql`delete from loot.ran`;
    const victim = connect(server.url(sql.options.database as string), { max: 1 });
    await victim`set constraint_exclusion = on`;
    await victim`truncate loot.t`;
    t.strictSame(await ran(), [], `${title}: its function does not run as the capturing role`);
    t.match(
      await route(sql),
      [{ event: 'record_deleted', record_id: null, record: null }],
      'one event without a record',
    );
    t.match(
      [...(await sql`select severity, hint from collecta.health where problem = 'truncate is captured as one'`)],
      [{ severity: 'error', hint: /on_truncate => 'ignore'/ }],
      'and health says so',
    );
    await refuses(t, sql`select collecta.attach_module('loot.t', 't')`, 'CW002', `${title}: attaching again`);
  }
});

t.test('code that does run as the capturing role can alter nothing, and maintain repairs a drop', async t => {
  const { sql } = await database();
  await sql.unsafe(`create table t (id int primary key, big text); create table u (id int primary key);
    select collecta.attach_module('t', 't'), collecta.attach_module('u', 'u')`);
  await subscribe(sql);
  for (const statement of [
    'alter function collecta_modules.capture_1_insert() security invoker',
    'alter function collecta_modules.capture_1_insert() set search_path = public',
    'alter routine collecta_modules.capture_1_insert() reset all',
    'drop function collecta_modules.capture_1_insert() cascade',
    `create or replace function collecta_modules.capture_1_insert() returns trigger
      language plpgsql as 'begin return null; end'`,
    'grant execute on function collecta_modules.capture_1_insert() to public',
    'grant all on all functions in schema collecta_modules to public',
    'alter function collecta_rows.row_1(record, record) security definer',
    'drop function collecta_rows.row_1(record, record)',
    'create function collecta_rows.planted() returns int language sql as $$ select 1 $$',
    'alter function collecta.pick_columns(json, text[], boolean) security definer',
  ])
    await t.rejects(
      sql.begin(async tx => {
        await tx`set local role collecta_capture`;
        await tx.unsafe(statement);
      }),
      { code: '42501' },
      statement,
    );

  for (const spoil of [
    'alter function collecta_modules.capture_1_insert() security invoker',
    'alter function collecta_modules.capture_1_update() set search_path = public',
    'grant execute on function collecta_modules.capture_1_delete() to public',
    `create or replace function collecta_modules.capture_1_truncate() returns trigger
      language plpgsql as 'begin return null; end'`,
    'alter function collecta_rows.row_1(record, record) security definer',
    'drop function collecta_rows.row_1(record, record)',
  ]) {
    await sql.unsafe(spoil);
    t.match(
      [
        ...(await sql`select severity, subject, hint from collecta.health
          where problem = 'capture function was altered'`),
      ],
      [{ severity: 'error', subject: 't' }],
      `health sees: ${spoil}`,
    );
    await sql`select * from collecta.maintain()`;
    t.strictSame([...(await sql`select * from collecta.health`)], [], 'maintain mends it');
  }
  // DROP OWNED does not need to name the objects.
  await sql.begin(async tx => {
    await tx`set local role collecta_capture`;
    await tx`drop owned by collecta_capture cascade`;
  });
  const problems =
    await sql`select problem, hint from collecta.health where subject = 't' or problem like 'privileges%'`;
  t.ok(problems.some(row => row.problem === 'changes are not captured'));
  await sql`select collecta.restore_grants()`;
  await sql`select * from collecta.maintain()`;
  for (const { hint } of await sql`select hint from collecta.health where problem = 'changes are not captured'`)
    await sql.unsafe(hint);
  for (const { hint } of await sql`select hint from collecta.health`) await sql.unsafe(hint);
  t.strictSame([...(await sql`select * from collecta.health`)], [], 'and the hints of health mend that');
  await sql`insert into t values (1, repeat('x', 100000))`;
  t.strictSame(brief(await route(sql)), ['created 1']);
});

t.test("a capture trigger on a table other than its module's captures nothing", async t => {
  const { sql } = await database();
  await sql.unsafe(`create table t (id int primary key, secret text);
    create table other (id int primary key, password text);
    select collecta.attach_module('t', 't', exclude_columns => '{secret}')`);
  await subscribe(sql);
  // pg_restore -n public brings these triggers into a database that has its own collecta.
  await sql.unsafe(`
    create trigger collecta_capture_insert after insert on other referencing new table as new_rows
      for each statement execute function collecta_modules.capture_1_insert();
    create trigger collecta_capture_update after update on other referencing old table as old_rows new table as new_rows
      for each statement execute function collecta_modules.capture_1_update();
    create trigger collecta_capture_delete after delete on other referencing old table as old_rows
      for each statement execute function collecta_modules.capture_1_delete();
    create trigger collecta_capture_truncate before truncate on other for each statement
      execute function collecta_modules.capture_1_truncate()`);
  await sql.unsafe(`insert into other values (1, 'psst'), (2, 'psst'); update other set password = 'psst2';
    update other set password = 'x' where id = 1;
    delete from other where id = 1; truncate other`);
  t.equal((await sql`select from collecta.outbox`).length, 0);
  const [row] =
    await sql`select severity, subject, hint from collecta.health where problem = 'trigger of another table'`;
  t.match(row, { severity: 'error', subject: 't' });
  await sql.unsafe(row!.hint);
  t.strictSame([...(await sql`select * from collecta.health`)], []);
});
