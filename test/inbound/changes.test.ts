import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { useServer } from '../support/database.ts';
import { closeAgent, makeEndpoint, post, startReceiving } from '../support/inbound.ts';

// An endpoint and its table are changed while requests run.
const { database } = await useServer();
t.teardown(closeAgent);

type Answer = { n: number; status: number; text: string };

/** Sends requests on twelve connections until `stop` is called, which returns the answers. */
function flood(port: number, path: string, bodyOf: (record: object) => object = record => record) {
  const answers: Answer[] = [];
  let stopped = false;
  let n = 0;
  const senders = Array.from({ length: 12 }, async () => {
    while (!stopped) {
      const body = { n: ++n, a: `a${n}`, b: `b${n}` };
      const { status, text } = await post(port, path, bodyOf(body));
      answers.push({ n: body.n, status, text });
    }
  });
  return async () => {
    stopped = true;
    await Promise.all(senders);
    return answers;
  };
}

const created = `
  create table received (id text primary key default collecta.new_id('rec'), n int, x text, y text, z text, w text);
  select collecta.attach_module('received', 'received')`;

t.test('each request is written by one mapping, whichever is saved meanwhile', async t => {
  const target = await database();
  const { sql } = target;
  await sql.unsafe(created);
  const mappings = [
    { '$.n': 'n', '$.a': 'x', '$.b': 'y' },
    { '$.n': 'n', '$.a': 'z', '$.b': 'w' },
    { '$.n': 'n', '$.a': 'y', '$.b': 'x' },
  ];
  const { id, path } = await makeEndpoint(sql, mappings[0], { module: 'received', rate_limit_per_minute: 60000 });
  const receiving = await startReceiving(target);
  const stop = flood(receiving.port, path);
  for (let i = 1; i <= 120; i++) {
    const mapping = JSON.stringify(mappings[i % 3]);
    await sql`select collecta.update_inbound_endpoint(${id}, ${mapping}::text::jsonb)`;
    await pause(5);
  }
  const answers = await stop();
  await receiving.stop();
  const rows = await sql`
    select r.*, q.mapping_version - 1 as version from received r
    join collecta.inbound_requests q on q.record_id = r.id`;
  t.equal(rows.length, answers.filter(({ status }) => status === 202).length);
  t.ok(rows.length > 100, `${rows.length} records`);
  const mixed = rows.filter(({ n, x, y, z, w, version }) => {
    const [a, b] = [`a${n}`, `b${n}`];
    const expected = [
      [a, b, null, null],
      [null, null, a, b],
      [b, a, null, null],
    ][version % 3];
    return JSON.stringify([x, y, z, w]) !== JSON.stringify(expected);
  });
  t.strictSame(mixed, [], 'records that were written by parts of two mappings, or are said to be of another');
  // After a conflict a request is tried again, and in the end its sender is asked to.
  t.strictSame(
    answers.filter(({ status }) => status !== 202 && status !== 503),
    [],
  );
});

const batches = { each: '$.items', each_alone: true };
for (const [title, options, bodyOf] of [
  ['requests', {}, (record: object) => record],
  ['batches whose elements are written alone', batches, (record: object) => ({ items: [record] })],
] as const)
  t.test(`a table can be renamed, retyped and attached again while ${title} are written`, async t => {
    const target = await database();
    const { sql } = target;
    await sql.unsafe(created);
    await sql.unsafe(`
    create schema types;
    grant usage on schema types to public;
    create domain short_0 as text;
    alter table received alter column y type short_0`);
    const mapping = { '$.n': 'n', '$.a': 'x', '$.b': 'y' };
    const { path } = await makeEndpoint(sql, mapping, { module: 'received', rate_limit_per_minute: 60000, ...options });
    const receiving = await startReceiving(target);
    const stop = flood(receiving.port, path, bodyOf);
    let name = 'received';
    const renamed = (to: string) => {
      const statement = `alter table ${name} rename to ${to}`;
      name = to;
      return statement;
    };
    for (let i = 0; i < 8; i++)
      for (const change of [
        () => renamed(`received_${i}`),
        () => `alter table ${name} alter column x type ${i % 2 === 0 ? 'varchar(30)' : 'text'}`,
        () => `alter domain ${['public', 'types'][i % 2]}.short_${i} rename to short_${i + 1}`,
        () => `alter domain ${['public', 'types'][i % 2]}.short_${i + 1} set schema ${['types', 'public'][i % 2]}`,
        () => `select collecta.attach_module('${name}', 'received')`,
        () => (i % 2 === 0 ? `create unique index by_n on ${name} (n)` : 'drop index by_n'),
      ]) {
        await sql.unsafe(change());
        await pause(100);
      }
    const answers = await stop();
    await receiving.stop();
    t.strictSame(
      answers.filter(({ status }) => status !== 202),
      [],
    );
    const rows = await sql.unsafe(`select n, x, y from ${name} order by n`);
    t.strictSame(
      [...rows],
      answers
        .map(({ n }) => n)
        .sort((a, b) => a - b)
        .map(n => ({ n, x: `a${n}`, y: `b${n}` })),
    );
    t.strictSame(
      [...(await sql`select distinct state, sqlstate, error from collecta.inbound_requests`)],
      [{ state: 'accepted', sqlstate: null, error: null }],
      'what went wrong at first is not kept with what was accepted',
    );
  });
