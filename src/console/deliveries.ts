import { html } from 'hono/html';
import { phases } from './charts.ts';
import { count, duration, moment } from './figures.ts';
import { membersOf, showJson } from './json.ts';
import { isRestricted } from './overview.ts';
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
/**
 * How many attempts one page reads to find those that match a filter without an index. For one endpoint and for failed
 * attempts it is fewer, because these are scattered over many pages of the table.
 */
const lookAt = 20_000;
const lookAtEvents = 8_000;
const lookAtScattered = 4_000;
const lookInside = 3_000;

export const deliveryFilters = [
  'endpoint',
  'module',
  'event',
  'outcome',
  'status',
  'record',
  'id',
  'from',
  'to',
  'contains',
  'before',
] as const;
export type DeliveryFilter = Partial<Record<(typeof deliveryFilters)[number], string>>;

const outcomes = ['delivered', 'failed', 'exhausted', 'blocked', 'lost'] as const;
const events = ['record_created', 'record_updated', 'record_deleted', 'status_change', 'custom_data_updated', 'test'];

/** Says what is wrong with a filter. The message is shown to the person who entered it. */
export function problemOf(filter: DeliveryFilter): string | undefined {
  for (const name of ['from', 'to'] as const)
    if (filter[name] && Number.isNaN(Date.parse(asUtc(filter[name]))))
      return `${name} is no time: write it like 2026-11-27 15:04.`;
  if (filter.status && !/^[1-5]([0-9]{2}|xx)$/.test(filter.status))
    return 'status is a number such as 503, or a class such as 5xx.';
  if (filter.contains) {
    try {
      JSON.parse(filter.contains);
    } catch {
      return 'contains is no JSON: write it like {"record": {"status": "done"}}.';
    }
  }
  return undefined;
}

const asUtc = (text: string) => (/[zZ]$|[+-]\d\d:?\d\d$/.test(text) ? text : `${text.replace(' ', 'T')}Z`);

async function find(sql: Transaction, filter: DeliveryFilter) {
  const { endpoint, module, event, outcome, status, record, id, from, to, contains, before } = filter;
  // An endpoint is given by its id or its name. Any other text is used as an id, which matches nothing.
  const [known] = endpoint ? await sql`select endpoint_id from collecta.endpoints where name = ${endpoint}` : [];
  const endpointId = (known?.endpoint_id as string | undefined) ?? endpoint;
  const undelivered = outcome !== undefined && outcome !== '' && outcome !== 'delivered';
  const restricted = await isRestricted(sql);
  const isFiltered = Boolean(outcome && outcome !== 'exhausted') || Boolean(status || module || event || contains);
  const limit = !isFiltered
    ? pageSize + 1
    : contains || restricted
      ? lookInside
      : endpoint || undelivered
        ? lookAtScattered
        : module || event
          ? lookAtEvents
          : lookAt;
  // An index finds the attempts of an event, of a record's events, of an endpoint, those that were not delivered, or
  // all of them.
  const source = id
    ? sql`select a.id, a.event_id, a.payload_role, a.routed_at, a.outcome, a.response_status
        from collecta.delivery_attempts a where a.event_id = ${id}`
    : record
      ? sql`select a.id, a.event_id, a.payload_role, a.routed_at, a.outcome, a.response_status
          from (select distinct v.event_id, v.routed_at from collecta.events v where v.record_id = ${record}
            ${module ? sql`and v.module = ${module}` : sql``} order by v.routed_at desc limit 2000) v
          join collecta.delivery_attempts a on a.event_id = v.event_id and a.routed_at = v.routed_at where true`
      : sql`select a.id, a.event_id, a.payload_role, a.routed_at, a.outcome, a.response_status
          from collecta.delivery_attempts a where true ${undelivered ? sql`and a.outcome <> 'delivered'` : sql``}
            ${outcome === 'exhausted' ? sql`and a.outcome = 'exhausted'` : sql``}`;
  const looked = await sql`
    with looked as materialized (
      ${source}
      ${endpointId ? sql`and a.endpoint_id = ${endpointId}` : sql``}
      ${
        restricted && !endpointId && !id && !record
          ? sql`and a.endpoint_id in (select e.endpoint_id from collecta.endpoints e)`
          : sql``
      }
      ${before ? sql`and a.id < ${before}` : sql``}
      ${from ? sql`and a.id >= collecta.attempt_id_at(${asUtc(from)})` : sql``}
      ${to ? sql`and a.id < collecta.attempt_id_at(${asUtc(to)})` : sql``}
      order by a.id desc limit ${limit}
    ), found as (
      -- In the order of looked, and no further than the page is long: hence the offsets, past which nothing is moved.
      select l.id, l.routed_at from (select * from looked l order by l.id desc offset 0) l
      ${
        module || event || contains
          ? sql`cross join lateral (
            select v.module, v.event, v.body from collecta.events v
            where v.event_id = l.event_id and v.payload_role = l.payload_role and v.routed_at = l.routed_at offset 0) v`
          : sql``
      }
      where true
        ${outcome ? sql`and l.outcome = ${outcome}` : sql``}
        ${
          status
            ? sql`and l.response_status between ${Number(status.replace('xx', '00'))}
              and ${Number(status.replace('xx', '99'))}`
            : sql``
        }
        ${module ? sql`and v.module = ${module}` : sql``}
        ${event ? sql`and v.event = ${event}` : sql``}
        ${contains ? sql`and collecta.body_contains(v.body, ${contains}::text::jsonb)` : sql``}
      limit ${pageSize + 1}
    )
    select d.id, d.started_at::text as started_at, d.event, d.module, d.record_id, d.endpoint_id, d.attempt, d.outcome,
      d.response_status, d.error, d.duration_ms::float8 as duration_ms, d.next_attempt_at::text as next_attempt_at,
        d.replay_of,
      e.name, whole.n, whole.last
    from (select count(*)::int as n, min(id) as last from looked) whole
    left join found f on true
    left join collecta.webhook_deliveries d on d.id = f.id and d.routed_at = f.routed_at
    left join collecta.endpoints e on e.endpoint_id = d.endpoint_id
    order by d.id desc`;
  const rows = looked.filter(row => row.id !== null);
  const more = rows.length > pageSize;
  const whole = looked[0];
  return {
    rows: rows.slice(0, pageSize),
    /** Where the next page begins; undefined if there is none. */
    next: more ? (rows[pageSize - 1]?.id as string) : whole && whole.n >= limit ? (whole.last as string) : undefined,
    restricted,
    lookedAt: Number(whole?.n ?? 0),
    /** Whether there may be more rows like these further back. */
    isPart: isFiltered && !more && Number(whole?.n ?? 0) >= limit,
  };
}

/** The time with which the id of an attempt begins. */
const momentOf = (id: string) =>
  new Date(Number.parseInt(id.slice(4, 16), 16)).toISOString().slice(0, 19).replace('T', ' ');

export async function deliveries(sql: Transaction, base: string, filter: DeliveryFilter): Promise<Html> {
  const problem = problemOf(filter);
  const form = filters(`${base}/deliveries`, [
    textField('endpoint', 'Endpoint', filter.endpoint, { placeholder: 'name or id' }),
    textField('module', 'Module', filter.module),
    choice('event', 'Event', filter.event, [['', 'all'], ...events.map(each => [each, each] as const)]),
    choice('outcome', 'Outcome', filter.outcome, [['', 'all'], ...outcomes.map(each => [each, each] as const)]),
    textField('status', 'Status', filter.status, { placeholder: '503 or 5xx' }),
    textField('record', 'Record', filter.record),
    textField('id', 'Event or delivery id', filter.id),
    textField('from', 'From (UTC)', filter.from, { placeholder: '2026-11-27 15:00' }),
    textField('to', 'To (UTC)', filter.to, { placeholder: '2026-11-27 16:00' }),
    textField('contains', 'Payload contains', filter.contains, {
      placeholder: '{"record": {"status": "done"}}',
      wide: true,
    }),
  ]);
  if (problem) return html`${form}<p class="problem" role="alert">${problem}</p>`;
  const { rows, next, lookedAt, isPart, restricted } = await find(sql, filter);
  return html`${form}
${
  restricted
    ? html`<p class="quiet">You are restricted to scopes: these are deliveries to the endpoints of your scopes.
A record or an event id finds those that went to other endpoints.</p>`
    : ''
}
${table(
  'Delivery attempts, the last one first',
  ['when (UTC)', 'outcome', 'event', 'record', 'endpoint', 'attempt', 'took'],
  rows.map(row => [
    html`<a class="time" href="${base}/deliveries/${row.id}" data-key="${row.id}">${moment(row.started_at)}</a>`,
    html`${badge(row.outcome)}${row.response_status ? html` <span class="number">${row.response_status}</span>` : ''}${
      row.error && row.outcome !== 'delivered' ? html`<span class="quiet block">${cut(row.error)}</span>` : ''
    }`,
    row.event
      ? html`${row.event}<span class="quiet block">${row.module}</span>`
      : html`<span class="quiet">hidden from you</span>`,
    row.record_id ? recordLink(base, row.module, row.record_id) : '–',
    html`<a href="${base}/endpoints/${row.endpoint_id}">${cut(row.name ?? row.endpoint_id, 300)}</a>`,
    html`<span class="number">${row.attempt}</span>${row.replay_of ? html` <span class="quiet">replay</span>` : ''}${
      row.next_attempt_at
        ? html`<span class="quiet block">again ${moment(row.next_attempt_at).slice(11, 19)}</span>`
        : ''
    }`,
    html`<span class="number">${duration(row.duration_ms)}</span>`,
  ]),
  { live: filter.before ? 'page' : 'rows', empty: isPart ? 'Nothing so far.' : 'No attempt is like that.' },
)}
<p class="pager">${
    isPart && next
      ? html`<span class="quiet">Looked through ${count(lookedAt)} attempts, back to
${momentOf(next)}. </span>`
      : ''
  }${
    next
      ? html`<a class="next" rel="next" href="${url(`${base}/deliveries`, { ...filter, before: next })}">${
          isPart ? 'Look further back' : 'Older'
        }</a>`
      : ''
  }</p>`;
}

/** A body up to this length is read as a whole. A page can compare the fields of a body only if it has read it. */
const readAtMost = 2_000_000;
/** A shell takes no longer argument than 128 KiB. */
const curlAtMost = 100_000;
const maxChanges = 300;

const shellQuoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * The request as a curl command; without `body`, curl reads it from body.json. Values that are masked in the history
 * are masked here too.
 */
export function asCurl(request: { url: string; headers: Record<string, string>; body: string | undefined }): string {
  const headers = Object.entries(request.headers).map(([name, value]) => `-H ${shellQuoted(`${name}: ${value}`)}`);
  const body = request.body === undefined ? '@body.json' : shellQuoted(request.body);
  return ['curl -sS -X POST', ...headers, `--data-binary ${body}`, shellQuoted(request.url)].join(' \\\n  ');
}

export async function delivery(sql: Transaction, base: string, id: string): Promise<Html | undefined> {
  const [row] = await sql`
    select d.id, d.event_id, d.endpoint_id, d.module, d.event, d.record_id, d.scope, d.url,
      case when octet_length(d.request_body) <= ${readAtMost} then d.request_body
        else left(d.request_body, ${curlAtMost}) end as body, length(d.request_body) as length,
      octet_length(d.request_body) <= ${readAtMost} as whole,
      d.request_headers::text as request_headers, d.response_status, d.response_headers::text as response_headers,
      d.response_body, d.error, d.occurred_at::text as occurred_at, d.routed_at::text as routed_at, d.replay_of,
      e.name, e.state, d.event is null as hidden, a.payload_role
    from collecta.webhook_deliveries d
    join collecta.delivery_attempts a on a.id = d.id and a.routed_at = d.routed_at
    left join collecta.endpoints e on e.endpoint_id = d.endpoint_id
    where d.id = ${id}`;
  if (!row) return undefined;
  const attempts = await sql`
    select a.id, a.attempt, a.outcome, a.response_status, a.error, a.started_at::text as started_at, a.lookup_ms,
      a.connect_ms, a.first_byte_ms, a.total_ms, a.next_attempt_at::text as next_attempt_at, a.replay_of
    from collecta.webhook_deliveries a
    where a.event_id = ${row.event_id} and a.endpoint_id = ${row.endpoint_id} and a.routed_at = ${row.routed_at}
    order by a.id limit 200`;
  const others = await sql`
    select a.endpoint_id, (array_agg(a.id order by a.id desc))[1] as id, (array_agg(a.outcome
      order by a.id desc))[1] as outcome,
      min(e.name) as name
    from collecta.delivery_attempts a left join collecta.endpoints e on e.endpoint_id = a.endpoint_id
    where a.event_id = ${row.event_id} and a.endpoint_id <> ${row.endpoint_id} and a.routed_at = ${row.routed_at}
    group by a.endpoint_id order by a.endpoint_id limit 50`;
  const history = row.record_id
    ? await sql`
      select v.event_id, v.event, v.occurred_at::text as occurred_at,
        (select a.id from collecta.delivery_attempts a where a.event_id = v.event_id and a.routed_at = v.routed_at
          order by (a.endpoint_id = ${row.endpoint_id}) desc, a.id desc limit 1) as delivery
      from collecta.events v
      where v.record_id = ${row.record_id} and v.module = ${row.module} and v.payload_role = ${row.payload_role}
      order by v.routed_at desc, v.sequence desc, v.position desc limit 20`
    : [];
  const changes = row.hidden || !row.whole ? [] : changedFields(row.body);
  const longest = Math.max(1, ...attempts.map(({ total_ms }) => Number(total_ms ?? 0)));
  const last = attempts.at(-1);
  const headers = JSON.parse(row.request_headers ?? '{}') as Record<string, string>;
  const quotedHeader = (name: string) => shellQuoted(headers[name] ?? '');
  return html`<p class="actions"><a class="button" href="${url(`${base}/act/replay`, { id })}">Replay</a>
<a class="button" href="${base}/endpoints/${row.endpoint_id}">Endpoint ${cut(row.name ?? row.endpoint_id, 300)}</a></p>
<ol class="story">
<li><span class="step">changed</span> <time>${moment(row.occurred_at)}</time>
<span>${
    row.hidden
      ? 'hidden from you'
      : html`${row.module} <code>${cut(row.record_id ?? '', 300)}</code>,
${row.event}`
  }</span></li>
<li><span class="step">routed</span> <time>${moment(row.routed_at)}</time>
<span><code>${row.event_id}</code></span></li>
${attempts.map(
  each => html`<li${each.id === id ? html` class="this"` : ''}><span class="step">${
    each.replay_of && each.attempt === 1 ? 'replayed' : `attempt ${each.attempt}`
  }</span>
<time>${moment(each.started_at)}</time>
<span class="line"><a href="${base}/deliveries/${each.id}">${badge(each.outcome)}</a>
<span class="number">${each.response_status ?? ''}</span>
${phases(each as never, longest)} <span class="number">${duration(Number(each.total_ms ?? 0))}</span>${
    each.error ? html` <span class="quiet">${cut(each.error)}</span>` : ''
  }</span></li>`,
)}
${
  last?.next_attempt_at
    ? html`<li class="quiet"><span class="step">next</span>
<time>${moment(last.next_attempt_at)}</time></li>`
    : ''
}
</ol>
<p class="legend">
<span class="key key-lookup">look-up</span><span class="key key-connect">connect</span>
<span class="key key-wait">first byte</span><span class="key key-rest">rest</span></p>
${
  changes.length > 0
    ? html`<section aria-labelledby="changes"><h2 id="changes">What changed</h2>${table(
        'The changed fields',
        ['field', 'before', 'after'],
        changes
          .slice(0, maxChanges)
          .map(({ name, before, after }) => [
            html`<code>${cut(name)}</code>`,
            html`<del><code>${cut(before)}</code></del>`,
            after === undefined ? html`<span class="quiet">absent</span>` : html`<ins><code>${cut(after)}</code></ins>`,
          ]),
      )}${
        changes.length > maxChanges
          ? html`<p class="quiet">These are ${count(maxChanges)} of ${count(changes.length)} fields.</p>`
          : ''
      }</section>`
    : ''
}
<section aria-labelledby="request"><h2 id="request">Request</h2>
${facts([['POST', html`<code>${cut(row.url)}</code>`]])}
${table(
  'Request headers',
  ['header', 'value'],
  Object.entries(headers).map(([name, value]) => [html`<code>${name}</code>`, html`<code>${cut(value)}</code>`]),
  { empty: 'Nothing was sent.' },
)}
<h3>Body</h3>
${
  row.hidden
    ? html`<p class="quiet">The record is hidden from you, because row security of its table applies to you.</p>`
    : html`${showJson(row.body, row.length)}<p><a href="${base}/deliveries/${id}/body">body.json</a></p>`
}
${
  row.hidden
    ? ''
    : html`<details><summary>As curl</summary>${statement(
        asCurl({ url: row.url, headers, body: row.length > curlAtMost ? undefined : row.body }),
      )}<button type="button"
      class="copy" hidden>Copy</button></details>
<details><summary>Verify the signature</summary>
<form method="post" action="${base}/deliveries/${id}/verify" class="filters"><label class="wide"><span>The
endpoint's secret (it is not kept)</span><input name="secret" type="password" autocomplete="off"
required></label><button>Verify</button></form>
<p class="quiet">Or on the receiver's side:</p>${statement(
        [
          'COLLECTA_SECRET_FILE=secret.txt collecta-webhooks verify --any-age',
          `--id ${quotedHeader('webhook-id')} --timestamp ${quotedHeader('webhook-timestamp')}`,
          `--signature ${quotedHeader('webhook-signature')} body.json`,
        ].join(' \\\n  '),
      )}</details>`
}</section>
<section aria-labelledby="response"><h2 id="response">Response</h2>
${
  row.response_status
    ? html`${facts([['status', String(row.response_status)]])}${table(
        'Response headers',
        ['header', 'value'],
        Object.entries(JSON.parse(row.response_headers ?? '{}') as Record<string, string>).map(([name, value]) => [
          html`<code>${cut(name)}</code>`,
          html`<code>${cut(value)}</code>`,
        ]),
        { empty: 'No header came.' },
      )}<h3>Body</h3>${
        row.response_body === null || row.response_body === ''
          ? html`<p class="quiet">empty</p>`
          : showJson(row.response_body)
      }`
    : html`<p class="quiet">${cut(row.error ?? 'None came.')}</p>`
}</section>
${
  others.length > 0
    ? html`<section aria-labelledby="others"><h2 id="others">The same event elsewhere</h2>${table(
        'Other endpoints of this event',
        ['endpoint', 'last outcome'],
        others.map(each => [
          html`<a href="${base}/deliveries/${each.id}">${cut(each.name ?? each.endpoint_id, 300)}</a>`,
          badge(each.outcome),
        ]),
      )}</section>`
    : ''
}
${
  history.length > 1
    ? html`<section aria-labelledby="record"><h2 id="record">The record's other events</h2>${table(
        'Events of the record, the last one first',
        ['when (UTC)', 'event', 'id'],
        history.map(each => [
          moment(each.occurred_at),
          each.delivery
            ? html`<a href="${base}/deliveries/${each.delivery}"${
                each.event_id === row.event_id ? html` aria-current="true"` : ''
              }>${each.event}</a>`
            : each.event,
          html`<code class="cut">${each.event_id}</code>`,
        ]),
      )}</section>`
    : ''
}`;
}

/** The fields of `previous` and those of `record` side by side, each as the text that was sent. */
function changedFields(body: string): { name: string; before: string; after: string | undefined }[] {
  const members = membersOf(body);
  const after = membersOf(members.get('record') ?? '');
  return [...membersOf(members.get('previous') ?? '')].map(([name, before]) => ({
    name,
    before,
    after: after.get(name),
  }));
}

export async function readRequest(sql: Transaction, id: string) {
  const [row] = await sql`select request_headers::text as headers, request_body as body from collecta.webhook_deliveries
      where id = ${id}`;
  return row as { headers: string | null; body: string | null } | undefined;
}
