import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { useServer } from '../support/database.ts';
import { closeAgent, makeEndpoint, post, startReceiving } from '../support/inbound.ts';

// Requests that arrive together are written in one transaction if that makes no difference to any of them.
const { database } = await useServer();
const db = await database();
const { sql } = db;
const receiving = await startReceiving(db);
t.teardown(async () => {
  await receiving.stop();
  await closeAgent();
});

let tables = 0;
async function make(columns: string, mapping: object, options: Record<string, unknown> = {}) {
  const name = `g${++tables}`;
  await sql.unsafe(
    `create table ${name} (id bigint generated always as identity primary key, ${columns});
     select collecta.attach_module('${name}', '${name}')`,
  );
  const made = await makeEndpoint(sql, mapping, { module: name, rate_limit_per_minute: 1000, ...options });
  const send = (body: unknown, headers: Record<string, string> = {}) => post(receiving.port, made.path, body, headers);
  const rows = async () => [...(await sql.unsafe(`select *, xmin::text as transaction from ${name} order by id`))];
  const kept = async () => [
    ...(await sql`select * from collecta.inbound_requests where inbound_endpoint_id = ${made.id} order by received_at`),
  ];
  return { name, ...made, send, rows, kept };
}
const transactions = (rows: Record<string, unknown>[]) => new Set(rows.map(row => row.transaction)).size;
/** Sends a few requests first, so that the plans of the statements are cached. */
const warm = async (send: (body: unknown) => Promise<{ status: number }>, t: Test, key = 'n') => {
  for (let n = -8; n < 0; n++) t.equal((await send({ [key]: n })).status, 202);
};

t.test('requests that arrive together share transactions; each gets its own answer and row', async t => {
  const { send, rows, kept } = await make('n int', { '$.n': 'n' });
  const answers = await Promise.all(Array.from({ length: 60 }, (_, n) => send({ n })));
  const written = await rows();
  t.ok(transactions(written) < 60, `60 requests in ${transactions(written)} transactions`);
  for (const [n, { status, json }] of answers.entries()) {
    t.equal(status, 202);
    t.equal(written.find(row => row.id === json.recordId)?.n, n, 'the id is that of its own record');
  }
  const requests = await kept();
  t.equal(requests.length, 60);
  for (const { record_id, body } of requests)
    t.equal(written.find(row => row.id === record_id)?.n, JSON.parse(body).n, 'and so is the kept request');
});

t.test('a request that fails or repeats another does not affect the rest of its group', async t => {
  const { send, rows, kept } = await make('n int unique', { '$.n': 'n' });
  t.equal((await send({ n: 7 }, { 'idempotency-key': 'seven' })).status, 202);
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, n) =>
      send({ n: n === 20 ? 'x' : n }, { 'idempotency-key': n === 7 ? 'seven' : n % 10 === 9 ? 'same' : `key-${n}` }),
    ),
  );
  const same = answers.filter((_, n) => n % 10 === 9).map(({ status }) => status);
  t.strictSame(same.sort(), [202, 422, 422, 422], 'one of those with the same key and other bodies');
  t.match(answers[20], { status: 422, json: { column: 'n' } });
  for (const [n, { status }] of answers.entries()) if (n !== 20 && n % 10 !== 9) t.equal(status, 202, `${n}`);
  t.equal((await rows()).length, 36);
  t.equal((await kept()).filter(({ state }) => state === 'failed').length, 4);
  const twice = await Promise.all([1, 2, 3, 4].map(() => send({ n: 99 }, { 'webhook-id': 'once' })));
  t.equal(new Set(twice.map(({ text }) => text)).size, 1, 'repeated at once: one answer');
  t.equal((await rows()).length, 37);
});

t.test('the rate limit is exact for requests that arrive together', async t => {
  const { send, rows } = await make('n int', { '$.n': 'n' }, { rate_limit_per_minute: 7 });
  const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => send({ n })));
  t.equal(answers.filter(({ status }) => status === 202).length, 7);
  t.equal(answers.filter(({ status }) => status === 429).length, 23);
  t.equal((await rows()).length, 7);
});

t.test('a locked record delays its own request, and no other for long', async t => {
  const { send, name } = await make('n int unique, m int', { '$.n': 'n', '$.m': 'm' }, { match_columns: ['n'] });
  for (let n = 0; n < 10; n++) t.equal((await send({ n, m: 0 })).status, 202);
  let release = () => {};
  let locked = () => {};
  const isLocked = new Promise<void>(done => {
    locked = done;
  });
  const holder = sql.begin(async tx => {
    await tx.unsafe(`select from ${name} where n = 3 for update`);
    locked();
    await new Promise<void>(done => {
      release = done;
    });
  });
  await isLocked;
  const waiting = send({ n: 3, m: 1 });
  await pause(10);
  const others = await Promise.race([
    Promise.all([0, 1, 2, 4, 5, 6, 7, 8, 9].map(n => send({ n, m: 1 }))),
    waiting.then(() => 'the one that waits was answered first'),
  ]);
  t.match(others, Array(9).fill({ status: 202 }));
  release();
  await holder;
  t.equal((await waiting).status, 202);
});

const notGrouped: Record<string, string> = {
  'a trigger': `create function @_f() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger f before insert on @ for each row execute function @_f()`,
  'a rule': 'create rule r as on insert to @ do also nothing',
  'row security': `alter table @ enable row level security; create policy p on @ using (true) with check (true)`,
  "a user's function in a default": `create function @_d() returns int language sql volatile as 'select 1';
    alter table @ add column d int default @_d()`,
  "a user's function in a check": `create function @_c(int) returns boolean language plpgsql
      as 'begin return true; end';
    alter table @ add constraint c check (@_c(n))`,
  'a deferrable constraint': 'alter table @ add constraint u unique (n) deferrable initially deferred',
};

t.test('code that could run between two requests’ records makes them use separate transactions', async t => {
  for (const [title, statement] of Object.entries(notGrouped)) {
    const { send, rows, name } = await make('n int', { '$.n': 'n' });
    await warm(send, t);
    await sql.unsafe(statement.replaceAll('@', name));
    const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => send({ n })));
    t.ok(
      answers.every(({ status }) => status === 202),
      title,
    );
    const written = (await rows()).filter(({ n }) => n >= 0);
    t.equal(written.length, 30);
    t.equal(transactions(written), 30, `${title}: each in a transaction of its own`);
  }
});

t.test('the next request after a change of the table uses its new definition', async t => {
  const { send, rows, name } = await make('n int, v numeric(10,2)', { '$.n': 'n', '$.v': 'v' });
  await warm(send, t);
  t.equal((await send({ n: 1, v: 1.2345 })).status, 422, 'it has more digits than the column keeps');
  await sql.unsafe(`alter table ${name} alter v type numeric(10,4)`);
  t.equal((await send({ n: 2, v: 1.2345 })).status, 202);
  t.equal((await rows()).find(({ n }) => n === 2)!.v, '1.2345');
  await sql.unsafe(`alter table ${name} alter v type float8`);
  t.equal((await send({ n: 3, v: 1e300 })).status, 202);

  await sql`create extension if not exists citext`;
  const matched = await make('n text unique', { '$.n': 'n' }, { match_columns: ['n'] });
  await warm(matched.send, t);
  await matched.send({ n: 'Bob@X.org' });
  const before = (await matched.rows()).length;
  await sql.unsafe(`alter table ${matched.name} alter n type citext`);
  t.equal((await matched.send({ n: 'bob@x.org' })).status, 202);
  t.equal((await matched.rows()).length, before, 'compared as citext from now on');

  const renamed = await make('n int, v text', { '$.n': 'n', '$.v': 'v' });
  await warm(renamed.send, t);
  await sql.unsafe(`alter table ${renamed.name} rename v to w; alter table ${renamed.name} add v int`);
  t.equal((await renamed.send({ n: 5, v: 'text' })).status, 422, 'the column of that name is another one now');
  t.equal((await renamed.send({ n: 5, v: 6 })).status, 422, 'which the writer has no rights on');
  await sql`select collecta.update_inbound_endpoint(${renamed.id})`;
  t.equal((await renamed.send({ n: 5, v: 6 })).status, 202);
  t.match((await renamed.rows()).at(-1), { v: 6, w: null });
});

t.test('without its generated function requests are written alone, until upkeep writes the function anew', async t => {
  const { id, send, rows } = await make('n int', { '$.n': 'n' });
  const [endpoint] = await sql`
    select function_number as n from collecta.inbound_endpoints where inbound_endpoint_id = ${id}`;
  const drop = (task: string, types: string) =>
    sql.unsafe(`drop function collecta.${task}_inbound_${endpoint!.n}(${types})`);
  await drop('accept', 'text[], text[], text[], text[]');
  t.equal((await send({ n: 0 })).status, 202);
  t.match([...(await sql`select * from collecta.broken_inbound_endpoints()`)], [{ inbound_endpoint_id: id }]);
  await sql`select collecta.maintain_inbound('[]')`;
  t.match(await sql`select * from collecta.broken_inbound_endpoints()`, { length: 0 });
  await drop('accept', 'text[], text[], text[], text[]');
  await drop('map', 'json, int');
  t.equal((await send({ n: 1 })).status, 202, 'a request that needs the function that maps has it written anew');
  t.match(await sql`select * from collecta.broken_inbound_endpoints()`, { length: 0 });
  t.equal((await send({ n: 2 })).status, 202);
  t.equal((await rows()).length, 3);
});

t.test('a module that is attached again or detached changes its endpoints at once', async t => {
  const { id, name, send, rows } = await make('n int, tenant text', { '$.n': 'n' });
  const isCurrent = async () => {
    const [row] = await sql`
      select functions_are_current as current from collecta.inbound_endpoints where inbound_endpoint_id = ${id}`;
    return row!.current;
  };
  await warm(send, t);
  t.equal(await isCurrent(), true);
  await sql`select collecta.attach_module(${name}, ${name}, scope_column => 'tenant')`;
  t.equal(await isCurrent(), false);
  t.equal((await send({ n: 0 })).status, 202);
  t.equal(await isCurrent(), true, 'the next request writes them anew');
  t.equal((await send({ n: 1 })).status, 202);
  await sql`select collecta.detach_module(${name})`;
  t.equal((await send({ n: 2 })).status, 404);
  await sql`select collecta.attach_module(${name}, ${name})`;
  t.equal((await send({ n: 3 })).status, 202);
  t.equal((await rows()).length, 8 + 3);
});

t.test('tables that exchange their names keep their own requests', async t => {
  const [one, other] = [await make('n int', { '$.n': 'n' }), await make('n int', { '$.n': 'n' })];
  await warm(one.send, t);
  await warm(other.send, t);
  await sql.unsafe(`alter table ${one.name} rename to exchanged; alter table ${other.name} rename to ${one.name};
    alter table exchanged rename to ${other.name}`);
  for (const n of [1, 2]) t.equal((await one.send({ n })).status, 202);
  t.equal((await other.rows()).length, 10, 'the table that was attached as the first module');
  t.equal((await one.rows()).length, 8);
});

t.test('a request that meets an open attach_module does not keep what the module was before', async t => {
  const { id, name, send } = await make(
    'n int, tenant text',
    { '$.n': 'n', '$.tenant': 'tenant' },
    {
      match_columns: ['n'],
    },
  );
  await warm(n => send({ ...(n as object), tenant: 'acme' }), t);
  await sql.unsafe(`create unique index on ${name} (n)`); // so the next request writes the functions anew
  const other = await sql.reserve();
  await other`begin`;
  await other`select collecta.attach_module(${name}, ${name}, scope_column => 'tenant')`;
  const waiting = send({ n: 1, tenant: 'acme' });
  await pause(300);
  await other`commit`;
  other.release();
  t.equal((await waiting).status, 202);
  t.equal((await send({ n: 2, tenant: 'acme' })).status, 202);
  const [row] = await sql`
    select e.written_for like '%:' || m.current_version || ':%' as is_current
    from collecta.inbound_endpoints e join collecta.modules m on m.slug = e.module
    where e.inbound_endpoint_id = ${id} and e.functions_are_current`;
  t.match(row, { is_current: true });
});

t.test('a request that meets an open detach_module finds no endpoint afterwards', async t => {
  const { name, send, kept } = await make('n int', { '$.n': 'n' });
  await warm(send, t);
  await sql`select collecta.attach_module(${name}, ${name})`; // so the next request writes the functions anew
  const other = await sql.reserve();
  await other`begin`;
  await other`select collecta.detach_module(${name})`;
  const waiting = send({ n: 1 });
  await pause(300);
  await other`commit`;
  t.equal((await waiting).status, 404);
  t.equal((await kept()).filter(row => row.state !== 'accepted').length, 0);

  await sql`select collecta.attach_module(${name}, ${name})`;
  await other`begin`;
  await other`select collecta.detach_module(${name})`;
  const creating = makeEndpoint(sql, { '$.n': 'n' }, { module: name });
  await pause(300);
  await other`commit`;
  other.release();
  await t.rejects(creating, { code: '40001' }, 'an endpoint of a module that is being detached');
});

t.test('endpoints of one table do not depend on each other', async t => {
  const { id, name } = await make('k text, w text', { '$.k': 'k' });
  const other = await makeEndpoint(sql, { '$.w': 'w' }, { module: name });
  await sql.unsafe(`alter table ${name} rename k to key_of_it`);
  await sql`select collecta.update_inbound_endpoint(${other.id}, rate_limit_per_minute => 30)`;
  t.equal((await post(receiving.port, other.path, { w: 'x' })).status, 202, 'a column of another endpoint is gone');
  const problems = await sql`select subject from collecta.health where problem = 'mapped column is gone'`;
  t.strictSame([...problems], [{ subject: id }]);
  await sql`select collecta.detach_module(${name})`;
  for (const each of [id, other.id]) await sql`select collecta.delete_inbound_endpoint(${each})`;
  const [left] = await sql`select count(*)::int as n from collecta.inbound_endpoints
    where inbound_endpoint_id in ${sql([id, other.id])} and state <> 'deleted'`;
  t.equal(left!.n, 0, 'both are deleted after their module was detached');
});

t.test('a lowered rate limit counts what was taken, and is used to its end', async t => {
  const { id, send, rows } = await make('n int', { '$.n': 'n' }, { rate_limit_per_minute: 3000 });
  await warm(send, t);
  const set = (limit: number) => sql`select collecta.update_inbound_endpoint(${id}, rate_limit_per_minute => ${limit})`;
  await set(20);
  const [slots] = await sql`
    select count(*)::int as slots, max(slot) as last, count(*) filter (where taken_at > '-infinity')::int as taken
    from collecta.inbound_budgets where inbound_endpoint_id = ${id}`;
  t.match(slots, { slots: 20, last: 20, taken: 8 });
  const answers = await Promise.all(Array.from({ length: 30 }, (_, n) => send({ n })));
  t.equal(answers.filter(({ status }) => status === 202).length, 12);
  t.equal((await rows()).length, 20);
  await set(40);
  // The process that receives hears of it by a notification.
  for (let tries = 0; (await send({ n: -1 })).status !== 202 && tries < 100; tries++) await pause(50);
  const more = await Promise.all(Array.from({ length: 30 }, (_, n) => send({ n })));
  t.equal(more.filter(({ status }) => status === 202).length, 19);
});

t.test('a copy of the database accepts nothing until somebody says what it is for', async t => {
  const { send, rows } = await make('n int', { '$.n': 'n' });
  const [original] = await sql`select database_oid from collecta.installation`;
  t.teardown(() => sql`update collecta.installation set database_oid = ${original!.database_oid}, delivers = true`);
  await sql`update collecta.installation set database_oid = 1`;
  t.equal((await send({ n: 1 })).status, 503);
  t.equal((await rows()).length, 0);
  await sql`update collecta.installation set delivers = false`;
  t.equal((await send({ n: 2 })).status, 202, 'a test database, as disable_copy() makes it, can be tested');
});

t.test('a budget that is nearly used up is used to its end, and not beyond', async t => {
  const { send, rows } = await make('n int', { '$.n': 'n' }, { rate_limit_per_minute: 40 });
  const answers: number[] = [];
  for (let n = 0; n < 36; n++) answers.push((await send({ n })).status);
  answers.push(...(await Promise.all(Array.from({ length: 8 }, async (_, n) => (await send({ n: 36 + n })).status))));
  t.equal(answers.filter(status => status === 202).length, 40);
  t.equal(answers.filter(status => status === 429).length, 4);
  t.equal((await rows()).length, 40);
});

t.test('an earlier request is found by its hash, also of an endpoint that the statistics do not know', async t => {
  const known = await make('n int', { '$.n': 'n' });
  const { id } = await make('n int', { '$.n': 'n' });
  await sql`
    insert into collecta.inbound_requests (request_id, inbound_endpoint_id, received_at, state, mapping_version,
      key_hash, body_digest, body)
    select collecta.new_id('req'), ${known.id}, now(), 'accepted', 1, md5(n::text), md5(n::text), '{}'
    from generate_series(1, 5000) n`;
  await sql`analyze collecta.inbound_requests`;
  for (const column of ['key_hash', 'body_digest']) {
    const plan = await sql.unsafe(`explain select from collecta.inbound_requests
      where inbound_endpoint_id = '${id}' and ${column} = any ('{a,b}')
        and state in ('accepted', 'partial', 'ignored')`);
    const condition = plan.map(row => String(row['QUERY PLAN'])).find(line => line.includes('Index Cond'));
    t.match(condition, `${column} = ANY`);
  }
});
