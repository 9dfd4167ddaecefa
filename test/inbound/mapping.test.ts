import fc from 'fast-check';
import { JSONPath } from 'jsonpath-plus';
import { LosslessNumber, parse, stringify } from 'lossless-json';
import t from 'tap';
import {
  compileMapping,
  type Json,
  lookUp,
  type Mapping,
  mapPayload,
  pathTokens,
  readPayload,
} from '../../src/inbound/mapping.ts';
import { useServer } from '../support/database.ts';

const { database } = await useServer();
const { sql } = await database();

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
    t.strictSame(
      pathTokens(path)
        .slice(1)
        .map(token => String(token).replace(/^`/, '')),
      steps,
      path,
    );
  }
  for (const path of refused) {
    t.equal(await inSql(path), null, `SQL refuses ${path.slice(0, 60)}`);
    t.throws(() => pathTokens(path), path.slice(0, 60));
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
            // $$ is the whole payload; mapping.ts removes the first $.
            pathTokens(path.startsWith('$$') ? path.slice(1) : path);
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

const at = (document: unknown, path: string) => {
  const value = lookUp(parse(JSON.stringify(document)) as Json, path, pathTokens(path));
  return value === undefined ? undefined : JSON.parse(stringify(value) as string);
};

t.test('lookUp finds own members by their literal names', async t => {
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
      stringify(lookUp(own.document, '$.__proto__', pathTokens('$.__proto__'))),
      '{"a":1}',
      'an own __proto__ is a member like any other',
    );
    t.equal(({} as { a?: number }).a, undefined);
    t.equal(stringify(own.document), '{"__proto__":{"a":1},"constructor":{"prototype":2}}');
  }
});

t.test('lookUp does not make the library keep memory', async t => {
  for (let i = 0; i < 10_000; i++) lookUp({ a: true }, `$.a${i}`, pathTokens(`$.a${i}`));
  t.equal(Object.keys(JSONPath.cache).length, 1);
});

const fields = (entries: object[]) =>
  compileMapping(
    parse(
      JSON.stringify(
        entries.map(entry => ({
          path: null,
          required: false,
          hasFallback: false,
          fallback: null,
          constant: null,
          forms: [],
          ...entry,
        })),
      ),
    ),
  );
const one = (mapping: Mapping) => ({ mapping, each: null, eachAlone: false, maxElements: 1000 });

t.test('mapPayload handles missing, null, default, required, constant and whole values, and digits', async t => {
  const mapping = fields([
    { column: 'a', path: '$.a' },
    { column: 'b', path: '$.b', hasFallback: true, fallback: 7 },
    { column: 'c', constant: 'erp' },
    { column: 'd', path: '$' },
  ]);
  const document = parse('{"a": 12345678901234567890.10, "x": [1.0, 1e2, -0]}') as Json;
  t.equal(
    mapPayload(one(mapping), document).elements[0],
    '{"a":12345678901234567890.10,"b":7,"c":"erp","d":{"a":12345678901234567890.10,"x":[1.0,1e2,-0]}}',
  );
  t.equal(
    mapPayload(one(fields([{ column: 'a', path: '$.a', hasFallback: true, fallback: 1 }])), { a: null }).elements[0],
    '{"a":null}',
    'null is not missing',
  );
  t.match(
    mapPayload(
      one(
        fields([
          { column: 'a', path: '$.a' },
          { column: 'q', path: '$.q', required: true },
        ]),
      ),
      { a: true },
    ),
    { column: 'q', problem: /required/ },
  );
  t.match(
    mapPayload(
      one(
        fields([
          { column: 'a', path: '$.a', hasFallback: true },
          { column: 'c', constant: 1 },
        ]),
      ),
      { z: true },
    ),
    { column: null, problem: /nothing/ },
  );
  t.throws(() => fields([{ column: 'a', path: '$..a' }]));
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
    t.match(error, { code: 'CW052', hint: /mapping =>/ }, JSON.stringify(mapping));
  }
});
