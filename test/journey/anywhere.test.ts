/** The same round trip in databases of other locales and encodings: everything comes out as in C.UTF-8. */
import t from 'tap';
import { type Text, useServer } from '../support/database.ts';
import { type RoundTrip, roundTrip } from '../support/round-trip.ts';

const { admin, database } = await useServer();
const [version] = await admin`select current_setting('server_version_num')::int / 10000 as major`;

/** The round trip with `word`, which the result then shows as WORD. */
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
    `${text.encoding ?? 'UTF8'}, ${text.locale}`,
    { skip: icu && version!.major < 15 && 'ICU is for databases of 15' },
    async t => {
      t.strictSame(await results(text, word), usual);
    },
  );
}
