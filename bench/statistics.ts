/** The quantile `q` of `values`, from 0 to 1, interpolated between the two nearest values. 0.5 gives the median. */
export function quantile(values: number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const below = sorted[Math.floor(at)] ?? Number.NaN;
  const above = sorted[Math.ceil(at)] ?? Number.NaN;
  return below + (above - below) * (at - Math.floor(at));
}

export type Spread = { lower: number; median: number; upper: number };

/** The median and the two quartiles. */
export function spread(values: number[]): Spread {
  return { lower: quantile(values, 0.25), median: quantile(values, 0.5), upper: quantile(values, 0.75) };
}

/** Divides each round's value by the base's value of the same round, so that a drift of the machine's speed cancels. */
export function ratios(values: number[], base: number[]): number[] {
  if (values.length !== base.length) throw new Error(`${values.length} rounds cannot be compared with ${base.length}`);
  return values.map((value, round) => value / base[round]!);
}

/** Whether there is a difference: the quartiles of the ratios do not include 1. */
export function differs(ratio: Spread): boolean {
  return ratio.lower > 1 || ratio.upper < 1;
}

/** A generator of random numbers from 0 to 1. The same seed gives the same numbers (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A copy in random order (Fisher and Yates). */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const copy = [...items];
  for (let last = copy.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [copy[last], copy[other]] = [copy[other]!, copy[last]!];
  }
  return copy;
}
