import fc from 'fast-check';
import { JSONPath } from 'jsonpath-plus';
import { LosslessNumber, parse, stringify } from 'lossless-json';
import t from 'tap';
import { type Json, lookUp, parsePath, readPayload } from '../../src/inbound/payload.ts';
import { useServer } from '../support/database.ts';

const { database } = await useServer();
const { sql } = await database();

/** What `map_inbound_<n>` makes of a payload: the function that this mapping is compiled to. */
async function map(mapping: object, payload: string, each: string | null = null, eachAlone = false) {
  const [compiled] = await sql`select collecta.fill_template(collecta.inbound_map_template(),
    collecta.inbound_map_parts(${JSON.stringify(mapping)}::text::jsonb, ${each}::text, ${eachAlone}, 3)
      || '{"mapping_version": 1}') as body`;
  await sql.unsafe(`create or replace function public.map_inbound_0(
    document json, mapping_version int, out elements json[], out problem text, out column_name text)
    language plpgsql stable as $map$${compiled!.body}$map$`);
  const [row] = await sql`
    select elements::text[], problem, column_name from public.map_inbound_0(${payload}::text::json, 1)`;
  return row!;
}

const accepted: Record<string, string[]> = {
  $: [],
  '$.payload.sku': ['payload', 'sku'],
  '$.a_b-c1[0][12]': ['a_b-c1', '0', '12'],
  "$['@type']": ['@type'],
  "$['*']['a,b']['(x)']['~']['..']['a.b']['a]b']['a;b']['%@%']['1:2']['?(1)']": [
    '*',
    'a,b',
    '(x)',
    '~',
    '..',
    'a.b',
    'a]b',
    'a;b',
    '%@%',
    '1:2',
    '?(1)',
  ],
  "$['größe ✓']": ['größe ✓'],
  '$.__proto__.constructor': ['__proto__', 'constructor'],
  [`$${'.a'.repeat(16)}`]: Array(16).fill('a'),
};
const refused = [
  '',
  '.',
  'payload.sku',
  '$payload',
  '$.',
  '$..a',
  '$.*',
  '$[*]',
  '$[-1]',
  '$[01]',
  '$[0:2]',
  '$[0,1]',
  "$['a','b']",
  "$['']",
  '$[]',
  '$["a"]',
  "$['a^']",
  "$['`a']",
  '$^',
  '$.a^',
  '$.a~',
  '$~',
  '$.a@string()',
  '$.@string()',
  '$@other()',
  '$[?(@.x)]',
  '$.missing[?(@.x)]',
  '$.missing[(@.length-1)]',
  '$[#0]',
  "$..[?(@.constructor[(@.getPrototypeOf(@).constructor('return 1')())])]",
  '$..a..a..a',
  '$..*..*..*..*',
  `$[${'0,'.repeat(200)}0]`,
  '__proto__',
  'constructor',
  'toString',
  'valueOf',
  '$.a b',
  '$.größe',
  '$ .a',
  '$.a ',
  '$.a\n',
  "$['a\nb']",
  "$['a\\b']",
  '$[1234567]',
  `$${'.a'.repeat(17)}`,
  `$.${'a'.repeat(511)}`,
  `$.${'a'.repeat(100_000)}`,
  '$.a..b',
  '$[ 0 ]',
  "$['a'",
  '$.a`b',
];

t.test('SQL and TypeScript accept the same path grammar and nothing else', async t => {
  const inSql = async (path: string) =>
    (await sql`select collecta.inbound_path_steps(${path}) as steps`)[0]!.steps as string[] | null;
  for (const [path, steps] of Object.entries(accepted)) {
    t.strictSame(await inSql(path), steps, `SQL: ${path}`);
    const names = parsePath(path).tokens.slice(1);
    t.strictSame(
      names.map(token => String(token).replace(/^`/, '')),
      steps,
      path,
    );
  }
  for (const path of refused) {
    t.equal(await inSql(path), null, `SQL refuses ${path.slice(0, 60)}`);
    t.throws(() => parsePath(path), path.slice(0, 60));
  }
});

t.test('SQL and TypeScript agree on random paths', async t => {
  const piece = fc.constantFrom(
    '$',
    '.',
    'a',
    '[',
    ']',
    "'",
    '0',
    '1',
    '^',
    '`',
    '*',
    '..',
    '@',
    '?(',
    ')',
    ',',
    ' ',
    '-',
    '_',
    "['b c']",
    '.x',
    '[2]',
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.array(piece, { maxLength: 8 }).map(pieces => `$${pieces.join('')}`),
        { minLength: 50, maxLength: 50 },
      ),
      async paths => {
        const rows = await sql`select collecta.inbound_path_steps(p) is not null as ok
          from unnest(${paths}::text[]) with ordinality u (p, n) order by n`;
        for (const [index, path] of paths.entries()) {
          let ok = true;
          try {
            // $$ is the whole payload, which only a mapping can name.
            parsePath(path.startsWith('$$') ? path.slice(1) : path);
          } catch {
            ok = false;
          }
          if (ok !== rows[index]!.ok) throw new Error(`differ on ${path}`);
        }
      },
    ),
    { numRuns: 40 },
  );
  t.pass('2,000 paths');
});

const inTypeScript = (document: unknown, path: string) => {
  const value = lookUp(parse(JSON.stringify(document)) as Json, parsePath(path));
  return value === undefined ? undefined : JSON.parse(stringify(value) as string);
};
const inSql = async (document: unknown, path: string) => {
  const { elements } = await map({ a: { path }, b: { whole: true } }, JSON.stringify(document));
  return JSON.parse(elements[0]!).a;
};

t.test('a path finds own members by their literal names', async t => {
  let checked = Promise.resolve();
  const at = (document: unknown, path: string) => {
    checked = checked.then(async () => {
      t.strictSame(await inSql(document, path), inTypeScript(document, path), `${path} in SQL`);
    });
    return inTypeScript(document, path);
  };
  t.equal(at({ payload: { sku: 'A' } }, '$.payload.sku'), 'A');
  t.equal(at([[{ a: null }]], '$[0][0].a'), null);
  t.equal(at({ a: 0, b: false, c: '' }, '$.a'), 0);
  t.equal(at({ b: false }, '$.b'), false);
  t.equal(at({ c: '' }, '$.c'), '');
  for (const document of [0, false, '', null, 'text', 5, []])
    t.strictSame(at(document, '$'), document, `whole ${JSON.stringify(document)}`);
  for (const document of [0, false, '', null, 'text', 5])
    t.equal(at(document, '$.length'), undefined, `nothing inside ${JSON.stringify(document)}`);
  for (const path of [
    '$.s.length',
    '$.s[0]',
    '$.arr.length',
    '$.n.value',
    '$.n.isLosslessNumber',
    '$.s[0][0]',
    '$.arr.at',
    '$.toString',
    '$.constructor',
    '$.__proto__',
    '$.s.__proto__',
  ])
    t.equal(at({ s: 'hello', arr: [1, 2], n: 5 }, path), undefined, path);
  t.equal(at({ '*': 1, a: 2 }, "$['*']"), 1);
  t.equal(at({ a: 2 }, "$['*']"), undefined, 'no wildcard where the member is missing');
  t.equal(at({ a: 1, b: 2 }, "$['a,b']"), undefined, 'no union where the member is missing');
  t.equal(at({ a: 1, b: 2, 'a,b': 3 }, "$['a,b']"), 3);
  t.equal(at({ x: { b: 2 } }, "$.x['a,b']"), undefined);
  for (const name of [
    '@type',
    '(x)',
    '~',
    '..',
    '?(@.x)',
    '1:2',
    'a.b',
    'a]b',
    'a;b',
    '%@%',
    '$',
    '#0',
    '@string()',
    '-1',
    ' ',
    '"',
  ])
    t.equal(at({ [name]: 'right', a: 'wrong', x: 'wrong', b: 'wrong' }, `$['${name}']`), 'right', name);
  t.equal(at({ a: [1, 2, 3] }, "$.a['0:2']"), undefined, 'no slice');
  const own = readPayload(Buffer.from('{"__proto__": {"a": 1}, "constructor": {"prototype": 2}}'));
  t.ok(own.ok && own.document);
  if (own.ok) {
    t.equal(
      stringify(lookUp(own.document, parsePath('$.__proto__'))),
      '{"a":1}',
      'an own __proto__ is a member like any other',
    );
    t.equal(({} as { a?: number }).a, undefined);
    t.equal(stringify(own.document), '{"__proto__":{"a":1},"constructor":{"prototype":2}}');
  }
  for (const [document, path] of [
    [[1, 2], "$['0']"],
    [[1, 2], "$['-1']"],
    [{ 0: 'x' }, '$[0]'],
    [{ a: [{ b: null }] }, '$.a[0].b'],
    [{ a: [{ b: null }] }, '$.a[1].b'],
    [{ 0: { a: 1 } }, '$[0].a'],
    [{ a: [[1]] }, "$.a['0'][0]"],
  ] as const)
    at(document, path);
  t.equal(at([1, 2], "$['0']"), undefined, 'a name is no index');
  t.equal(at({ 0: 'x' }, '$[0]'), undefined, 'an index is no name');
  await checked;
});

t.test('lookUp does not make the library keep memory', async t => {
  for (let i = 0; i < 10_000; i++) lookUp({ a: true }, parsePath(`$.a${i}`));
  t.equal(Object.keys(JSONPath.cache).length, 1);
});

t.test('a mapping handles missing, null, default, required, constant and whole values, and digits', async t => {
  const { elements } = await map(
    { '$.a': 'a', b: { path: '$.b', default: 7 }, c: { constant: 'erp' }, d: { whole: true } },
    '{"a": 12345678901234567890.10, "x": [1.0, 1e2, -0]}',
  );
  t.equal(
    elements[0].replace(/ /g, ''),
    '{"a":12345678901234567890.10,"b":7,"c":"erp","d":{"a":12345678901234567890.10,"x":[1.0,1e2,-0]}}',
  );
  t.strictSame(
    JSON.parse((await map({ a: { path: '$.a', default: 1 } }, '{"a": null}')).elements[0]),
    { a: null },
    'null is not missing',
  );
  t.match(await map({ '$.a': 'a', q: { path: '$.q', required: true } }, '{"a": true}'), {
    column_name: 'q',
    problem: /required/,
  });
  t.match(await map({ a: { path: '$.a', default: 1 }, c: { constant: 1 } }, '{"z": true}'), {
    column_name: null,
    problem: /nothing/,
  });
  await t.rejects(map({ '$..a': 'a' }, '{}'), { code: 'CW052' });
});

t.test('a payload that is an array is read whole, or needs each', async t => {
  t.match(await map({ '$[0].a': 'a', '$[1].a': 'b' }, '[{"a": 1}, {"a": 2}]'), { problem: null });
  t.match(await map({ '$[0].a': 'a', '$[1].a': 'b' }, '[{"a": 1}, {"a": 2}, {"a": 3}]'), { problem: /each => '\$'/ });
  t.match(await map({ '$.a': 'a' }, '[{"a": 1}]'), { problem: /each => '\$'/ });
  t.match(await map({ a: { path: "$['0']" } }, '["x"]'), { problem: /each => '\$'/ }, 'a name reads no element');
  t.match(await map({ a: { whole: true } }, '[1, 2]'), { problem: null, elements: [/\[1, 2\]/] });
  const batch = { '$.n': 'n', '$$.of': 'of' };
  const { elements } = await map(batch, '{"of": "x", "list": [{"n": 1}, {"n": 2}]}', '$.list');
  t.strictSame(
    elements.map((each: string) => JSON.parse(each)),
    [{ values: { n: 1, of: 'x' } }, { values: { n: 2, of: 'x' } }],
  );
  t.match(await map(batch, '{"list": 5}', '$.list'), { problem: /no array at \$\.list/ });
  t.match(await map(batch, '{"list": [1, 2, 3, 4]}', '$.list'), { problem: /more than 3/ });
  t.match(await map(batch, '[]', '$'), { problem: null, elements: { length: 0 } });
  const required = { n: { path: '$.n', required: true } };
  t.match(await map(required, '[{"n": 1}, {}]', '$'), {
    problem: /^element 1: /,
    column_name: 'n',
    elements: { length: 0 },
  });
  const alone = await map(required, '[{}, {"n": 1}]', '$', true);
  t.match(alone.problem, null);
  t.match(
    alone.elements.map((each: string) => JSON.parse(each)),
    [{ problem: /required/, column: 'n' }, { values: { n: 1 } }],
  );
});

t.test('a large payload takes no time for each column, nor for each element', async t => {
  const rest = Array.from({ length: 50_000 }, (_, n) => ({ n }));
  const columns = Array.from({ length: 30 }, (_, n) => `c${n}`);
  const mapping = Object.fromEntries(columns.map(name => [`$.${name}.v`, name]));
  const started = performance.now();
  const flat = { ...Object.fromEntries(columns.map(name => [name, { v: name }])), rest };
  const { elements } = await map(mapping, JSON.stringify(flat));
  t.strictSame(Object.values(JSON.parse(elements[0])), Object.keys(JSON.parse(elements[0])));
  t.match(await map(mapping, JSON.stringify({ rest })), { problem: /nothing/ });
  const batch = { list: [{ n: 1 }, { n: 2 }, { n: 3 }], a: 1, rest };
  const whole = Object.fromEntries(columns.map(name => [name, { path: '$$.a' }]));
  t.equal((await map({ '$.n': 'n', ...whole }, JSON.stringify(batch), '$.list')).elements.length, 3);
  t.ok(performance.now() - started < 5000, `${performance.now() - started} ms`);
});

t.test('epochs are converted exactly, and only those that are times', async t => {
  const value = async (as: string, payload: string) =>
    JSON.parse((await map({ a: { path: '$', as } }, payload)).elements[0]).a;
  t.equal(await value('epoch_seconds', '1712131200'), '2024-04-03T08:00:00.000000Z');
  t.equal(await value('epoch_seconds', '"1712131200.1234567"'), '2024-04-03T08:00:00.123456Z');
  t.equal(await value('epoch_milliseconds', '1712131200123.4567'), '2024-04-03T08:00:00.123456Z');
  t.equal(await value('epoch_seconds', '-0.000001'), '1969-12-31T23:59:59.999999Z');
  t.equal(await value('epoch_seconds', '253402300799.999999'), '9999-12-31T23:59:59.999999Z');
  t.equal(await value('epoch_seconds', '-62135596800'), '0001-01-01T00:00:00.000000Z');
  t.equal(await value('epoch_seconds', '253402300800'), 253402300800, 'the year 10000 stays a number');
  t.equal(await value('epoch_seconds', '-62135596801'), -62135596801);
  t.equal(await value('epoch_seconds', '"soon"'), 'soon');
  const endless = `1.${'1'.repeat(20_000)}`;
  t.equal(await value('epoch_seconds', `"${endless}"`), endless, 'more digits than numeric has');
  t.equal(await value('epoch_seconds', 'true'), true);
  t.equal(await value('empty_as_null', '""'), null);
  t.equal(await value('empty_as_null', '" "'), ' ');
});

t.test('readPayload returns any JSON digit for digit, or refuses it', async t => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), value => {
      const text = JSON.stringify(value);
      const payload = readPayload(Buffer.from(text));
      if (!payload.ok) return payload.status === 422;
      return JSON.stringify(JSON.parse(stringify(payload.document) as string)) === text;
    }),
    { numRuns: 500 },
  );
  const number = new LosslessNumber('123456789012345678901234567890.123456789');
  t.equal(
    stringify((readPayload(Buffer.from(`[${number.value}]`)) as { document: Json }).document),
    `[${number.value}]`,
  );
});

t.test('an invalid mapping is refused when it is saved, and the hint shows what to write', async t => {
  const cases: unknown[] = [
    {},
    [],
    'text',
    null,
    { '$.a': 5 },
    { '$.a': { path: '$.b' } },
    { a: '$.b' },
    { a: {} },
    { a: { path: 5 } },
    { a: { path: '$.a', constant: 1 } },
    { a: { path: '$.a', whole: true } },
    { a: { whole: false } },
    { a: { constant: 1, required: true } },
    { a: { path: '$.a', default: 1, required: true } },
    { a: { path: '$.a', required: 'yes' } },
    { a: { path: '$.a', other: 1 } },
    { '$..a': 'a' },
    { a: { path: '$.a[?(@.b)]' } },
    { '$.missing[(@.length-1)]': 'a' },
  ];
  for (const mapping of cases) {
    const error = await sql`select * from collecta.read_inbound_mapping(${JSON.stringify(mapping)}::text::jsonb)`.catch(
      (error: unknown) => error,
    );
    t.match(error, { code: 'CW052', hint: /is a mapping/ }, JSON.stringify(mapping));
  }
});
