/** The same round trip runs in databases of other locales and encodings, and its results equal those in C.UTF-8. */
import t from 'tap';
import { openPool } from '../../src/database/pool.ts';
import { createLog } from '../../src/log.ts';
import { createClaimer } from '../../src/outbound/claim.ts';
import { subscribe } from '../support/changes.ts';
import { type Text, useServer } from '../support/database.ts';
import { makeEndpoint, makeModule, post, startReceiving } from '../support/inbound.ts';
import { type RoundTrip, roundTrip } from '../support/round-trip.ts';

const { admin, database } = await useServer();
const [version] = await admin`select current_setting('server_version_num')::int / 10000 as major`;

/** The results of the round trip with `word`, which is shown as WORD. */
async function results(text: Text | undefined, word: string, options: RoundTrip = {}): Promise<string[]> {
  const lines = await roundTrip(await database('installed', text), { word, ...options });
  return lines.map(line => line.replaceAll(word, 'WORD'));
}

const usual = await results(undefined, 'plain');

const places: [Text, word: string][] = [
  [{ locale: 'tr-TR' }, 'İıIiğ'],
  [{ locale: 'az' }, 'İıIiə'],
  [{ locale: 'lt' }, 'Ìįy'],
  [{ locale: 'de' }, 'Äßä'],
  [{ locale: 'C', encoding: 'LATIN1' }, 'äé'],
  [{ locale: 'tr-TR', encoding: 'LATIN5' }, 'İıIiğ'],
  [{ locale: 'C', encoding: 'LATIN2' }, 'łž'],
  [{ locale: 'C', encoding: 'LATIN9' }, '€š'],
  [{ locale: 'C', encoding: 'KOI8R' }, 'Жд'],
  [{ locale: 'C', encoding: 'ISO_8859_5' }, 'Жћ'],
  [{ locale: 'C', encoding: 'WIN1252' }, '€“ä'],
  [{ locale: 'C', encoding: 'EUC_JP' }, '日本'],
  [{ locale: 'C', encoding: 'SQL_ASCII' }, 'äЖ'],
];

for (const [text, word] of places) {
  const icu = !text.locale?.startsWith('C');
  t.test(
    `${text.encoding ?? 'UTF8'}, ${text.locale}: events arrive both ways`,
    { skip: icu && version!.major < 15 && 'ICU is for databases of 15' },
    async t => {
      t.strictSame(await results(text, word), usual);
    },
  );
}

const thumb = '\u{1f44d}';
const hostile = Buffer.concat([Buffer.from(`{"answer": "${thumb} 日本 ä"} `), Buffer.from([0xff, 0x80, 0x00])]);

for (const [text, kept] of [
  [{ locale: 'C.UTF-8', encoding: 'UTF8' }, `{"answer": "${thumb} 日本 ä"} \ufffd\ufffd`],
  [{ locale: 'C', encoding: 'LATIN1' }, '{"answer": "\\ud83d\\udc4d \\u65e5\\u672c ä"} \\ufffd\\ufffd'],
  [{ locale: 'C', encoding: 'WIN1252' }, '{"answer": "\\ud83d\\udc4d \\u65e5\\u672c ä"} \\ufffd\\ufffd'],
  [{ locale: 'C', encoding: 'EUC_JP' }, '{"answer": "\\ud83d\\udc4d 日本 ä"} \\ufffd\\ufffd'],
  [{ locale: 'C', encoding: 'SQL_ASCII' }, `{"answer": "${thumb} 日本 ä"} \ufffd\ufffd`],
] as const)
  t.test(`${text.encoding}: an answer with characters outside the encoding is recorded once`, async t => {
    const lines = await roundTrip(await database('installed', text), { answer: hostile });
    const attempts = lines.filter(line => line.startsWith('attempt '));
    t.equal(attempts.length, usual.filter(line => line.startsWith('attempt ')).length, 'the usual number of attempts');
    const [, expected] = /^(.*?)\s*$/s.exec(kept)!;
    for (const line of attempts) {
      const { response_body: body } = JSON.parse(line.slice('attempt '.length));
      t.ok(body.startsWith(expected), body);
      if (body.startsWith('{'))
        t.strictSame(JSON.parse(body.slice(0, body.indexOf('}') + 1)), { answer: `${thumb} 日本 ä` });
    }
  });

t.test('inbound: a character outside the encoding is refused, and the next request is accepted', async t => {
  const target = await database('installed', { locale: 'C', encoding: 'WIN1252' });
  await makeModule(target.sql);
  const { path } = await makeEndpoint(target.sql);
  const { port, stop } = await startReceiving(target);
  const refused = await post(port, path, { payload: { sku: thumb, qty: 1 } });
  t.equal(refused.status, 422);
  t.equal((await post(port, path, { payload: { sku: '€', qty: 1 } })).status, 202);
  t.strictSame([...(await target.sql`select product_code from work_orders`)], [{ product_code: '€' }]);
  await stop();
});

for (const encoding of ['SQL_ASCII', 'WIN1252'])
  t.test(`${encoding}: a change with bytes that are not UTF-8 is set aside and blocks no other`, async t => {
    const { sql, url } = await database('installed', { locale: 'C', encoding });
    await sql.unsafe(
      `create table t (id int primary key, word text, data json); select collecta.attach_module('t', 't')`,
    );
    await subscribe(sql);
    await subscribe(sql, undefined, { filter: '$.record.id > 0' });
    const bad = `convert_from(decode('81', 'hex'), '${encoding}')`;
    await sql.unsafe(`insert into t values (1, 'before'), (2, ${bad}), (3, 'done')`);
    await sql.unsafe(`insert into t values (4, null, ('{"a": "' || ${bad} || '"}')::json), (5, 'after', null)`);
    await sql.unsafe(`update t set word = 'mended' where id = 2`);
    await sql.unsafe(`delete from t where id = 4`);
    const pool = openPool(url, { max: 1 });
    t.teardown(() => pool.end({ timeout: 1 }));
    const claim = createClaimer(pool, null, { log: createLog('error', () => {}) });
    const claimed: string[] = [];
    for (let over = false; !over; ) {
      const room = { deliveries: 100, bytes: 16_000_000, perEndpoint: 100 };
      const { deliveries, next } = await claim(room, { everything: true });
      over = next === 'sleep';
      claimed.push(
        ...deliveries.map(({ body }) => JSON.parse(body)).map(({ event, record_id }) => `${event} ${record_id}`),
      );
    }
    t.strictSame(claimed.sort(), [
      ...['record_created 1', 'record_created 1', 'record_created 3', 'record_created 3'],
      ...['record_created 5', 'record_created 5'],
    ]);
    const aside = await sql`select record_id, reason from collecta.unrouted order by change_id`;
    t.strictSame([...new Set(aside.map(row => row.record_id))], ['2', '4']);
    t.match(aside[0]!.reason, /0x81/);
    t.equal((await sql`select from collecta.health where problem = 'changes are set aside'`).length, 1);
    await sql`select collecta.route_again()`;
    t.ok((await sql`select from collecta.unrouted where again`).length > 0, 'and can be routed again');
  });
