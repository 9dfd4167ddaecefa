import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { parse, stringify } from 'lossless-json';
import t from 'tap';
import { type Json, lookUp, parsePath } from '../../src/inbound/payload.ts';
import {
  answerHandshake,
  read as readOne,
  senderKey,
  senderRow,
  verify,
  weakDigest,
} from '../../src/inbound/senders.ts';
import { useServer } from '../support/database.ts';
import { makeEndpoint } from '../support/inbound.ts';

// Mappings are compiled to SQL. What they make of hostile names, paths and payloads is compared with what
// jsonpath-plus finds, and with what was sent.
const { connect, database } = await useServer();

/** Names that would end a literal, a comment, a template or a format() where they are not quoted. */
const hostileNames = [
  'a', '0', '-1', '12', '__proto__', 'constructor', 'length', 'value', 'größe', '\u{1F600}', '$', '$$', '$body$',
  '$template$', '@fields@', '@', '%', '%s', '%1$s', '%%', '"', '""', '--', '/*', '*/', ';', ')', '(', '?', '*', 'a,b',
  'a.b', ' ', 'x y', '{', '}', '[0]', ':1', '@.x', '~', '#', '\u2028', '\u200b', 'E', 'x'.repeat(70), '\ufffd',
]; // biome-ignore format: a list

const step = fc.oneof(
  fc.constantFrom(...hostileNames).map(name => `['${name}']`),
  fc.constantFrom('.a', '.b', '.__proto__', '.length', '.constructor', '.list'),
  fc.constantFrom('[0]', '[1]', '[12]'),
);
const path = fc.array(step, { maxLength: 4 }).map(steps => `$${steps.join('')}`);
const key = fc.oneof(
  fc.constantFrom(...hostileNames, 'b', 'list', '1', ''),
  fc.constantFrom("'", '\\', "\\'", '`', "']", '\n', "'; drop table x; --"),
);
const scalar = fc.constantFrom(
  'null', 'true', 'false', '0', '-0', '1.0', '1e2', '12345678901234567890.10', '""', '"text"', '"\\u00e9"', '"{}"',
); // biome-ignore format: a list
const { document } = fc.letrec<{ document: string; inner: string }>(tie => ({
  document: fc.oneof({ weight: 1, arbitrary: scalar }, { weight: 6, arbitrary: tie('inner') }),
  inner: fc.oneof(
    fc
      .uniqueArray(fc.tuple(key, tie('document')), { maxLength: 5, selector: ([name]) => name })
      .map(members => `{${members.map(([name, value]) => `${JSON.stringify(name)}: ${value}`).join(', ')}}`),
    fc.array(tie('document'), { maxLength: 3 }).map(items => `[${items.join(',')}]`),
  ),
}));

t.test('compiled paths find what jsonpath-plus finds, on random paths and payloads', async t => {
  const { sql } = await database();
  let found = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(path, { minLength: 20, maxLength: 20 }),
      fc.array(document, { minLength: 8, maxLength: 8 }),
      fc.boolean(),
      async (paths, documents, isLarge) => {
        const mapping = Object.fromEntries(paths.map((each, i) => [`c${i}`, { path: each }]));
        const [compiled] = await sql`select collecta.fill_template(collecta.inbound_map_template(),
          collecta.inbound_map_parts(${JSON.stringify({ ...mapping, whole: { constant: 1 } })}::text::jsonb, '$.list',
            true, 100) || '{"mapping_version": 1}') as body`;
        await sql.unsafe(`create or replace function public.map_inbound_0(
          document json, mapping_version int, out elements json[], out problem text, out column_name text)
          language plpgsql stable as $map_of_test$${compiled!.body}$map_of_test$`);
        // A large element is reduced to what the paths name first.
        const padded = documents.map(text =>
          isLarge && text.startsWith('{')
            ? `{"of the filling": "${'x'.repeat(9000)}", ${text.slice(1).replace(/^}/, '"z": 1}')}`
            : text,
        );
        const payload = `{"list": [${padded.join(',')}]}`;
        const [row] = await sql`select elements::text[], problem from public.map_inbound_0(${payload}::text::json, 1)`;
        if (row!.problem !== null || row!.elements.length !== documents.length) throw new Error(row!.problem);
        for (const [i, text] of padded.entries()) {
          const whole = parse(text) as Json;
          const expected = Object.fromEntries([
            ...paths.flatMap((each, n) => {
              const value = lookUp(whole, parsePath(each));
              if (value !== undefined) found++;
              return value === undefined ? [] : [[`c${n}`, stringify(value)]];
            }),
            ['whole', '1'],
          ]);
          const { values, problem } = parse(row!.elements[i]) as { values: Record<string, Json>; problem?: string };
          if (problem !== undefined) {
            if (Object.keys(expected).length > 1) throw new Error(`${problem} ${text}`);
            continue;
          }
          const actual = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, stringify(value)]));
          for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)]))
            if (actual[name] !== expected[name])
              throw new Error(`${name} ${mapping[name]?.path} in ${text}: ${actual[name]}, not ${expected[name]}`);
        }
      },
    ),
    { numRuns: 150 },
  );
  t.ok(found > 100, `${found} values were found`);
});

const json = (value: unknown) => JSON.stringify(value);
const sources = ['header:x-a', 'query:q', '$.a', '$.a[*].b', '$[*]', '$', "$['a}']", "$['größe']"];
const noSources = [
  'header:X', 'header:', '$$', '$$.a', '$[*]a', '$.a[*][*]', '$.a[*].b[*]', '$..a', 'a', '', '[*]', '[*]$.a',
  'signature:t=', `$${`.${'a'.repeat(40)}`.repeat(12)}`, `$['${'\u{1F600}'.repeat(300)}']`,
]; // biome-ignore format: a list
const mostly = <T>(right: fc.Arbitrary<T>, wrong: readonly unknown[]) =>
  fc.oneof({ weight: 12, arbitrary: right }, { weight: 1, arbitrary: fc.constantFrom(...wrong) });
const source = mostly(fc.constantFrom(...sources), noSources) as fc.Arbitrary<string>;
const member = <T>(right: fc.Arbitrary<T>) => mostly(right, [null, 5, '', [], {}, true]);
const template = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        '{body}',
        '{form}',
        '{timestamp}',
        '{id}',
        '{url}',
        '{token}',
        'v0:',
        '.',
        '{',
        '}',
        '{}',
        '{other}',
      ),
      source.map(each => `{${each}}`),
    ),
    { maxLength: 4 },
  )
  .map(parts => parts.join(''));
const sender = fc.record({
  signatures: fc.array(
    member(fc.record(
      {
        in: member(source), separator: member(fc.constant(',')), prefix: member(fc.constant('v1=')),
        encoding: member(fc.constantFrom('hex', 'base64', 'plain')),
        hash: member(fc.constantFrom('sha256', 'sha1', 'sha512')),
        key: member(fc.constantFrom('text', 'base64')), signed: member(template), id: member(source),
        timestamp: member(fc.oneof(source, fc.constant('signature:t='))),
        max_age: member(fc.constantFrom(300, 1, 0, -1, 1e9)),
      },
      { requiredKeys: ['in', 'signed'] },
    )),
    { maxLength: 2 },
  ),
  handshakes: fc.array(
    member(fc.record(
      {
        method: member(fc.constantFrom('GET', 'POST', 'PUT')), answer: member(template), signed: member(fc.boolean()),
        when: member(fc.dictionary(source, member(fc.constantFrom<unknown>('x', true, '{token}')), { maxKeys: 2 })),
      },
      { requiredKeys: ['when', 'answer'] },
    )),
    { maxLength: 1 },
  ),
  ids: fc.array(mostly(source, [null]), { maxLength: 2 }) as fc.Arbitrary<string[]>,
  event: fc.option(source),
  ignored_events: fc.array(fc.option(fc.constant('ping'), { freq: 12 }), { maxLength: 1 }),
}); // biome-ignore format: one line for each related group of members

t.test('the receiver can use every sender that the database accepts', async t => {
  const { sql } = await database();
  await sql`create table received (id text primary key default collecta.new_id('rec'), a text)`;
  await sql`select collecta.attach_module('received', 'received')`;
  const made = await makeEndpoint(sql, { '$.a': 'a' }, { module: 'received' });
  const hash = createHash('sha256').update(made.path.split('/').at(-1)!).digest('hex');
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(sender, async row => {
      const saved = await sql`
        update collecta.inbound_senders set signatures = ${json(row.signatures)}::text::jsonb,
          handshakes = ${json(row.handshakes)}::text::jsonb, ids = ${row.ids}, event = ${row.event},
          ignored_events = ${row.ignored_events}
        where sender = 'collecta'`.catch(error => error as { code: string });
      if ('code' in saved) {
        if (saved.code !== 'CW057') throw saved;
        return;
      }
      accepted++;
      const [found] = await sql`select collecta.find_inbound_endpoint('received', ${hash}) -> 'sender' as sender`;
      const read = senderRow.parse(found!.sender);
      const document = parse('{"a": [{"b": "x"}]}') as Json;
      const headers = { 'x-a': 'v1=00' };
      const request = {
        headers,
        query: 'q=x',
        token: 'x',
        url: 'https://x.example/',
        body: Buffer.from('{}'),
        document,
      };
      for (const each of [...read.ids, ...(read.event === null ? [] : [read.event])]) readOne(each, request);
      const key = senderKey('secret', read);
      verify(read.signatures, [key], { ...request, headers: { 'x-a': `v1=${'0'.repeat(64)}` } }, 0);
      weakDigest(read.signatures, request);
      for (const { signed, answer, when } of [...read.signatures.map(each => ({ ...each, answer: '', when: {} })),
        ...read.handshakes.map(each => ({ ...each, signed: each.answer }))]) // biome-ignore format: both kinds
        for (const each of [
          ...Object.keys(when),
          ...[...`${signed}${answer}`.matchAll(/\{(header:|query:|\$)[^}]+\}/g)].map(([m]) => m.slice(1, -1)),
        ])
          readOne(each, request);
      for (const stage of ['before reading', 'verified'] as const)
        for (const method of ['GET', 'POST']) answerHandshake(read, method, request, stage);
    }),
    { numRuns: 1500 },
  );
  t.ok(accepted > 100, `${accepted} were accepted`);
});

/** Identifiers that would end a literal, a comment, a template or a format(), or that the written functions use. */
const identifiers = [
  "it's", '"quoted"', 'back\\slash', "\\'", 'new\nline', '$body$', '$template$', '%I', '%1$s', '%', '@table@', '--',
  '/*',
  'input', 'v', 't', 'w', 'elements', 'record_id', 'place', 'matching', 'keys', 'c', 'type', 'select', '\u{1F600}',
  'ä'.repeat(31), 'x'.repeat(63), 'A', ' ', 'given', 'element', 'found', 'name',
]; // biome-ignore format: a list
const ident = (name: string) => `"${name.replaceAll('"', '""')}"`;
const literal = (text: string) => `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

const kinds = ['text', 'int', 'numeric(8,2)', 'jsonb', 'text[]', 'enum', 'domain'];

t.test('every name of a schema, table, column and type, and every constant, is stored as it was written', async t => {
  const { sql: first, url, name: databaseName } = await database();
  await first.unsafe(`alter database ${databaseName} set standard_conforming_strings = off`);
  const sql = connect(url);
  const rowsOf = (table: string) => sql.unsafe(`select to_jsonb(r) - 'id' as row, id from ${table} r`);
  for (const [n, schema] of identifiers.entries()) {
    const tableName = identifiers[(n + 7) % identifiers.length]!;
    const table = `${ident(schema)}.${ident(tableName)}`;
    const columns = identifiers.map((name, i) => {
      const kind = kinds[(i + n) % kinds.length]!;
      const value: unknown =
        { int: i, 'numeric(8,2)': 12.5, jsonb: { [name]: [name, null] }, 'text[]': ['a', name] }[kind] ?? schema;
      return { name, kind, value };
    });
    const matched = columns.find(({ kind }) => kind === 'text')!.name;
    const where = columns.find(({ kind }) => kind === 'int')!.name;
    const typeOf = (kind: string) =>
      /enum|domain/.test(kind) ? `${ident(schema)}.${ident(`${kind} of ${schema}`.slice(0, 20))}` : kind;
    await sql.unsafe(`create schema ${ident(schema)};
      create type ${typeOf('enum')} as enum (${literal(schema)}, 'other');
      create domain ${typeOf('domain')} as text check (value <> 'never');
      create table ${table} (id text primary key default collecta.new_id('rec'),
        ${columns.map(each => `${ident(each.name)} ${typeOf(each.kind)}`).join(', ')}, fixed jsonb, otherwise jsonb);
      create unique index on ${table} (${ident(matched)}) where ${ident(where)} is not null;
      select collecta.attach_module(${literal(table)}::regclass, 'm${n}')`);
    const fixed = [schema, null, true, 12.5, [schema, { [schema]: schema }], { [schema]: [] }][n % 6];
    const mapping = {
      ...Object.fromEntries(columns.map(({ name }, i) => {
        const path = /^[^'\\`\n]+$/.test(name) ? `$.payload['${name}']` : `$.payload.c${i}`;
        return name.startsWith('$') ? [path, name] : [name, { path }];
      })),
      fixed: { constant: fixed }, otherwise: { path: '$.nothing', default: fixed },
    }; // biome-ignore format: two kinds of entries
    const { id } = await makeEndpoint(sql, mapping, { module: `m${n}`, match_columns: [matched] });
    const payload = Object.fromEntries(
      columns.flatMap(({ name, value }, i) => [
        [name, value],
        [`c${i}`, value],
      ]),
    );
    const expected = {
      ...Object.fromEntries(columns.map(({ name, value }) => [name, value])),
      fixed,
      otherwise: fixed,
    };
    const [{ number } = {}] = await sql`
      select function_number as number from collecta.inbound_endpoints where inbound_endpoint_id = ${id}`;
    const [accepted] = await sql.unsafe(`select ids from collecta.accept_inbound_${number}($1, null, null, null) ids`, [
      [JSON.stringify({ payload })],
    ]);
    t.strictSame([...(await rowsOf(table))], [{ id: accepted!.ids[0], row: expected }], `in one statement: ${schema}`);
    // Some columns are not in the payload, and keep their values. The names have changed meanwhile.
    const renamed = `${ident(`${schema.slice(0, 8)} renamed`)}.${ident(`${tableName.slice(0, 8)} renamed`)}`;
    await sql.unsafe(`alter schema ${ident(schema)} rename to ${renamed.split('.')[0]};
      alter table ${renamed.split('.')[0]}.${ident(tableName)} rename to ${renamed.split('.')[1]}`);
    const needed = [matched, where, `c${identifiers.indexOf(matched)}`, `c${identifiers.indexOf(where)}`];
    const some = Object.fromEntries(
      Object.entries(payload).filter(([name], i) => i % 2 === 0 || needed.includes(name)),
    );
    const [received] = await sql`
      select status, record_id, reason from collecta.receive_inbound(${id}, ${JSON.stringify({ payload: some })})`;
    t.strictSame(received, { status: 202, record_id: accepted!.ids[0], reason: null }, schema);
    t.strictSame([...(await rowsOf(renamed))], [{ id: accepted!.ids[0], row: expected }]);
    const tested = await sql`
      select column_name, problem
      from collecta.test_inbound_mapping(${id}, ${JSON.stringify({ payload })}::text::json)`;
    t.strictSame(
      tested.filter(({ problem }) => problem !== null),
      [],
      schema,
    );
  }
  t.strictSame([...(await sql`select problem, detail from collecta.health where severity = 'error'`)], []);
});
