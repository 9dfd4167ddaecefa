import fc from 'fast-check';

/** The encoding of the database, which decides what hostile text is possible. */
export type Encoding = 'UTF8' | 'SQL_ASCII' | 'LATIN1';

const bytea = (bytes: Uint8Array) => `'\\x${Buffer.from(bytes).toString('hex')}'::bytea`;
const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;

/** Text that has broken some program: quoting, formats, templates, displays, JSON. */
const texts = [
  '',
  ' ',
  "'",
  '"',
  '\\',
  '\\\\',
  "\\'; drop table collecta.events; --",
  '%',
  '%s%I%L%1$s%%',
  '$1',
  '$$ $template$ $body$',
  '@module_id@ @slug@ @relations@',
  '{"a":',
  '}]}',
  'null',
  '"',
  '\\u0000',
  '\\ud800',
  '\u0001\u0002\u0008\u000b\u001b[31m\u001f\u007f',
  '\t\r\n',
  '\u0085\u00a0\u2028\u2029\ufeff',
  '\u202e\u2066abc\u2069',
  'ﬁ İ ı ß e\u0301 \u1fb3',
  '😀👩‍👩‍👧‍👦',
  '\ufffd\ufffe\uffff\u{10ffff}',
  '__proto__',
  'constructor',
  'infinity',
  'NaN',
  '-0',
  '1e200000',
  'a'.repeat(3_000),
  '€'.repeat(3_000),
];

/** An SQL expression of type text. */
function text(encoding: Encoding): fc.Arbitrary<string> {
  const given = fc.oneof(fc.constantFrom(...texts), fc.string({ unit: 'binary', maxLength: 60 }));
  const bytes = given.map(value => new Uint8Array(Buffer.from(value.replaceAll('\0', '?'), 'utf8')));
  const raw = fc.uint8Array({ min: 1, maxLength: 60 });
  const own = encoding === 'UTF8' ? bytes : fc.oneof(bytes, raw, raw);
  return fc.oneof(
    { arbitrary: own.map(value => `convert_from(${bytea(value)}, '${encoding}')`), weight: 8 },
    // Compressed, this text fits into the user's index. It is too long for any index that holds it in another form.
    { arbitrary: fc.constantFrom(200_000, 1_000_000).map(size => `repeat('x', ${size})`), weight: 1 },
    {
      arbitrary: fc
        .integer({ min: 100, max: 40_000 })
        .map(count => `(select string_agg(md5(g::text), '') from generate_series(1, ${count}) g)`),
      weight: 1,
    },
  );
}

/** An SQL expression of type json. `depth` is the maximum depth that the server parses. */
function json(encoding: Encoding, depth: number): fc.Arbitrary<string> {
  const levels = fc.constantFrom(100, 1_000, 3_000, depth - 200, depth - 20, depth - 2, depth - 1, depth);
  return fc.oneof(
    fc
      .constantFrom(
        'null',
        '""',
        '-0',
        '1e200000',
        '-1.0e-200000',
        '"\\u0000"',
        '{"\\u0000": "\\u0000"}',
        '"\\ud800"',
        '["\\udc00\\ud800", "\\ud83d\\ude00"]',
        '"\\u007f\\u202e"',
        '{"a": 1, "a": 2, "": 3}',
        '{"__proto__": {"x": 1}, "constructor": null}',
        ' \t{ "a" :\n[ ] } ',
        '{"$truncated": true, "$custom_data_changed": true}',
      )
      .map(value => `${literal(value)}::json`),
    fc.json({ maxDepth: 4 }).map(value => `convert_from(${bytea(Buffer.from(value))}, '${encoding}')::json`),
    levels.map(count => `(repeat('[', ${count}) || repeat(']', ${count}))::json`),
    levels.map(count => `(repeat('{"a":', ${count}) || '1' || repeat('}', ${count}))::json`),
    fc.constantFrom(100_000, 131_072).map(digits => `(repeat('9', ${digits}))::json`),
    text(encoding).map(value => `to_json(${value})`),
    text(encoding).map(value => `json_build_object(${value}, ${value})`),
  );
}

const numeric = fc.oneof(
  fc.constantFrom("'NaN'", '0.0000', '-0.1', "'1e-16383'").map(value => `${value}::numeric`),
  fc.constantFrom(2_000, 5_000, 8_000, 131_072).map(digits => `(repeat('7', ${digits}))::numeric`),
  fc.constantFrom(1_000, 16_383).map(digits => `('0.' || repeat('7', ${digits}))::numeric`),
  fc.constant(`('1' || repeat('0', 131071))::numeric`),
);
const longBytea = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map(bytea),
  fc
    .constantFrom(1_300, 1_400, 2_600, 100_000)
    .map(size => `(select string_agg(sha256(g::text::bytea), '') from generate_series(1, ${Math.ceil(size / 32)}) g)`),
  fc.constantFrom(100_000, 500_000).map(size => `decode(repeat('00', ${size}), 'hex')`),
);
const from = (type: string, ...values: string[]) =>
  fc.constantFrom(...values).map(value => `${literal(value)}::${type}`);

/** For each type, expressions of hostile values. An extension's types are used if the extension is installed. */
export function hostileValues(encoding: Encoding, depth: number): Record<string, fc.Arbitrary<string>> {
  const anyText = text(encoding);
  return {
    text: anyText,
    json: json(encoding, depth),
    jsonb: json(encoding, depth).map(value => `(${value})::text::jsonb`),
    numeric,
    bytea: longBytea,
    float8: from('float8', 'NaN', 'Infinity', '-Infinity', '-0', '5e-324', '1.7976931348623157e308'),
    timestamptz: from('timestamptz', 'infinity', '-infinity', '4713-01-01 BC', '294276-12-31', '2000-02-30 BC'),
    date: from('date', 'infinity', '-infinity', '4713-01-01 BC', '5874897-12-31'),
    timetz: from('timetz', '24:00:00-15:59', '00:00:00+15:59'),
    interval: from('interval', '-178000000 years', '178956970 years 7 mons', '1 mon -1 day 00:00:00.000001'),
    xml: anyText.map(value => `xmlelement(name a, ${value})`),
    tsvector: anyText.map(value => `to_tsvector('simple', left(${value}, 100000))`),
    name: anyText.map(value => `left(${value}, 60)::name`),
    '"char"': anyText.map(value => `${value}::"char"`),
    'text[]': fc.array(anyText, { maxLength: 4 }).map(list => `array[${list.join(', ')}]::text[]`),
    'int[]': from('int[]', '[-5:-4]={1,2}', '{{{1},{NULL}}}', '{}', '{NULL}'),
    point: from('point', '(NaN,1)', '(Infinity,-Infinity)', '(1e300,-0)'),
    polygon: from('polygon', '((0,0),(NaN,1),(1,Infinity))'),
    int4range: from('int4range', 'empty', '(,)', '[2147483646,2147483647)'),
    tstzrange: from('tstzrange', '[-infinity,infinity]', '(,)'),
    bit: from('bit', '1'),
    'bit varying': fc.constantFrom(`repeat('10', 20000)::varbit`, `''::varbit`),
    inet: from('inet', '::ffff:1.2.3.4/0', '255.255.255.255/32', 'fe80::1/64'),
    money: from('money', '-92233720368547758.08', '92233720368547758.07'),
    pg_lsn: from('pg_lsn', 'FFFFFFFF/FFFFFFFF', '0/0'),
    jsonpath: from('jsonpath', '$."\\"', '$.a ? (@ like_regex "%")', 'lax $.**{2 to last}'),
    odd_label: from('odd_label', '', "it's", '"', '%', '\\', '{a,b}', 'ö'),
    odd_record: anyText.map(value => `row(${value}, null)::odd_record`),
    geometry: from(
      'geometry',
      'POINT(NaN 1)',
      'POINT EMPTY',
      'CIRCULARSTRING(0 0, 1 1, 2 0)',
      'POLYHEDRALSURFACE(((0 0 0, 0 1 0, 1 1 0, 0 0 0)))',
      'GEOMETRYCOLLECTION(POINT(Infinity 1))',
    ),
    hstore: anyText.map(value => `hstore(${value}, null)`),
  };
}

const token = "abcXYZ019!#$%&'*+-.^_`|~";
/** The name and value of a header that an endpoint might be given; most are refused. */
export const hostileHeader: fc.Arbitrary<[string, string]> = fc.tuple(
  fc.oneof(
    fc.constantFrom(
      ...[
        'x-%',
        'x-100%s',
        "x-'",
        'x-`|~',
        'X-UPPER',
        '__proto__',
        'constructor',
        'toString',
        'cookie',
        'x'.repeat(128),
      ],
      ...['host', 'Content-Length', 'transfer-encoding', 'expect', 'upgrade', 'webhook-id', 'x-webhook-signature', ''],
      ...['x y', 'x:y', 'x\n', 'ö', ':path', 'accept-encoding', 'traceparent', 'content-type', 'date', 'keep-alive'],
    ),
    fc.string({ unit: fc.constantFrom(...token), minLength: 1, maxLength: 20 }),
  ),
  fc.oneof(
    fc.constantFrom(
      '',
      ' ',
      '%s%I',
      '\t',
      'a\r\nb: c',
      'ö',
      '"',
      '\\',
      'x'.repeat(4_096),
      '\u007f',
      ',',
      ';',
      '1',
      '$$',
    ),
    fc.string({ maxLength: 40 }),
  ),
);

/** A URL that an endpoint might be given. `here` is the host and port of the receiver. */
export const hostileUrl = (here: string): fc.Arbitrary<string> =>
  fc.oneof(
    fc
      .oneof(
        fc.constantFrom(
          '/%',
          '/%00',
          '/%ff',
          '/?',
          '/??&=',
          '/..//../%2e%2e/',
          '/\'"<>`{}|^',
          '/ö',
          '/\u202e',
          '/%s%I%L',
        ),
        fc.constantFrom(`/${'a'.repeat(1_900)}`, '/a b', '/\t', '/a#b', '/\\', '?x', '/[x]', '/;:@&=+$,'),
        fc.webPath(),
        fc.string({ unit: 'binary', maxLength: 30 }).map(path => `/${path}`),
      )
      .map(path => `http://${here}${path}`),
    fc.constantFrom(
      `http://${here.replace('127.0.0.1', '127.0.0.1.')}/`,
      `http://${here.replace('127.0.0.1', '0177.0.0.1')}/`,
      `http://${here.replace('127.0.0.1', '0x7f.1')}/`,
      `http://${here.replace('127.0.0.1', '2130706433')}/`,
      `http://${here.replace('127.0.0.1', '[::ffff:7f00:1]')}/`,
      `http://${here.replace('127.0.0.1', '127。0。0。1')}/`,
      `http://user:pass@${here}/`,
      `HTTP://${here}/`,
      'http://127.0.0.1:0/',
      'http://127.0.0.1:65536/',
      'http://127.0.0.1:22/',
      'http://[::1%25lo]/',
      'http://169.254.169.254/latest/meta-data',
      'http://xn--/',
      'http://a..b/',
      'http://-/',
      'http://*/',
      `http://${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(63)}/`,
      'https://127.0.0.1/',
      'ftp://127.0.0.1/',
      'http:/127.0.0.1/',
      'http://',
      '',
    ),
  );

const crlf = '\r\n';
const odd = fc.constantFrom(
  ...['%', '%s%I%L', "'", '"', '\\', '\\u0000', '{"a":', '@slug@', '$1', '__proto__', 'constructor', 'toString', 'x'],
);
const headerName = fc.oneof(
  odd.filter(name => /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)),
  fc.constantFrom(
    'x y',
    'x\u0001',
    'ö',
    '',
    '\u0000',
    'x'.repeat(70_000),
    'set-cookie',
    'authorization',
    'retry-after',
  ),
  fc.string({ unit: fc.constantFrom(...token), minLength: 1, maxLength: 12 }),
);
const headerValue = fc.oneof(
  odd,
  fc.constantFrom(
    '',
    '\u0000',
    '\u0007',
    '\t',
    '\u00ff\u00fe',
    'ö\u202e',
    '\ud83d',
    'x'.repeat(9_000),
    'x'.repeat(70_000),
  ),
  fc.constantFrom('0', '-1', '1', '1e9', 'soon', 'Thu, 01 Jan 1970 00:00:00 GMT', '99999999999999999999', '1.5'),
);
const body: fc.Arbitrary<Buffer> = fc.oneof(
  fc.uint8Array({ maxLength: 60 }).map(bytes => Buffer.from(bytes)),
  fc.constantFrom('\u0000', '\\u0000', '"\\ud800"', '%s%I', '\u202e', "'", '\\', 'ok').map(each => Buffer.from(each)),
  fc.constantFrom(Buffer.from('eda080edb080', 'hex'), Buffer.from('c080ff', 'hex'), Buffer.from('f09f98', 'hex')),
  fc.constantFrom(16_383, 16_384, 16_385, 1_000_000).map(size => Buffer.alloc(size, 'é')),
  fc.constant(Buffer.from('['.repeat(20_000))),
);

/** The bytes that a receiver sends as its answer before it closes the connection. */
export const hostileAnswer: fc.Arbitrary<Buffer> = fc
  .record({
    version: fc.oneof(
      { arbitrary: fc.constant('HTTP/1.1'), weight: 12 },
      { arbitrary: fc.constantFrom('HTTP/1.0', 'HTTP/2', 'HTTP/9.9', 'ICY', '', '\u0000'), weight: 1 },
    ),
    status: fc.oneof(
      fc.constantFrom('200', '201', '204', '205', '299', '304', '400', '404', '410', '418', '429', '500', '503', '599'),
      fc.constantFrom('000', '099', '100', '102', '199', '600', '999', '1000', '20', '2', '-1', '٢٠٠', '2e2', '', 'OK'),
    ),
    reason: fc.constantFrom(' OK', '', ' ', ' %s', ' \u0000', ' ö', ' \u202e', ` ${'x'.repeat(20_000)}`),
    headers: fc.array(fc.tuple(headerName, headerValue), { maxLength: 5 }),
    lengths: fc.oneof(
      { arbitrary: fc.constant('right' as const), weight: 4 },
      {
        arbitrary: fc.constantFrom(
          'none',
          'short',
          'long',
          'twice',
          'negative',
          'huge',
          'word',
          'chunked',
          'both',
          'broken',
        ),
        weight: 4,
      },
    ),
    body,
    before: fc.constantFrom(
      '',
      '',
      '',
      'HTTP/1.1 100 Continue\r\n\r\n',
      'HTTP/1.1 103 Early Hints\r\nlink: %\r\n\r\n',
      '\r\n',
    ),
    cut: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { freq: 5 }),
  })
  .map(({ version, status, reason, headers, lengths, body, before, cut }) => {
    const chunked = Buffer.concat([
      Buffer.from(`${body.length.toString(16)};%="x"${crlf}`),
      body,
      Buffer.from(`${crlf}0${crlf}x-trailer: %${crlf}${crlf}`),
    ]);
    const length = {
      right: [`content-length: ${body.length}`],
      none: [],
      short: [`content-length: ${Math.max(0, body.length - 1)}`],
      long: [`content-length: ${body.length + 7}`],
      twice: [`content-length: ${body.length}`, `content-length: ${body.length + 1}`],
      negative: ['content-length: -1'],
      huge: ['content-length: 99999999999999999999'],
      word: ['content-length: many'],
      chunked: ['transfer-encoding: chunked'],
      both: ['transfer-encoding: chunked', `content-length: ${body.length}`],
      broken: ['transfer-encoding: chunked'],
    }[lengths];
    const lines = [`${version} ${status}${reason}`, ...headers.map(([name, value]) => `${name}: ${value}`), ...length];
    const sent = lengths === 'chunked' || lengths === 'both' ? chunked : body;
    const whole = Buffer.concat([Buffer.from(`${before}${lines.join(crlf)}${crlf}${crlf}`, 'utf8'), sent]);
    return cut === null ? whole : whole.subarray(0, Math.floor(whole.length * cut));
  });
