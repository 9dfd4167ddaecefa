import { readFileSync } from 'node:fs';
import t from 'tap';
import { fillTables, pages } from '../../bench/page.ts';
import { load, root } from '../../bench/results.ts';

const results = {
  machine: 'a machine',
  at: 'today',
  comparisons: [
    {
      title: 'fast, once',
      base: 'a',
      seed: 1,
      measures: [{ name: 'rate', unit: '/s', compared: true as const }],
      values: { a: { rate: Array(9).fill(1_000) }, b: { rate: [...Array(8).fill(1_500), 1_000] } },
    },
  ],
  facts: [{ name: 'size', value: 12.345, unit: 'MiB' }],
};

t.test('tables are filled from the results and replace what the page had before', async t => {
  const page = (name: string, title: string, table = '') =>
    `x\n<!-- bench ${name} ${title} -->\n${table}<!-- end -->\ny`;
  const fill = (title: string, table?: string) => fillTables(page('t', title, table), () => results);
  const filled = fill('fast, once');
  t.match(filled, '| b | 1,500 | 1.50 (1.50 to 1.50) |');
  t.equal(fill('fast, once', 'an older table\n'), filled);
  t.match(fill('ratios "rate" "fast"'), '| b | 1.50 (1.50 to 1.50) |');
  t.match(fill('facts'), '| size | 12.3 MiB |');
  t.throws(() => fill('slow'), /no comparison is titled/);
  t.match(
    fillTables(page('t', 'facts'), () => undefined),
    'Not measured yet',
  );
});

t.test('the tables in the pages match bench/results', async t => {
  for (const page of pages) {
    const text = readFileSync(`${root}${page}`, 'utf8');
    t.equal(fillTables(text, load), text, `${page}: npm run bench -- page`);
  }
});
