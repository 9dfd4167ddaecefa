import { html } from 'hono/html';
import { count } from './figures.ts';
import type { Html } from './page.ts';

const width = 120;
const height = 26;

/** A small bar chart with the bars of `failed` in front of those of `all`. `label` says in words what it shows. */
export function sparkline(all: number[], failed: number[], label: string): Html {
  const top = Math.max(1, ...all);
  const step = width / Math.max(1, all.length);
  const bar = (value: number, index: number, kind: string) => {
    if (value === 0) return '';
    const barHeight = (value / top) * height;
    return html`<rect class="${kind}" x="${(index * step).toFixed(1)}" y="${(height - barHeight).toFixed(1)}"
      width="${Math.max(1, step - 1).toFixed(1)}" height="${barHeight.toFixed(1)}"/>`;
  };
  return html`<svg class="spark" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img"
  aria-label="${label}" preserveAspectRatio="none">
${all.map((value, index) => bar(value, index, 'all'))}${failed.map((value, index) =>
  bar(value, index, 'failed'),
)}</svg>`;
}

export type Series = { name: string; kind: string; values: (number | null)[] };
export type Plot = { title: string; unit: '' | 'ms' | '%'; times: number[]; series: Series[]; stacked?: boolean };

const plotWidth = 640;
const plotHeight = 150;

/**
 * A chart: an SVG that is rendered here, and a table of the figures. The page's script replaces the SVG with a chart
 * that can be zoomed.
 */
export function plot({ title, unit, times, series, stacked = false }: Plot): Html {
  const totals = times.map((_, i) => series.reduce((sum, { values }) => sum + (values[i] ?? 0), 0));
  const top = Math.max(1, ...(stacked ? totals : series.flatMap(({ values }) => values.map(value => value ?? 0))));
  const x = (i: number) => ((i + 0.5) / Math.max(1, times.length)) * plotWidth;
  const y = (value: number) => plotHeight - (value / top) * (plotHeight - 8);
  const bars = () => {
    const each = plotWidth / Math.max(1, times.length);
    const below = times.map(() => 0);
    return series.map(({ values, kind }) =>
      values.map((value, i) => {
        if (!value) return '';
        const from = below[i] as number;
        below[i] = from + value;
        const barWidth = Math.max(0.5, each - 0.6).toFixed(1);
        const barHeight = (y(from) - y(from + value)).toFixed(1);
        return html`<rect class="fill-${kind}" x="${(i * each).toFixed(1)}" y="${y(from + value).toFixed(1)}"
          width="${barWidth}" height="${barHeight}"/>`;
      }),
    );
  };
  const lines = () =>
    series.map(({ values, kind }) => {
      const path = values
        .map((value, i) =>
          value === null
            ? null
            : `${values[i - 1] === null || i === 0 ? 'M' : 'L'}${x(i).toFixed(1)} ${y(value).toFixed(1)}`,
        )
        .filter(Boolean)
        .join('');
      return html`<path class="line-${kind}" d="${path}"/>`;
    });
  const show = (value: number | null) =>
    value === null
      ? '–'
      : unit === 'ms'
        ? `${count(Math.round(value))} ms`
        : unit === '%'
          ? `${value.toFixed(2)} %`
          : count(value);
  const time = (seconds: number) => new Date(seconds * 1_000).toISOString().slice(0, 16).replace('T', ' ');
  const data = JSON.stringify({ unit, stacked, times, series });
  return html`<figure class="plot" data-plot="${data}">
<figcaption>${title}<span class="legend">${series.map(
    ({ name, kind }) => html`<span class="key key-${kind}">${name}</span>`,
  )}</span></figcaption>
<div class="picture"><span class="top">${show(top)}</span><svg viewBox="0 0 ${plotWidth} ${plotHeight}"
preserveAspectRatio="none" role="img"
aria-label="${title}: the figures are in the table below">${stacked ? bars() : lines()}</svg></div>
<details><summary>As a table</summary><div class="scroll" tabindex="0" role="region"
aria-label="${title}, as a table"><table><thead><tr><th scope="col">from (UTC)</th>${series.map(
    ({ name }) => html`<th scope="col">${name}</th>`,
  )}</tr></thead>
<tbody>${times
    .map((at, i) => ({ at, values: series.map(({ values }) => values[i] ?? null) }))
    .filter(({ values }) => values.some(value => value))
    .reverse()
    .map(
      ({ at, values }) =>
        html`<tr><th scope="row">${time(at)}</th>${values.map(
          value => html`<td class="number">${show(value)}</td>`,
        )}</tr>`,
    )}</tbody></table></div></details>
</figure>`;
}

/**
 * One attempt as a line with its phases: look-up, connection, wait for the first byte, rest. `longest` is the duration,
 * in milliseconds, of a line of full width.
 */
export function phases(
  attempt: {
    lookup_ms: number | null;
    connect_ms: number | null;
    first_byte_ms: number | null;
    total_ms: number | null;
  },
  longest: number,
): Html {
  const total = attempt.total_ms ?? 0;
  const scale = 300 / Math.max(1, longest);
  let at = 0;
  const parts = (
    [
      ['look-up', 'lookup', attempt.lookup_ms],
      ['connect', 'connect', attempt.connect_ms],
      ['first byte', 'wait', attempt.first_byte_ms],
    ] as const
  ).map(([name, kind, ms]) => {
    const from = at;
    at += ms ?? 0;
    return { name, kind, from, ms: ms ?? 0 };
  });
  parts.push({ name: 'rest' as never, kind: 'rest' as never, from: at, ms: Math.max(0, total - at) });
  const durations = parts.map(({ name, ms }) => `${name} ${ms.toFixed(1)} ms`);
  const label = `${durations.join(', ')}; total ${total.toFixed(1)} ms`;
  return html`<svg class="phases" viewBox="0 0 300 10" width="300" height="10" preserveAspectRatio="none" role="img"
  aria-label="${label}"><title>${label}</title>${parts.map(({ kind, from, ms }) =>
    ms <= 0
      ? ''
      : html`<rect class="phase-${kind}" x="${(from * scale).toFixed(2)}" y="0" height="10" width="${Math.max(
          0.6,
          ms * scale,
        ).toFixed(2)}"/>`,
  )}</svg>`;
}
