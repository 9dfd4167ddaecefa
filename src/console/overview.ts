import { html } from 'hono/html';
import { plot, type Series } from './charts.ts';
import { atMost, count, duration, percent, quantile } from './figures.ts';
import { badge, cut, type Html, region, sql as statement, url } from './page.ts';
import type { Transaction } from './people.ts';

export const spans = {
  hour: { name: 'the last hour', interval: '1 hour', bin: 60 },
  day: { name: 'the last 24 hours', interval: '24 hours', bin: 600 },
  week: { name: 'the last 7 days', interval: '7 days', bin: 3_600 },
  month: { name: 'the last 30 days', interval: '30 days', bin: 86_400 },
} as const;
export type Span = keyof typeof spans;

const outcomes = ['delivered', 'failed', 'exhausted', 'blocked', 'lost'] as const;
const backlogLimit = 10_000;
const findingsOfAProblem = 100;

/** Whether the login is restricted to scopes: whose scope an attempt has is looked up row by row then. */
export const isRestricted = async (sql: Transaction): Promise<boolean> =>
  (await sql`select collecta.visible_scopes() is not null as restricted`)[0]!.restricted;

/**
 * Counts of the attempts of one endpoint, or of all for '', per interval of time: by outcome, by the step of the answer
 * time, and by the step of the time to receipt.
 */
export async function readRollup(sql: Transaction, endpointId: string, span: Span) {
  const { interval } = spans[span];
  const total = endpointId !== '' ? undefined : (await isRestricted(sql)) ? 'own' : 'all';
  // The counts of an endpoint are kept by minute for only two hours.
  const bin = span === 'day' && total !== 'all' ? 3_600 : spans[span].bin;
  // The total of all endpoints is hidden from a login that is restricted to scopes: it sees the sum of its own.
  const rows = (await sql`
    with binned as materialized (
      select extract(epoch from date_bin(${`${bin} s`}::text::interval, starts_at, 'epoch'))::float8 as at, r.*
      from collecta.delivery_rollup r
      where ${
        total === 'own'
          ? sql`endpoint_id = any (array(select e.endpoint_id from collecta.endpoints e))`
          : sql`endpoint_id = ${endpointId}`
      }
        and starts_at >= now() - ${interval}::text::interval
    )
    select at, o.kind, o.key, sum(o.n)::float8 as n
    from binned b
    cross join lateral (values ('outcome', 'delivered', b.delivered), ('outcome', 'failed', b.failed),
      ('outcome', 'exhausted', b.exhausted), ('outcome', 'blocked', b.blocked), ('outcome', 'lost', b.lost)) o (kind,
        key, n)
    where o.n > 0 group by 1, 2, 3
    union all
    select at, 'answer', c.key, sum(c.value::bigint)::float8
    from binned b cross join lateral jsonb_each_text(b.answers) c group by 1, 3
    union all
    select at, 'receipt', c.key, sum(c.value::bigint)::float8
    from binned b cross join lateral jsonb_each_text(b.receipts) c group by 1, 3`) as unknown as {
    at: number;
    kind: 'outcome' | 'answer' | 'receipt';
    key: string;
    n: number;
  }[];
  const now = Math.floor(Date.now() / 1_000 / bin) * bin;
  const seconds = { hour: 3_600, day: 86_400, week: 604_800, month: 2_592_000 }[span];
  const times: number[] = [];
  for (let at = Math.floor((Date.now() / 1_000 - seconds) / bin) * bin; at <= now; at += bin) times.push(at);
  const place = new Map(times.map((at, i) => [at, i]));
  const byOutcome = new Map<string, number[]>();
  const answers = times.map(() => new Map<number, number>());
  const receipts = times.map(() => new Map<number, number>());
  for (const { at, kind, key, n } of rows) {
    const i = place.get(Number(at));
    if (i === undefined) continue;
    if (kind === 'outcome') {
      const values = byOutcome.get(key) ?? times.map(() => 0);
      values[i] = n;
      byOutcome.set(key, values);
    } else (kind === 'answer' ? answers : receipts)[i]!.set(Number(key), n);
  }
  return { times, bin, byOutcome, answers, receipts };
}

export type Rollup = Awaited<ReturnType<typeof readRollup>>;

const merged = (maps: ReadonlyMap<number, number>[]) => {
  const all = new Map<number, number>();
  for (const map of maps) for (const [step, n] of map) all.set(step, (all.get(step) ?? 0) + n);
  return all;
};
const sum = (values: number[] = []) => values.reduce((total, value) => total + value, 0);

export function plots({ times, bin, byOutcome, answers, receipts }: Rollup): Html {
  const perMinute = bin / 60;
  const counts: Series[] = outcomes
    .filter(outcome => outcome === 'delivered' || byOutcome.has(outcome))
    .map(outcome => ({
      name: outcome,
      kind: outcome,
      values: (byOutcome.get(outcome) ?? times.map(() => 0)).map(n => Math.round((n / perMinute) * 1_000) / 1_000),
    }));
  const quantiles = (maps: ReadonlyMap<number, number>[]): Series[] =>
    ([0.5, 0.95, 0.99] as const).map(q => ({
      name: `p${q * 100}`,
      kind: `p${q * 100}`,
      values: maps.map(map => quantile(map, q)),
    }));
  return html`<div class="plots">${plot({ title: 'Attempts a minute', unit: '', times, series: counts, stacked: true })}
${plot({ title: 'From commit to receipt', unit: 'ms', times, series: quantiles(receipts) })}
${plot({ title: 'Answer of the receivers', unit: 'ms', times, series: quantiles(answers) })}</div>`;
}

export function tiles(rollup: Rollup): (readonly [string, string | Html])[] {
  const { byOutcome, answers, receipts } = rollup;
  const all = [...byOutcome.values()].reduce((total, values) => total + sum(values), 0);
  const delivered = sum(byOutcome.get('delivered'));
  const three = (maps: ReadonlyMap<number, number>[]) => {
    const steps = merged(maps);
    return html`${[0.5, 0.95, 0.99].map(
      q => html`<span class="number"><small>p${q * 100}</small> ${duration(quantile(steps, q))}</span> `,
    )}`;
  };
  return [
    ['attempts', count(all)],
    ['of them failed', percent(all - delivered, all)],
    ['given up', count(sum(byOutcome.get('exhausted')))],
    ['commit → receipt', three(receipts)],
    ['answer of the receivers', three(answers)],
  ];
}

export const spanLinks = (path: string, span: Span) =>
  html`<nav class="spans" aria-label="Time">${Object.entries(spans).map(
    ([key, { name }]) =>
      html`<a href="${url(path, { span: key })}"${key === span ? html` aria-current="true"` : ''}>${name
        .replace('the last', '')
        .trim()}</a>`,
  )}</nav>`;

export const showTiles = (rows: (readonly [string, string | Html])[], live: string) =>
  html`<dl class="tiles"${region(live)}>${rows.map(
    ([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`,
  )}</dl>`;

type Finding = {
  severity: string;
  problem: string;
  subject: string;
  detail: string;
  hint: string;
  name: string | null;
  endpoint_id: string | null;
  /** How many rows have the same problem. */
  alike: number;
};

/** Groups rows with the same problem. Two of them are shown, and the others when the group is opened. */
function showHealth(base: string, health: Finding[]): Html {
  const alike = new Map<string, Finding[]>();
  for (const row of health)
    alike.set(`${row.severity} ${row.problem}`, [...(alike.get(`${row.severity} ${row.problem}`) ?? []), row]);
  const one = ({ subject, detail, hint, name, endpoint_id }: Finding) =>
    html`<li><p>${
      endpoint_id
        ? html`<a href="${base}/endpoints/${endpoint_id}">${cut(name ?? endpoint_id, 300)}</a>`
        : html`<code>${cut(subject, 300)}</code>`
    }: ${cut(detail)}</p>${statement(hint)}</li>`;
  return html`${[...alike.values()].map(rows => {
    const [first] = rows as [Finding];
    const further = rows.slice(2);
    const all = `select * from collecta.health where problem = '${first.problem.replaceAll("'", "''")}';`;
    return html`<div class="health"><p>${badge(first.severity)} <strong>${first.problem}</strong>${
      first.alike > 1 ? html` <span class="quiet">${count(first.alike)}</span>` : ''
    }</p><ul>${rows.slice(0, 2).map(one)}</ul>${
      further.length > 0
        ? html`<details><summary>${count(first.alike - 2)} more</summary><ul>${further.map(one)}</ul>${
            first.alike > rows.length
              ? html`<p class="quiet">These are ${count(rows.length)} of ${count(first.alike)}. All of them:</p>
${statement(all)}`
              : ''
          }</details>`
        : ''
    }</div>`;
  })}`;
}

export async function overview(sql: Transaction, base: string, span: Span): Promise<Html> {
  const rollup = await readRollup(sql, '', span);
  // The policy of the queue looks up the scope of each row. So a login that is restricted to scopes reads the rows of
  // its endpoints.
  const ofItsEndpoints = (await isRestricted(sql))
    ? sql`where q.endpoint_id in (select e.endpoint_id from collecta.endpoints e)`
    : sql``;
  const [now] = await sql`
    select
      (select count(*)::int from (select from collecta.delivery_queue q ${ofItsEndpoints} limit ${backlogLimit + 1}) q)
        as queued,
      (select count(*)::int from (select change_id
        from collecta.waiting_changes limit ${backlogLimit + 1}) o) as outbox,
      (select extract(epoch from now() - captured_at)::float8 * 1000
        from collecta.waiting_changes order by change_id limit 1) as outbox_age_ms,
      (select extract(epoch from now() - min(q.due_at))::float8 * 1000
        from collecta.endpoints e
        cross join lateral (select due_at from collecta.delivery_queue q where q.endpoint_id = e.endpoint_id
          order by due_at limit 1) q
        where e.state = 'active' and q.due_at < now()) as due_age_ms,
      (select extract(epoch from now() - counted_until)::float8 * 1000 from collecta.observation) as counted_age_ms`;
  const health = (await sql`
    select h.severity, h.problem, h.subject, h.detail, h.hint, h.alike, e.name, e.endpoint_id
    from (
      select h.*, count(*) over (partition by h.severity, h.problem)::int as alike,
        row_number() over (partition by h.severity, h.problem order by h.subject) as place
      from collecta.health h) h
    left join collecta.endpoints e on e.endpoint_id = h.subject
    where h.place <= ${findingsOfAProblem}
    order by array_position(array['error', 'warning', 'info'], h.severity), h.problem, h.place
    `) as unknown as Finding[];
  const state = now ?? {};
  return html`${spanLinks(`${base}/`, span)}
${showTiles(
  [
    ...tiles(rollup),
    ['queued now', atMost(Number(state.queued), backlogLimit)],
    ['oldest due', duration(state.due_age_ms)],
    [
      'not routed yet',
      atMost(Number(state.outbox), backlogLimit) +
        (state.outbox_age_ms === null ? '' : `, oldest ${duration(state.outbox_age_ms)}`),
    ],
  ],
  'tiles',
)}
<section aria-labelledby="health"><h2 id="health">Health</h2>
<div${region('health')}>${
    health.length === 0
      ? html`<p class="well">Nothing needs you: <code>collecta.health</code> is empty.</p>`
      : showHealth(base, health)
  }</div></section>
<section aria-labelledby="course"><h2 id="course">${spans[span].name.replace('the last', 'Last')}</h2>
<div${region('plots')}>${plots(rollup)}</div>
<p class="quiet"${region('counted')}>${
    state.counted_age_ms === null || Number(state.counted_age_ms) > 180_000
      ? html`Attempts are counted by <code>collecta.observe()</code>, which a runner calls once a minute: it last did so
    ${duration(state.counted_age_ms)} ago.`
      : html`Attempts are counted once a minute. These figures end ${duration(state.counted_age_ms)} ago.`
  }</p></section>`;
}
