import { differs, ratios, seeded, shuffled, spread } from './statistics.ts';

export const progress = (line: string) => process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);

/** One of the systems that are compared. `turn` measures it once, which takes a second or two. */
export type Contender = { name: string; turn(): Promise<Record<string, number>> };

export type Measure = {
  name: string;
  unit: string;
  /** Whether the table shows each contender's ratio to the base beside its median. */
  compared?: true;
};

/** The results of all rounds: for each contender and measure, one value per round. */
export type Comparison = {
  title: string;
  /** The contender by whose values those of the others are divided. */
  base: string;
  measures: Measure[];
  seed: number;
  values: Record<string, Record<string, number[]>>;
};

/**
 * Runs rounds. In each round every contender has one turn, in an order that is shuffled each time, so that a slow phase
 * of the machine affects all of them. A contender does nothing between its turns, so all of them can stay ready on one
 * server. One round before the first is not counted, because caches are still empty in it.
 */
export async function takeTurns(
  contenders: Contender[],
  {
    title,
    base = contenders[0]!.name,
    measures,
    rounds = enoughRounds,
    seed = 1,
  }: { title: string; base?: string; measures: Measure[]; rounds?: number; seed?: number },
): Promise<Comparison> {
  const random = seeded(seed);
  const values: Comparison['values'] = Object.fromEntries(
    contenders.map(({ name }) => [name, Object.fromEntries(measures.map(measure => [measure.name, []]))]),
  );
  for (let round = 0; round <= rounds; round++)
    for (const { name, turn } of shuffled(contenders, random)) {
      const result = await turn();
      for (const measure of measures) {
        const value = result[measure.name];
        if (value === undefined || !Number.isFinite(value))
          throw new Error(`${title}, ${name}: "${measure.name}" is ${value}`);
        if (round > 0) values[name]![measure.name]!.push(value);
      }
      const found = measures.map(measure => `${format(result[measure.name]!)} ${measure.unit}`).join(', ');
      progress(`${title}, round ${round} of ${rounds}, ${name}: ${found}`);
    }
  return { title, base, measures, seed, values };
}

/** Measures a single figure that is not compared with anything. */
export type Fact = { name: string; value: number; unit: string };

export const format = (value: number) =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en') : Number(value.toPrecision(3)).toString();

/** With fewer rounds no difference is claimed. Such a run only shows that the bench works. */
export const enoughRounds = 9;

/** `0.83 (0.80 to 0.85)`, or that no difference was found. After too few rounds there is a question mark. */
export function describeRatio(comparison: Comparison, contender: string, measure: string): string {
  const { base, values } = comparison;
  if (contender === base) return '1';
  const found = ratios(values[contender]![measure]!, values[base]![measure]!);
  const ratio = spread(found);
  const quartiles = `${ratio.lower.toFixed(2)} to ${ratio.upper.toFixed(2)}`;
  if (found.length < enoughRounds) return `${ratio.median.toFixed(2)} (${quartiles})?`;
  return differs(ratio) ? `${ratio.median.toFixed(2)} (${quartiles})` : `no difference (${quartiles})`;
}

/**
 * A table with a row for each contender: the medians of its measures, and the ratios for measures that are compared.
 */
export function comparisonTable(comparison: Comparison): string {
  const { base, measures, values } = comparison;
  const header = measures.flatMap(({ name, unit, compared }) => [
    unit ? `${name}, ${unit}` : name,
    ...(compared ? [`of ${base}`] : []),
  ]);
  const rows = Object.entries(values).map(([contender, found]) =>
    measures.flatMap(({ name, compared }) => [
      format(spread(found[name]!).median),
      ...(compared ? [describeRatio(comparison, contender, name)] : []),
    ]),
  );
  return [
    `| | ${header.join(' | ')} |`,
    `|---|${header.map(() => '---').join('|')}|`,
    ...rows.map((cells, index) => `| ${Object.keys(values)[index]} | ${cells.join(' | ')} |`),
  ].join('\n');
}

/**
 * A table of several comparisons of the same contenders. Each comparison is a column with the ratios of one measure.
 */
export function ratioTable(comparisons: Comparison[], measure: string): string {
  const contenders = Object.keys(comparisons[0]!.values).filter(name => name !== comparisons[0]!.base);
  return [
    `| of ${comparisons[0]!.base} | ${comparisons.map(({ title }) => title).join(' | ')} |`,
    `|---|${comparisons.map(() => '---').join('|')}|`,
    ...contenders.map(
      name => `| ${name} | ${comparisons.map(each => describeRatio(each, name, measure)).join(' | ')} |`,
    ),
  ].join('\n');
}

export function factTable(facts: Fact[]): string {
  return ['| | |', '|---|---|', ...facts.map(({ name, value, unit }) => `| ${name} | ${format(value)} ${unit} |`)].join(
    '\n',
  );
}
