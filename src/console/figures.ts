/** Formats numbers and times for people. Nothing here parses JSON or rounds a value of a record. */

const grouped = new Intl.NumberFormat('en-GB');

export const count = (value: number | string | bigint) =>
  grouped.format(typeof value === 'string' ? BigInt(value) : value);

/** Formats a count that stopped at `limit`. */
export const atMost = (value: number, limit: number) => (value > limit ? `${count(limit)}+` : count(value));

export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1) return '<1 ms';
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  if (ms < 48 * 3_600_000) return `${Math.floor(ms / 3_600_000)} h`;
  return `${Math.floor(ms / 86_400_000)} d`;
}

export const percent = (part: number, whole: number) =>
  whole === 0
    ? '–'
    : `${((100 * part) / whole).toFixed(part === whole || part === 0 ? 0 : part / whole > 0.995 ? 2 : 1)} %`;

/** Shortens PostgreSQL's `2026-11-27 15:04:05.123456+00` to `2026-11-27 15:04:05.123`. */
export const moment = (text: string | null) =>
  text === null
    ? '–'
    : text
        .replace('T', ' ')
        .replace(/(\.\d{3})\d*/, '$1')
        .replace(/(\+00(:?00)?|Z)$/, '');

/** The upper bound in milliseconds of a step of collecta.delivery_rollup. */
export const stepMs = (step: number) => 2 ** (step / 2);

/** The quantile `q`, from 0 to 1, of the attempts; null if nothing was measured. */
export function quantile(steps: ReadonlyMap<number, number>, q: number): number | null {
  const measured = [...steps].filter(([step]) => step >= 0).sort(([a], [b]) => a - b);
  const total = measured.reduce((sum, [, n]) => sum + n, 0);
  if (total === 0) return null;
  let seen = 0;
  for (const [step, n] of measured) {
    if (seen + n >= q * total) {
      // The attempts of a step are taken as evenly distributed within it.
      const low = step === 0 ? 0 : stepMs(step - 1);
      return low + (stepMs(step) - low) * ((q * total - seen) / n);
    }
    seen += n;
  }
  return stepMs(measured.at(-1)?.[0] ?? 0);
}
