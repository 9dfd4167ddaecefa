import { html } from 'hono/html';
import { atMost, count, duration, moment } from './figures.ts';
import { showJson } from './json.ts';
import {
  badge,
  choice,
  cut,
  facts,
  filters,
  type Html,
  recordLink,
  sql as statement,
  table,
  textField,
  url,
} from './page.ts';
import type { Transaction } from './people.ts';

const pageSize = 50;
const countLimit = 1_000;
const lookAt = 20_000;
const bodyAtMost = 200_000;

export async function modules(sql: Transaction, base: string): Promise<Html> {
  const rows = await sql`
    select m.slug, c.oid::regclass::text as relation, v.key_columns, v.status_column, v.custom_data_column,
      v.scope_column,
      v.exclude_columns, v.ignore_columns, v.on_truncate, m.attached_at::text as attached_at,
      array(select a.attname::text from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated in ('', 's')
          and a.attname <> all (v.exclude_columns) order by a.attnum) as captured,
      array(select a.attname::text from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = 'v') as virtual,
      array(select distinct s.event from collecta.subscriptions s where s.module_id = m.module_id order by 1) as events,
      (select count(distinct s.endpoint_id)::int from collecta.subscriptions s
        where s.module_id = m.module_id) as endpoints,
      array(select t.tgname || case t.tgenabled when 'D' then ' (disabled)' when 'R' then ' (replicas only)' else '' end
        from pg_trigger t where t.tgrelid = c.oid and t.tgname like 'collecta\\_%' order by t.tgname) as triggers,
      cost.calls::text as calls, cost.ms, c.relrowsecurity
    from collecta.modules m
    join collecta.module_versions v on v.version = m.current_version
    left join pg_class c on c.oid = m.relation
    left join lateral (
      select sum(f.calls) as calls, sum(f.total_time) / nullif(sum(f.calls), 0) as ms
      from pg_trigger t join pg_stat_user_functions f on f.funcid = t.tgfoid
      where t.tgrelid = c.oid and t.tgname like 'collecta\\_%') cost on true
    order by m.slug limit 500`;
  const [setting] = await sql`select current_setting('track_functions') as track`;
  const muted = await sql`
    select module, operation, records::text as records, captured_at::text as captured_at from collecta.muted_changes
    order by change_id desc limit 20`;
  return html`${
    rows.length === 0
      ? html`<p class="quiet">No table is attached.
  <code>select collecta.attach_module('public.orders', 'orders');</code> attaches one.</p>`
      : ''
  }
${rows.map(row => {
  const silent = ['record_created', 'record_updated', 'record_deleted'].filter(
    event =>
      !row.events.includes(event) &&
      !(
        event === 'record_updated' &&
        (row.events.includes('status_change') || row.events.includes('custom_data_updated'))
      ),
  );
  return html`<section aria-labelledby="module-${row.slug}"><h2 id="module-${row.slug}">${row.slug}</h2>
${facts([
  [
    'table',
    row.relation
      ? html`<code>${row.relation}</code>${row.relrowsecurity ? html` <span class="quiet">(row security)</span>` : ''}`
      : html`${badge('error')} the table is gone`,
  ],
  ['key', row.key_columns.join(', ')],
  ['captured', row.captured.join(', ')],
  [
    'never captured',
    [
      ...row.exclude_columns.map((each: string) => `${each} (exclude_columns)`),
      ...row.virtual.map((each: string) => `${each} (virtual: it has no stored value)`),
    ].join(', '),
  ],
  ['no change by itself', row.ignore_columns.join(', ')],
  [
    'status, custom data, scope',
    [row.status_column, row.custom_data_column, row.scope_column].map(each => each ?? '–').join(', '),
  ],
  ['TRUNCATE', row.on_truncate],
  ['events that somebody wants', row.events.join(', ') || 'none: nothing is captured'],
  [
    'not captured, since nobody wants it',
    silent
      .map(each => ({ record_created: 'inserts', record_updated: 'updates', record_deleted: 'deletes' })[each])
      .join(', '),
  ],
  ['endpoints', html`<span class="number">${count(row.endpoints)}</span>`],
  ['triggers', row.triggers.join(', ')],
  [
    'cost of the triggers',
    row.calls
      ? `${Number(row.ms).toFixed(3)} ms a call, of ${count(row.calls)}`
      : setting?.track === 'none'
        ? 'not measured: track_functions is none'
        : 'no call yet',
  ],
  ['attached', moment(row.attached_at)],
])}
<p><a href="${url(`${base}/deliveries`, { module: row.slug })}">Its deliveries</a></p></section>`;
})}
${
  muted.length > 0
    ? html`<section aria-labelledby="muted"><h2 id="muted">Muted changes</h2>${table(
        'Statements that ran under collecta.muted',
        ['when (UTC)', 'module', 'operation', 'records'],
        muted.map(each => [
          moment(each.captured_at),
          each.module,
          each.operation,
          html`<span class="number">${count(each.records)}</span>`,
        ]),
      )}</section>`
    : ''
}`;
}

export type InboundFilter = { endpoint?: string | undefined; state?: string | undefined; before?: string | undefined };

export async function inbound(sql: Transaction, base: string, filter: InboundFilter): Promise<Html> {
  const endpoints = await sql`
    select e.inbound_endpoint_id as id, e.module, e.state, e.match_columns, e.rate_limit_per_minute,
      e.mapping::text as mapping,
      (select count(*)::int from (select from collecta.inbound_requests r
        where r.inbound_endpoint_id = e.inbound_endpoint_id and r.state = 'failed' limit ${countLimit + 1}) f)
          as failed,
      (select json_agg(json_build_array(f.status, f.n)) from (
        select r.status, sum(r.requests) as n from collecta.inbound_refusals r
        where r.inbound_endpoint_id = e.inbound_endpoint_id and r.day > current_date - 7 group by 1
          order by 1) f) as refused
    from collecta.inbound_endpoints e where e.state <> 'deleted' order by e.module, e.inbound_endpoint_id limit 200`;
  const strangers = await sql`
    select status, sum(requests)::text as n from collecta.inbound_refusals
    where inbound_endpoint_id = '' and day > current_date - 7 group by 1 order by 1`;
  const { endpoint, state, before } = filter;
  const found = await sql`
    with looked as materialized (
      select r.request_id, r.inbound_endpoint_id, r.state from collecta.inbound_requests r
      where true ${before ? sql`and r.request_id < ${before}` : sql``}
        ${state === 'failed' ? sql`and r.state = 'failed'` : sql``}
        ${state === 'failed' && endpoint ? sql`and r.inbound_endpoint_id = ${endpoint}` : sql``}
      order by r.request_id desc limit ${lookAt}
    ), found as (
      select l.request_id from looked l where true
        ${endpoint ? sql`and l.inbound_endpoint_id = ${endpoint}` : sql``}
          ${state ? sql`and l.state = ${state}` : sql``}
      order by l.request_id desc limit ${pageSize + 1}
    )
    select r.request_id, r.inbound_endpoint_id, r.received_at::text as received_at, r.state, r.operation, r.record_id,
      r.reason,
      r.attempts, w.n, w.last
    from (select count(*)::int as n, min(request_id) as last from looked) w
    left join found f on true left join collecta.inbound_requests r on r.request_id = f.request_id
    order by r.request_id desc`;
  const requests = found.filter(row => row.request_id !== null);
  const more = requests.length > pageSize;
  const next = more
    ? requests[pageSize - 1]?.request_id
    : Number(found[0]?.n ?? 0) >= lookAt
      ? found[0]?.last
      : undefined;
  return html`<section aria-labelledby="ends"><h2 id="ends">Endpoints</h2>${table(
    'Inbound endpoints',
    ['module', 'state', 'mapping', 'failed, kept', 'refused in 7 days', 'what to do'],
    endpoints.map(row => [
      html`<a href="${url(`${base}/inbound`, { endpoint: row.id })}">${row.module}</a>
        <code class="quiet block cut">${row.id}</code>`,
      badge(row.state),
      html`<code>${cut(row.mapping)}</code>${
        row.match_columns.length > 0
          ? html`<span class="quiet block">matches by
        ${row.match_columns.join(', ')}</span>`
          : ''
      }`,
      html`<span class="number">${atMost(row.failed, countLimit)}</span>`,
      ((row.refused ?? []) as [number, number][]).map(
        ([status, n]) => html`<span class="block">${status}: ${count(n)}</span>`,
      ) as unknown as Html,
      html`${
        row.failed > 0
          ? html`<a href="${url(`${base}/act/retry-inbound`, { id: row.id })}">Run the failed ones again</a> `
          : ''
      }${
        row.state === 'paused'
          ? html`<a href="${url(`${base}/act/resume-inbound`, { id: row.id })}">Resume</a>`
          : html`<a href="${url(`${base}/act/pause-inbound`, { id: row.id })}">Pause</a>`
      }`,
    ]),
    { empty: 'No inbound endpoint.', live: 'endpoints' },
  )}${
    strangers.length > 0
      ? html`<p class="quiet">Requests that led to no endpoint, in 7 days: ${strangers
          .map(({ status, n }) => `${status}: ${count(n)}`)
          .join(', ')}</p>`
      : ''
  }</section>
<section aria-labelledby="requests"><h2 id="requests">Requests</h2>
${filters(`${base}/inbound`, [
  textField('endpoint', 'Inbound endpoint id', endpoint),
  choice('state', 'State', state, [
    ['', 'all'],
    ...['accepted', 'failed', 'retry', 'duplicate'].map(each => [each, each] as const),
  ]),
])}
${table(
  'Inbound requests, the last one first',
  ['when (UTC)', 'state', 'record', 'why', 'what to do'],
  requests.slice(0, pageSize).map(row => [
    html`<a class="time" href="${base}/inbound/${row.request_id}"
      data-key="${row.request_id}">${moment(row.received_at)}</a>`,
    badge(row.state),
    html`${row.operation ?? ''} <code class="cut">${cut(row.record_id ?? '', 300)}</code>`,
    cut(row.reason ?? ''),
    row.state === 'failed'
      ? html`<a href="${url(`${base}/act/retry-inbound`, { id: row.request_id })}">Run again</a>`
      : '',
  ]),
  { live: before ? 'page' : 'rows', empty: 'No request is like that.' },
)}
${
  next
    ? html`<p class="pager"><a class="next" rel="next" href="${url(`${base}/inbound`, {
        endpoint,
        state,
        before: next,
      })}">${more ? 'Older' : 'Look further back'}</a></p>`
    : ''
}</section>`;
}

export async function inboundRequest(sql: Transaction, base: string, id: string): Promise<Html | undefined> {
  const [row] = await sql`
    select r.state, r.reason, r.column_name, r.sqlstate, r.error, r.operation, r.record_id, r.attempts,
      r.inbound_endpoint_id, left(r.body, ${bodyAtMost}) as body, length(r.body) as length,
      r.received_at::text as received, r.finished_at::text as finished, e.module
      from collecta.inbound_requests r
    left join collecta.inbound_endpoints e on e.inbound_endpoint_id = r.inbound_endpoint_id where r.request_id = ${id}`;
  if (!row) return undefined;
  return html`${
    row.state === 'failed'
      ? html`<p class="actions"><a class="button" href="${url(`${base}/act/retry-inbound`, { id })}">Run again</a></p>`
      : ''
  }
${facts([
  ['state', badge(row.state)],
  ['why', row.reason && cut(row.reason)],
  ['column', row.column_name && cut(row.column_name)],
  ['SQLSTATE', row.sqlstate],
  ['PostgreSQL said', row.error && cut(row.error)],
  ['record', row.record_id && html`${row.operation} ${recordLink(base, row.module, row.record_id)}`],
  ['received', moment(row.received)],
  ['finished', moment(row.finished)],
  ['runs', String(row.attempts)],
  [
    'endpoint',
    html`<a href="${url(`${base}/inbound`, { endpoint: row.inbound_endpoint_id })}">${
      row.module ?? row.inbound_endpoint_id
    }</a>`,
  ],
])}
<h2>Body</h2>${showJson(row.body, row.length)}`;
}

export async function unrouted(
  sql: Transaction,
  base: string,
  filter: { endpoint?: string | undefined; after?: string | undefined },
): Promise<Html> {
  const [change = '0', position = '0', endpointId = ''] = filter.after?.split('.') ?? [];
  const rows = await sql`
    select u.change_id::text as change_id, u.position, u.endpoint_id, u.module, u.record_id, u.event_id, u.reason,
      u.set_aside_at::text as set_aside_at, e.name
    from collecta.unrouted u left join collecta.endpoints e on e.endpoint_id = u.endpoint_id
    where (u.change_id, u.position, u.endpoint_id) > (${change}::text::bigint, ${position}::text::int, ${endpointId})
      ${filter.endpoint ? sql`and u.endpoint_id = ${filter.endpoint}` : sql``}
    order by u.change_id, u.position, u.endpoint_id limit ${pageSize + 1}`;
  const shown = rows.slice(0, pageSize);
  const last = rows.length > pageSize ? shown.at(-1) : undefined;
  return html`<p>What could not be routed is set aside here and stops nothing else. Mend the cause, then route
  again.</p>
${
  shown.length > 0
    ? html`<p class="actions"><a class="button" href="${url(`${base}/act/route-again`, {
        endpoint: filter.endpoint,
      })}">Route again</a></p>`
    : ''
}
${filters(`${base}/unrouted`, [textField('endpoint', 'Endpoint id', filter.endpoint)])}
${table(
  'Set aside, the oldest first',
  ['when (UTC)', 'what', 'record', 'for', 'why'],
  shown.map(row => [
    moment(row.set_aside_at),
    html`${row.module}<span class="quiet block">${row.event_id ? 'an event' : 'the whole change'}</span>`,
    html`<code class="cut">${cut(row.record_id ?? '', 300)}</code>`,
    row.endpoint_id
      ? html`<a href="${base}/endpoints/${row.endpoint_id}">${cut(row.name ?? row.endpoint_id, 300)}</a>`
      : 'everybody',
    cut(row.reason),
  ]),
  { live: 'page', empty: 'Nothing is set aside.' },
)}
${
  last
    ? html`<p class="pager"><a class="next" rel="next" href="${url(`${base}/unrouted`, {
        endpoint: filter.endpoint,
        after: `${last.change_id}.${last.position}.${last.endpoint_id}`,
      })}">More</a></p>`
    : ''
}`;
}

export async function actionsDone(sql: Transaction, base: string, before: string | undefined): Promise<Html> {
  const rows = await sql`
    select action_id::text as id, done_at::text as done_at, done_by, login, statement, touched::text as touched
    from collecta.operator_actions where true ${before ? sql`and action_id < ${before}::text::bigint` : sql``}
    order by action_id desc limit ${pageSize + 1}`;
  const shown = rows.slice(0, pageSize);
  return html`<p>What was done from this console, out of <code>collecta.operator_actions</code>.</p>
${table(
  'Actions, the last one first',
  ['when (UTC)', 'who', 'statement', 'touched'],
  shown.map(row => [
    moment(row.done_at),
    html`${row.done_by}${
      row.login === row.done_by
        ? ''
        : html`<span class="quiet block">by way of
    ${row.login}</span>`
    }`,
    statement(row.statement),
    html`<span class="number">${row.touched === null ? '–' : count(row.touched)}</span>`,
  ]),
  { live: before ? 'page' : 'rows', empty: 'Nothing was done from here yet.' },
)}
${
  rows.length > pageSize
    ? html`<p class="pager"><a class="next" rel="next" href="${url(`${base}/actions`, {
        before: shown.at(-1)?.id,
      })}">Older</a></p>`
    : ''
}`;
}

export const ago = (text: string) => duration(Date.now() - Date.parse(text));
