import { html } from 'hono/html';
import { atMost, count, moment } from './figures.ts';
import { cut, type Html, region, sql as statementOf, table, textField, url } from './page.ts';
import type { Transaction } from './people.ts';

type Arguments = Record<string, string | undefined>;

/** The rows that an action would affect. Their number `n` is exact up to `previewLimit`. */
type Preview = { n: number; rows?: Html };

type Action = {
  title: string;
  /** What the action does, for the person who is about to run it. */
  about: string;
  /** The arguments that must be given. */
  needs: readonly string[];
  /** The arguments that can be changed before it runs: name, label, and default value. */
  asks?: readonly (readonly [name: string, label: string, standard: string])[];
  /** The statement, with values quoted by PostgreSQL. The same text is shown and run. */
  statement(sql: Transaction, given: Arguments): Promise<string>;
  /** The rows that it would affect, for actions that may affect many. */
  preview?(sql: Transaction, given: Arguments): Promise<Preview>;
  /** The path of the page that shows the result. */
  after(given: Arguments, result: string | null): readonly [path: string, text: string];
  /** The result is a secret, which is shown once and must not be stored. */
  secret?: true;
};

const previewLimit = 100_000;

const made = async (query: PromiseLike<readonly Record<string, unknown>[]>) => String((await query)[0]?.statement);

const ofEndpoint = (given: Arguments): readonly [string, string] => [`/endpoints/${given.endpoint}`, 'The endpoint'];

export const actions: Readonly<Record<string, Action>> = {
  replay: {
    title: 'Replay a delivery',
    about:
      'Sends the event of this attempt to its endpoint again, with the same bytes and the same webhook-id. If it is ' +
      'still queued, it becomes due now.',
    needs: ['id'],
    statement: (sql, { id }) =>
      made(sql`select format('select collecta.replay_delivery(%L);', ${id!}::text) as statement`),
    after: ({ id }) => [`/deliveries/${id}`, 'The delivery'],
  },
  'replay-given-up': {
    title: 'Replay what was given up',
    about:
      'Sends once more what was given up for this endpoint and not delivered since: all of it, whatever a page shows.',
    needs: ['endpoint'],
    asks: [
      ['since', 'Given up since (UTC)', ''],
      ['until', 'and before (UTC)', ''],
    ],
    statement: (sql, { endpoint, since, until }) =>
      made(sql`select format('select collecta.replay_undelivered(%L, %L, %L);', ${endpoint!}::text,
        ${since || '-infinity'}::text::timestamptz, ${until || 'infinity'}::text::timestamptz) as statement`),
    preview: async (sql, { endpoint, since, until }) => {
      const from = since || '-infinity';
      const to = until || 'infinity';
      const [whole] = await sql`
        select count(*)::int as n from (
          select from collecta.undelivered u where u.endpoint_id = ${endpoint!}
            and u.finished_at >= ${from}::text::timestamptz and u.finished_at < ${to}::text::timestamptz
          limit ${previewLimit + 1}) u`;
      const rows = await sql`
        select u.id, u.event, u.module, u.record_id, u.finished_at::text as finished_at, u.error
          from collecta.undelivered u
        where u.endpoint_id = ${endpoint!}
          and u.finished_at >= ${from}::text::timestamptz and u.finished_at < ${to}::text::timestamptz
        order by u.id limit 10`;
      return {
        n: Number(whole?.n ?? 0),
        rows: table(
          'The first of them',
          ['given up (UTC)', 'event', 'record', 'why'],
          rows.map(row => [
            moment(row.finished_at),
            `${row.module} ${row.event}`,
            html`<code>${cut(row.record_id ?? '', 300)}</code>`,
            cut(row.error ?? ''),
          ]),
          { quiet: false, empty: 'Nothing was given up then.' },
        ),
      };
    },
    after: given => [url('/deliveries', { endpoint: given.endpoint }), 'Its deliveries'],
  },
  pause: {
    title: 'Pause an endpoint',
    about: 'Stops its deliveries. It keeps queueing, and nothing is dropped.',
    needs: ['endpoint'],
    asks: [['reason', 'Why', 'by request']],
    statement: (sql, { endpoint, reason }) =>
      made(
        sql`select format('select collecta.pause_endpoint(%L, %L);', ${endpoint!}::text,
          ${reason || 'by request'}::text) as statement`,
      ),
    after: ofEndpoint,
  },
  resume: {
    title: 'Resume an endpoint',
    about: 'Takes its deliveries up again, with what was queued meanwhile.',
    needs: ['endpoint'],
    statement: (sql, { endpoint }) =>
      made(sql`select format('select collecta.resume_endpoint(%L);', ${endpoint!}::text) as statement`),
    after: ofEndpoint,
  },
  test: {
    title: 'Send a test event',
    about: 'Queues an event named test for this endpoint.',
    needs: ['endpoint'],
    statement: (sql, { endpoint }) =>
      made(sql`select format('select collecta.send_test_event(%L);', ${endpoint!}::text) as statement`),
    after: (_, result) => [url('/deliveries', { id: result ?? '' }), 'Its delivery'],
  },
  rotate: {
    title: 'Rotate the secret',
    about:
      'Creates a new secret, which is shown once. Until the overlap ends, webhook-signature has a signature with ' +
      'each secret, and X-Webhook-Signature is made with the old one. After a leak, use 0.',
    needs: ['endpoint'],
    asks: [['overlap', 'Overlap', '24 hours']],
    statement: (sql, { endpoint, overlap }) =>
      made(
        sql`select format('select collecta.rotate_secret(%L, %L);', ${endpoint!}::text,
          ${overlap || '24 hours'}::text) as statement`,
      ),
    after: ofEndpoint,
    secret: true,
  },
  'route-again': {
    title: 'Route again',
    about: 'Routes what is set aside in collecta.unrouted once more: for one endpoint, or everything.',
    needs: [],
    statement: (sql, { endpoint }) =>
      endpoint
        ? made(sql`select format('select collecta.route_again(%L);', ${endpoint}::text) as statement`)
        : Promise.resolve('select collecta.route_again();'),
    preview: async (sql, { endpoint }) => {
      const [row] = await sql`select count(*)::int as n from (select from collecta.unrouted u
        where ${endpoint ? sql`u.endpoint_id = ${endpoint}` : sql`true`} limit ${previewLimit + 1}) u`;
      return { n: Number(row?.n ?? 0) };
    },
    after: given => [url('/unrouted', { endpoint: given.endpoint }), 'What is still set aside'],
  },
  'retry-inbound': {
    title: 'Run inbound again',
    about: 'Runs failed requests again, after the mapping or the table was mended: one, or all of an inbound endpoint.',
    needs: ['id'],
    statement: (sql, { id }) =>
      made(sql`select format('select collecta.retry_inbound(%L);', ${id!}::text) as statement`),
    preview: async (sql, { id }) => {
      const [row] = await sql`select count(*)::int as n from (select from collecta.inbound_requests r
        where r.state = 'failed' and (r.request_id = ${id!} or r.inbound_endpoint_id = ${id!}) limit
          ${previewLimit + 1}) r`;
      return { n: Number(row?.n ?? 0) };
    },
    after: ({ id }) =>
      id?.startsWith('req_') ? [`/inbound/${id}`, 'The request'] : [url('/inbound', { endpoint: id }), 'Its requests'],
  },
  'pause-inbound': {
    title: 'Pause an inbound endpoint',
    about: 'Its URL answers 404, as if it were not there.',
    needs: ['id'],
    statement: (sql, { id }) =>
      made(sql`select format('select collecta.pause_inbound_endpoint(%L);', ${id!}::text) as statement`),
    after: () => ['/inbound', 'Inbound'],
  },
  'resume-inbound': {
    title: 'Resume an inbound endpoint',
    about: 'It takes requests again, under the same URL.',
    needs: ['id'],
    statement: (sql, { id }) =>
      made(sql`select format('select collecta.resume_inbound_endpoint(%L);', ${id!}::text) as statement`),
    after: () => ['/inbound', 'Inbound'],
  },
};

export const actionNamed = (name: string): Action | undefined =>
  Object.hasOwn(actions, name) ? actions[name] : undefined;

/** An argument that the action needs was not given. */
export class Incomplete extends Error {}

function argumentsOf(action: Action, given: Arguments): Arguments {
  const standard = Object.fromEntries((action.asks ?? []).map(([name, , value]) => [name, value]));
  const names = [...action.needs, ...Object.keys(standard), 'endpoint', 'id'];
  const all = Object.fromEntries(names.map(name => [name, given[name]?.replaceAll('\0', '') ?? standard[name]]));
  const missing = action.needs.find(name => !all[name]);
  if (missing) throw new Incomplete(`The address names no ${missing}.`);
  return all;
}

const isMany = (preview: Preview | undefined) => preview !== undefined && preview.n > 1;

/** The page before an action. It shows what the action does, the statement, and the affected rows. */
export async function propose(
  sql: Transaction,
  base: string,
  name: string,
  action: Action,
  query: Arguments,
): Promise<Html> {
  const given = argumentsOf(action, query);
  const statement = await action.statement(sql, given);
  const preview = await action.preview?.(sql, given);
  const hidden = Object.entries(given).filter(([, value]) => value);
  const n = preview ? atMost(preview.n, previewLimit) : '';
  return html`<p>${action.about}</p>
${
  action.asks
    ? html`<form class="filters" method="get" action="${base}/act/${name}">${hidden
        .filter(([each]) => !action.asks?.some(([ask]) => ask === each))
        .map(([each, value]) => html`<input type="hidden" name="${each}" value="${value}">`)}${action.asks.map(
        ([each, label]) => textField(each, label, given[each]),
      )}<button>Change</button></form>`
    : ''
}
<h2>The statement</h2>
${statementOf(statement)}
${preview ? html`<p${region(undefined)}>It concerns <strong>${n}</strong>.</p>${preview.rows ?? ''}` : ''}
${
  preview?.n === 0
    ? html`<p class="quiet">So there is nothing to do.</p>`
    : html`<form method="post" action="${base}/act/${name}" class="confirm">${hidden.map(
        ([each, value]) => html`<input type="hidden" name="${each}" value="${value}">`,
      )}<input type="hidden" name="statement" value="${statement}">${
        isMany(preview)
          ? html`<label><span>There are many. Type ${n} to continue</span><input name="confirm"
            inputmode="numeric" autocomplete="off" required></label>`
          : ''
      }<button class="go">Run it</button></form>`
}`;
}

/** Says why an action did not run. Its page shows the message. */
export class NotRun extends Error {}

/** Runs an action, and records it in collecta.operator_actions in the same transaction. */
export async function perform(sql: Transaction, base: string, action: Action, form: Arguments): Promise<Html> {
  const given = argumentsOf(action, form);
  const statement = await action.statement(sql, given);
  if (statement !== form.statement) throw new NotRun('The statement is not the one that was shown. Look at it again.');
  const preview = await action.preview?.(sql, given);
  if (isMany(preview) && form.confirm?.replace(/\s/g, '') !== atMost(preview!.n, previewLimit))
    throw new NotRun(
      `It affects ${atMost(preview!.n, previewLimit)} now, and you typed ${form.confirm || 'nothing'}. ` +
        'Look at it again.',
    );
  const [row] = (await sql.unsafe(statement)) as unknown as Record<string, unknown>[];
  const value = Object.values(row ?? {})[0];
  const result = value === null || value === undefined ? null : String(value);
  // Some functions return how many rows they affected. All others affect one.
  const touched = preview && result !== null && /^\d+$/.test(result) ? result : '1';
  await sql`select collecta.note_action(${statement}, ${touched}::text::bigint)`;
  const [path, text] = action.after(given, action.secret ? null : result);
  return html`<p class="well" role="status">Done.</p>
${statementOf(statement)}
${
  result
    ? action.secret
      ? html`<p>The new secret, which is shown once:</p>
<pre class="secret" tabindex="0">${result}</pre>`
      : html`<p>It returned <code>${/^\d+$/.test(result) ? count(result) : result}</code>.</p>`
    : ''
}
<p><a href="${base}${path}">${text}</a></p>`;
}
