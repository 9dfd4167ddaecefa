import { readFileSync, writeFileSync } from 'node:fs';
import { load, type Results, root } from './results.ts';
import { comparisonTable, factTable, ratioTable } from './rounds.ts';

/**
 * Replaces the text between `<!-- bench NAME [TITLE] -->` and `<!-- end -->` with results of that bench. Without a
 * title these are its facts. With TITLE it is the comparison of that title. With `ratios MEASURE PREFIX` it is one
 * table of all comparisons whose titles begin with PREFIX.
 */
export function fillTables(page: string, load: (name: string) => Results | undefined): string {
  return page.replace(/(<!-- bench (\S+) ?(.*?) -->\n)[\s\S]*?(<!-- end -->)/g, (_, open, name, what, close) => {
    const results = load(name);
    const table = results ? tableOf(results, what) : `Not measured yet: \`npm run bench -- ${name}\`.`;
    return `${open}${table}\n${close}`;
  });
}

function tableOf({ comparisons, facts }: Results, what: string): string {
  if (what === 'facts') return factTable(facts);
  const [, measure, prefix] = /^ratios "(.*)" "(.*)"$/.exec(what) ?? [];
  if (measure !== undefined)
    return ratioTable(
      comparisons.filter(({ title }) => title.startsWith(prefix!)),
      measure,
    );
  const found = comparisons.find(({ title }) => title === what);
  if (!found) throw new Error(`no comparison is titled "${what}"`);
  return comparisonTable(found);
}

/** The pages whose tables are the results of benches. */
export const pages = ['docs/performance.md', 'docs/fleet.md'];

export function writePages(): void {
  for (const page of pages) writeFileSync(`${root}${page}`, fillTables(readFileSync(`${root}${page}`, 'utf8'), load));
}
