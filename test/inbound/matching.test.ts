import t from 'tap';
import { useServer } from '../support/database.ts';
import { closeAgent, makeEndpoint, post, startReceiving } from '../support/inbound.ts';

const { database } = await useServer();
const db = await database();
const { sql } = db;
const receiving = await startReceiving(db);
t.teardown(async () => {
  await receiving.stop();
  await closeAgent();
});

let tables = 0;
/** Creates and attaches a table with these columns, and an inbound endpoint that maps all of `mapping`. */
async function make(columns: string, mapping: object, options: Record<string, unknown> = {}, more = '') {
  const name = `m${++tables}`;
  await sql.unsafe(
    `create table ${name} (id bigint generated always as identity primary key, ${columns});
      ${more.replaceAll('@', name)};
     select collecta.attach_module('${name}', '${name}')`,
  );
  const made = await makeEndpoint(sql, mapping, { module: name, rate_limit_per_minute: 1000, ...options });
  const send = (body: unknown, headers: Record<string, string> = {}) => post(receiving.port, made.path, body, headers);
  const rows = async (what = '*') => [...(await sql.unsafe(`select ${what} from ${name} order by id`))];
  return { name, ...made, send, rows };
}

// Pairs of texts that the type considers equal although they are written differently.
const equals: Record<string, [string, string]> = {
  citext: ['Bob@X.org', 'bob@x.org'],
  ltree: ['Top.Science', 'Top.Science'],
  hstore: ['a=>1, b=>2', 'b=>2, a=>1'],
  cube: ['(1,2)', '(1.0, 2.0)'],
  seg: ['1.0 .. 2.0', '1.0 .. 2.0'],
  isbn: ['978-0-393-04002-9', '9780393040029'],
  ean13: ['978-0-393-04002-9', '9780393040029'],
  isbn13: ['978-0-393-04002-9', '0-393-04002-X'],
  ismn: ['M-706719-70-2', 'M706719702'],
  ismn13: ['979-0-706719-70-2', '9790706719702'],
  issn: ['1436-4522', '14364522'],
  issn13: ['977-1436-452-00-8', '9771436452008'],
  upc: ['220356483481', '0220356483481'],
  earth: ['(6378168, 0, 0)', '(6378168.0, 0.0, 0.0)'],
  lo: ['7', '07'],
  'int4[]': ['{1,2}', '{1, 2}'],
  'citext[]': ['{A,b}', '{a,B}'],
  'numeric(8,2)': ['1.50', '1.5'],
  'varchar(9)': ['x', 'x'],
  'char(5)': ['x', 'x  '],
  name: ['x', 'x'],
  inet: ['10.0.0.1', '10.0.0.1/32'],
  cidr: ['10.0.0.0/8', '10.0.0.0/8'],
  uuid: ['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'],
  timestamptz: ['2026-11-24T12:00:00Z', '2026-11-24T13:00:00+01:00'],
  int4range: ['[1,5)', '[1,4]'],
  jsonb: ['{"a": 1}', '{"a":1}'],
  interval: ['1 day', '24 hours'],
  oid: ['7', '7'],
  bytea: ['\\x41', 'A'],
  macaddr: ['08:00:2b:01:02:03', '08002b:010203'],
};

t.test('a record is matched by its type’s default equality, whatever schema the extension is in', async t => {
  await sql.unsafe(`
    create schema ext;
    create extension citext; create extension ltree schema ext; create extension hstore schema ext;
    create extension cube schema ext; create extension earthdistance schema ext; create extension intarray schema ext;
    create extension lo schema ext; create extension seg schema ext; create extension isn schema ext;
    create domain mail as citext;`);
  for (const [type, [one, other]] of Object.entries({ ...equals, mail: equals.citext! })) {
    const schema = (
      await sql`select n.nspname from pg_type t join pg_namespace n on n.oid = t.typnamespace where t.typname = ${type}`
    )[0]?.nspname;
    const qualified = schema === 'ext' ? `ext.${type}` : type;
    const value = (text: string) =>
      type === 'jsonb'
        ? JSON.parse(text)
        : text.startsWith('{')
          ? text
              .slice(1, -1)
              .split(',')
              .map(s => s.trim())
          : text;
    const { send, rows } = await make(`k ${qualified}, n int`, { '$.k': 'k', '$.n': 'n' }, { match_columns: ['k'] });
    t.equal((await send({ k: value(one), n: 1 })).status, 202, type);
    const again = await send({ k: value(other), n: 2 });
    t.equal(again.status, 202, again.text);
    t.match(await rows('n'), [{ n: 2 }], `${type}: ${one} is ${other}`);
    t.equal((await rows()).length, 1);
  }
  // Extension types of queries have no equality: they can be written, and nothing can be matched by them.
  for (const [type, text, bad] of [
    ['ext.lquery', 'Top.*{1,2}', 'Top.*{'],
    ['ext.ltxtquery', 'Europe & Russia', 'Europe &'],
    ['ext.query_int', '1 & 2', '1 &'],
  ] as const) {
    const { send, rows } = await make(`k ${type}`, { '$.k': 'k' });
    t.equal((await send({ k: text })).status, 202, type);
    t.match(await send({ k: bad }), { status: 422, json: { column: 'k' } }, type);
    t.match(await rows('k::text'), [{ k: text }], type);
  }
  for (const type of ['json', 'xml', 'point', 'json[]', 'ext.lquery', 'ext.ltxtquery', 'ext.query_int'])
    await t.rejects(make(`k ${type}`, { '$.k': 'k' }, { match_columns: ['k'] }), { code: 'CW054' }, type);
});

t.test('a trigger can use the operators of its table’s types', async t => {
  const { send, rows } = await make(
    'who citext',
    { '$.who': 'who' },
    {},
    `
    create function @_block() returns trigger language plpgsql as $$ begin
      if new.who = 'Mallory' then raise exception 'blocked'; end if; return new; end $$;
    create trigger block before insert on @ for each row execute function @_block()`,
  );
  t.match(await send({ who: 'mallory' }), { status: 422, json: { detail: /trigger/ } });
  t.equal((await send({ who: 'alice' })).status, 202);
  t.equal((await rows()).length, 1);
});

const suppressors: Record<string, string> = {
  'suppress_redundant_updates_trigger()':
    'create trigger s before update on @ for each row execute function suppress_redundant_updates_trigger()',
  'a trigger that returns null': `
    create function @_old() returns trigger language plpgsql as $$ begin
      if new.version <= old.version then return null; end if; return new; end $$;
    create trigger s before update on @ for each row execute function @_old()`,
  'a conditional rule': 'create rule s as on update to @ where new.version <= old.version do instead nothing',
  'an unconditional rule': 'create rule s as on update to @ do instead nothing',
};

t.test('a suppressed UPDATE is answered with 202 and the record, and creates no duplicate', async t => {
  for (const [how, statement] of Object.entries(suppressors)) {
    const { send, rows, id } = await make(
      'k text, version int',
      { '$.k': 'k', '$.version': 'version' },
      { match_columns: ['k'] },
      statement,
    );
    const first = await send({ k: 'a', version: 2 });
    const second = await send({ k: 'a', version: how.startsWith('suppress') ? 2 : 1 });
    t.strictSame([second.status, second.text], [202, first.text], how);
    t.match(await rows(), [{ version: 2 }]);
    t.equal((await rows()).length, 1);
    const kept =
      await sql`select operation from collecta.inbound_requests where inbound_endpoint_id = ${id} order by received_at`;
    t.strictSame(
      kept.map(row => row.operation),
      ['created', 'unchanged'],
    );
    if (how !== 'an unconditional rule') {
      t.equal((await send({ k: 'a', version: 3 })).status, 202);
      t.match(await rows(), [{ version: 3 }], 'and others are not');
    }
  }
});

t.test('a row hidden by row security is not duplicated, and the sender gets an error', async t => {
  const secured = `
    alter table @ enable row level security;
    create policy p on @ to collecta_writer using (owner = 'us') with check (true);
    create policy captured on @ for select to collecta_capture using (true);`;
  await t.rejects(make('k text, owner text', { '$.k': 'k' }, { match_columns: ['k'] }, secured), {
    code: 'CW054',
    hint: /create unique index/,
  });
  const { send, rows, name } = await make(
    `k text unique, owner text default 'us'`,
    { '$.k': 'k' },
    { match_columns: ['k'] },
    secured,
  );
  await sql.unsafe(`insert into ${name} (k, owner) values ('a', 'them')`);
  t.match(await send({ k: 'a' }), { status: 422, json: { detail: /row security may hide it/ } });
  t.equal((await rows()).length, 1);
});

t.test('match_where can be given or is taken from a partial unique index', async t => {
  const index = 'create unique index on @ (k) where deleted_at is null';
  for (const options of [{}, { match_where: 'deleted_at IS NULL -- live ones' }]) {
    const { send, rows, name } = await make(
      'k text, n int, deleted_at timestamptz',
      { '$.k': 'k', '$.n': 'n' },
      { match_columns: ['k'], ...options },
      index,
    );
    await sql.unsafe(`insert into ${name} (k, n, deleted_at) values ('a', 0, now()), ('a', 0, now())`);
    for (const n of [1, 2]) t.equal((await send({ k: 'a', n })).status, 202);
    t.strictSame(
      (await rows('n')).map(row => row.n),
      [0, 0, 2],
    );
    t.equal((await send({ k: 'a' })).status, 202, 'a payload that lacks a column');
  }
  await t.rejects(make('k text', { '$.k': 'k' }, { match_columns: ['k'], match_where: 'nothing is null' }), {
    code: 'CW054',
  });
  await t.rejects(make('k text', { '$.k': 'k' }, { match_where: 'k is null' }), { code: 'CW054' });
});

const forms: [type: string, form: string | null, json: string, stored: string | null][] = [
  ['timestamptz', 'epoch_seconds', '1712131200', '2024-04-03 08:00:00+00'],
  ['timestamptz', 'epoch_seconds', '1712131200.123456', '2024-04-03 08:00:00.123456+00'],
  ['timestamptz', 'epoch_seconds', '"-1.5"', '1969-12-31 23:59:58.5+00'],
  ['timestamptz', 'epoch_milliseconds', '1712131200123', '2024-04-03 08:00:00.123+00'],
  ['date', 'epoch_seconds', '1712131200', '2024-04-03'],
  ['timestamptz', 'epoch_seconds', '99999999999999', null],
  ['timestamptz', 'epoch_seconds', '"2026-11-24T12:00:00Z"', '2026-11-24 12:00:00+00'],
  ['int', 'empty_as_null', '""', ''],
  ['timestamptz', null, '1712131200', null],
  ['timestamptz', null, '171213', null],
  ['timestamp', null, '"1712131200"', null],
  ['date', null, '20261124', null],
  ['date', null, '"20261124"', '2026-11-24'],
  ['date', null, '"2026-11-24"', '2026-11-24'],
  ['date', null, '"Nov 24, 2026"', '2026-11-24'],
  ['timestamptz', null, '"Tue, 24 Nov 2026 15:04:05 +0200"', '2026-11-24 13:04:05+00'],
  ['timestamptz', null, '"20261124T150405Z"', '2026-11-24 15:04:05+00'],
  ['time', null, '"15:04:05"', '15:04:05'],
  ['time', null, '150405', null],
  ...[
    'now',
    'NOW ',
    'today',
    'tomorrow',
    'yesterday',
    'epoch',
    'infinity',
    '-infinity',
    'J2451187',
    'tomorrow 10:00',
  ].map((word): [string, null, string, null] => ['timestamptz', null, JSON.stringify(word), null]),
  ['time', null, '"allballs"', null],
  ['timestamptz', 'unchecked', '"epoch"', '1970-01-01 00:00:00+00'],
  ['timestamptz[]', null, '["2026-11-24", "now"]', null],
  ['timestamptz[]', null, '[1712131200]', null],
  ['tstzrange', null, '"[2026-11-24,infinity)"', null],
  ['tstzrange', null, '"[2026-11-24,2026-11-25)"', '["2026-11-24 00:00:00+00","2026-11-25 00:00:00+00")'],
  ['numeric', null, '"1e131000"', null],
  ['numeric', null, '"1e20"', '100000000000000000000'],
  ['numeric', null, '"NaN"', null],
  ['numeric', null, '"Infinity"', null],
  ['numeric', 'unchecked', '"NaN"', 'NaN'],
  ['numeric[]', null, '["1", "nan"]', null],
  ['float8', null, '"-inf"', null],
  ['float8', null, '1.5', '1.5'],
  ['numrange', null, '"[1e131000,)"', null],
  ['money10', null, '10.005', null],
  ['numeric(10,2)[]', null, '[10.005]', null],
];

t.test('a value is stored as it was meant, or refused with a 422 that names the column', async t => {
  await sql`create domain money10 as numeric(10,2)`;
  for (const [type, form, json, stored] of forms) {
    const { send, rows } = await make(`v ${type}`, { v: { path: '$.v', ...(form && { as: form }) } });
    const reply = await send(`{"v": ${json}}`);
    if (stored === null) {
      t.match(reply, { status: 422, json: { column: 'v', path: '$.v' } }, `${json} into ${type} ${form ?? ''}`);
      t.equal((await rows()).length, 0);
    } else {
      t.equal(reply.status, 202, `${json} into ${type} ${form ?? ''}: ${reply.text}`);
      t.equal((await rows(`coalesce(v::text, '') as v`))[0]?.v, stored);
    }
  }
});

t.test('a batch is atomic or per item, can refer to the whole payload, and is bounded', async t => {
  const mapping = { '$.n': 'n', '$$.from': 'source' };
  const all = await make('n int unique, source text', mapping, { each: '$.items', max_elements: 3 });
  const items = (...ns: unknown[]) => ({ from: 'press', items: ns.map(n => ({ n })) });
  const done = await all.send(items(1, 2));
  t.match(done, { status: 202, json: { recordIds: ['1', '2'] } });
  t.match(await all.rows(), [
    { n: 1, source: 'press' },
    { n: 2, source: 'press' },
  ]);
  t.match(await all.send(items(3, 'x')), { status: 422, json: { detail: /element 1: this string/, column: 'n' } });
  t.match(await all.send(items(3, 1)), { status: 422, json: { detail: /element 1: constraint/ } });
  t.equal((await all.rows()).length, 2, 'none of them');
  t.match(await all.send(items(1, 2, 3, 4)), { status: 422, json: { detail: /more than 3/ } });
  t.match(await all.send({ from: 'x' }), { status: 422, json: { detail: /no array/ } });
  t.match(await all.send(items()), { status: 202, json: { recordIds: [] } });

  const alone = await make('n int unique, source text', mapping, { each: '$.items', each_alone: true });
  const partly = await alone.send(items(1, 'x', 2), { 'webhook-id': 'batch' });
  t.match(partly, { status: 202, json: { results: [{ recordId: String }, { column: 'n' }, { recordId: String }] } });
  t.equal(
    (await alone.send(items(1, 'x', 2), { 'webhook-id': 'batch' })).text,
    partly.text,
    'repeated: the same answer',
  );
  t.equal((await alone.rows()).length, 2);
  t.equal((await alone.send(items('x'))).status, 422, 'none could be written');
  const [kept] =
    await sql`select state from collecta.inbound_requests where inbound_endpoint_id = ${alone.id} order by received_at`;
  t.equal(kept!.state, 'partial');
  await sql.unsafe(`alter table ${alone.name} alter n type text`);
  await sql`select collecta.retry_inbound(${alone.id})`;
  for (const until = Date.now() + 8000; Date.now() < until && (await alone.rows()).length < 3; );
  t.strictSame(
    (await alone.rows('n')).map(row => row.n).sort(),
    ['1', '2', 'x'],
    'what was written is not written again',
  );

  const single = await make('n int', { '$.n': 'n' });
  t.match(await single.send([{ n: 1 }, { n: 2 }]), { status: 422, json: { detail: /each/ } });
  const first = await make('n int', { '$[0].n': 'n' });
  t.equal((await first.send([{ n: 1 }])).status, 202);
  t.equal((await first.send([{ n: 1 }, { n: 2 }])).status, 422);
});

t.test('an endpoint for a module whose table was dropped is refused with its name', async t => {
  await sql.unsafe(
    `create table gone (id int primary key, a text); select collecta.attach_module('gone', 'gone-module');
      drop table gone`,
  );
  await t.rejects(makeEndpoint(sql, { '$.a': 'a' }, { module: 'gone-module' }), {
    code: 'CW051',
    message: /gone-module/,
  });
});
