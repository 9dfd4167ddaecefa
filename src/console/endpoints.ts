import { html } from 'hono/html';
import type { Row } from 'postgres';
import { sparkline } from './charts.ts';
import { atMost, count, duration, moment, percent } from './figures.ts';
import { plots, readRollup, type Span, showTiles, spanLinks, tiles } from './overview.ts';
import { badge, choice, cut, facts, filters, type Html, table, textField, url } from './page.ts';
import type { Transaction } from './people.ts';

const pageSize = 50;
const countLimit = 1_000;

export type EndpointFilter = { q?: string | undefined; state?: string | undefined; after?: string | undefined };

const like = (text: string) => `%${text.replace(/[\\%_]/g, '\\$&')}%`;

export async function endpoints(sql: Transaction, base: string, filter: EndpointFilter): Promise<Html> {
  const { q, state, after } = filter;
  const [afterName = '', afterId = ''] = after?.split('\n') ?? [];
  const rows = await sql`
    select e.endpoint_id, e.name, e.url, e.state, e.paused_reason, f.failing_since, e.events, e.modules,
      case when f.held_until > now() then f.held_until end as held_until,
      f.pace, f.max_per_second, f.learned_per_second, e.max_in_flight,
      queued.n as queued, queued.due_ms, course.hours
    from (
      select * from collecta.endpoints e
      where (${state ?? null}::text is null and e.state <> 'deleted' or e.state = ${state ?? null})
        and (${q ?? null}::text is null or e.name ilike ${like(q ?? '')} or e.url ilike ${like(q ?? '')}
          or e.endpoint_id = ${q ?? null})
        and (${after ?? null}::text is null or (coalesce(e.name, ''), e.endpoint_id) > (${afterName}, ${afterId}))
      order by coalesce(e.name, ''), e.endpoint_id limit ${pageSize + 1}) e
    left join collecta.endpoint_flow f on f.endpoint_id = e.endpoint_id
    cross join lateral (
      select count(*)::int as n, extract(epoch from now() - min(least(due_at, 'infinity')))::float8 * 1000 as due_ms
      from (select q.due_at from collecta.delivery_queue q where q.endpoint_id = e.endpoint_id
        order by q.due_at limit ${countLimit + 1}) q) queued
    cross join lateral (
      select json_agg(json_build_array(h.ago, h.delivered, h.other, h.exhausted)) as hours
      from (
        select (extract(epoch from date_trunc('hour', now()) - date_trunc('hour', r.starts_at)) / 3600)::int as ago,
          sum(r.delivered) as delivered, sum(r.failed + r.exhausted + r.blocked + r.lost) as other,
          sum(r.exhausted) as exhausted
        from collecta.delivery_rollup r
        where r.endpoint_id = e.endpoint_id and r.starts_at >= now() - interval '24 hours' group by 1) h) course
    order by coalesce(e.name, ''), e.endpoint_id`;
  const shown = rows.slice(0, pageSize);
  const last = rows.length > pageSize ? shown.at(-1) : undefined;
  return html`${filters(`${base}/endpoints`, [
    textField('q', 'Name, URL or id', q),
    choice('state', 'State', state, [
      ['', 'active or paused'],
      ['active', 'active'],
      ['paused', 'paused'],
      ['deleted', 'deleted'],
    ]),
  ])}
${table(
  'Endpoints, with the attempts of the last 24 hours',
  ['endpoint', 'state', 'last 24 hours', 'success', 'pace', 'queued', 'given up', 'destination'],
  shown.map(row => {
    const all = Array.from({ length: 24 }, () => 0);
    const failed = Array.from({ length: 24 }, () => 0);
    let givenUp = 0;
    for (const [ago, delivered, other, exhausted] of (row.hours ?? []) as [
      number,
      number | null,
      number | null,
      number | null,
    ][]) {
      const i = 23 - ago;
      if (i < 0 || i > 23) continue;
      all[i] = (delivered ?? 0) + (other ?? 0);
      failed[i] = other ?? 0;
      givenUp += exhausted ?? 0;
    }
    const total = all.reduce((a, b) => a + b, 0);
    const bad = failed.reduce((a, b) => a + b, 0);
    return [
      html`<a href="${base}/endpoints/${row.endpoint_id}">${cut(row.name ?? row.endpoint_id, 300)}</a>`,
      html`${badge(row.state)}${row.failing_since && row.state === 'active' ? html` ${badge('failing')}` : ''}${
        row.paused_reason ? html`<span class="quiet block">${cut(row.paused_reason)}</span>` : ''
      }${row.held_until ? html`<span class="quiet block">held until ${moment(row.held_until)}</span>` : ''}`,
      sparkline(all, failed, `${count(total)} attempts in 24 hours, ${count(bad)} of them failed`),
      html`<span class="number">${percent(total - bad, total)}</span>`,
      html`${paceOf(row).map(each => html`<span class="block">${each}</span>`)}`,
      html`<span class="number">${atMost(Number(row.queued), countLimit)}</span>${
        Number(row.due_ms) > 1_000 ? html`<span class="quiet block">due ${duration(row.due_ms)}</span>` : ''
      }`,
      html`<span class="number">${count(givenUp)}</span>`,
      html`<code class="cut" title="${cut(row.url)}">${cut(row.url)}</code>`,
    ];
  }),
  { live: 'rows', empty: 'No endpoint is like that. select * from collecta.create_endpoint(…) makes one.' },
)}
${
  last
    ? html`<p><a class="next" rel="next" href="${url(`${base}/endpoints`, {
        q,
        state,
        after: `${last.name ?? ''}\n${last.endpoint_id}`,
      })}">More</a></p>`
    : ''
}`;
}

/** What limits how fast an endpoint is sent to. */
function paceOf(row: Row): string[] {
  const { pace, max_in_flight, max_per_second, learned_per_second } = row;
  return [
    pace === null ? `${count(max_in_flight)} at once` : `${count(pace)} of ${count(max_in_flight)} at once`,
    ...(max_per_second === null ? [] : [`${count(max_per_second)} a second`]),
    ...(learned_per_second === null ? [] : [`${Number(learned_per_second).toPrecision(3)} a second, learned`]),
  ];
}

export async function endpoint(
  sql: Transaction,
  base: string,
  id: string,
  span: Span,
): Promise<{ title: string; body: Html } | undefined> {
  const [row] = await sql`
    select e.*, e.filter::text as filter, e.headers::text as headers, e.retry_base::text as retry_base,
      o.previous_until, extract(epoch from o.previous_until - now())::float8 * 1000 as overlap_ms,
      f.failing_since, case when f.held_until > now() then f.held_until end as held_until,
      f.pace, f.max_per_second, f.learned_per_second
    from collecta.endpoints e
    left join collecta.secret_overlaps o on o.endpoint_id = e.endpoint_id
    left join collecta.endpoint_flow f on f.endpoint_id = e.endpoint_id
    where e.endpoint_id = ${id}`;
  if (!row) return undefined;
  const rollup = await readRollup(sql, id, span);
  const [queue] = await sql`
    select count(*)::int as n, min(q.due_at) filter (where q.due_at < 'infinity') as next,
      count(*) filter (where q.leased_until > now())::int as in_flight
    from (select q.due_at, q.leased_until from collecta.delivery_queue q where q.endpoint_id = ${id}
      order by q.due_at limit ${countLimit + 1}) q`;
  const act = (name: string, extra: Record<string, string> = {}) =>
    url(`${base}/act/${name}`, { endpoint: id, ...extra });
  return {
    title: cut(row.name ?? row.endpoint_id, 300),
    body: html`<p class="actions">
${row.state === 'active' ? html`<a class="button" href="${act('pause')}">Pause</a>` : ''}
${row.state === 'paused' ? html`<a class="button" href="${act('resume')}">Resume</a>` : ''}
<a class="button" href="${act('test')}">Send a test</a>
<a class="button" href="${act('replay-given-up')}">Replay what was given up</a>
<a class="button" href="${act('rotate')}">Rotate the secret</a>
<a class="button" href="${act('route-again')}">Route again</a></p>
<div data-region="facts">${facts([
      ['state', html`${badge(row.state)} ${cut(row.paused_reason ?? '')}`],
      ['failing since', row.failing_since && moment(row.failing_since)],
      ['held until', row.held_until ? moment(row.held_until) : null],
      [
        'old secret signs until',
        row.previous_until
          ? html`${moment(row.previous_until)} <span class="quiet">(for ${duration(row.overlap_ms)} yet)</span>`
          : null,
      ],
      ['id', html`<code>${row.endpoint_id}</code>`],
      ['destination', html`<code>${cut(row.url)}</code>`],
      ['events', row.events.join(', ')],
      ['modules', row.modules?.join(', ') ?? 'all'],
      ['filter', row.filter && html`<code>${cut(row.filter)}</code>`],
      ['scope', row.scope],
      ['ordered', row.ordered ? 'per record, one at a time' : null],
      ['payload role', row.payload_role],
      ['headers', row.headers === '{}' ? null : html`<code>${cut(row.headers)}</code>`],
      ['retries', `${row.retry_max}, the first after ${row.retry_base}`],
      [
        'pace',
        `${paceOf(row).join(', ')}${row.pace === null ? '' : ' (it starts again from one after a hold or an outage)'}`,
      ],
      ['made', moment(row.created_at)],
    ])}</div>
${spanLinks(`${base}/endpoints/${id}`, span)}
${showTiles(
  [
    ...tiles(rollup),
    ['queued now', atMost(Number(queue?.n), countLimit)],
    ['next due', moment(queue?.next ?? null)],
    ['in flight', count(Number(queue?.in_flight ?? 0))],
  ],
  'tiles',
)}
<div data-region="plots">${plots(rollup)}</div>
<p><a href="${url(`${base}/deliveries`, { endpoint: id })}">Its deliveries</a> ·
<a href="${url(`${base}/deliveries`, { endpoint: id, outcome: 'exhausted' })}">what was given up</a> ·
<a href="${url(`${base}/unrouted`, { endpoint: id })}">what is set aside for it</a> ·
<a href="${url(`${base}/tail`, { endpoint: id })}">live</a></p>`,
  };
}
