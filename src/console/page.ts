import { html } from 'hono/html';
import type { Person } from './people.ts';

/** A piece of HTML in which values are escaped already. */
export type Html = ReturnType<typeof html>;

export type Site = {
  /** The path of the console without a slash at its end; empty for the root. */
  base: string;
  person: Person | undefined;
  /** The entry of the navigation to which this page belongs. */
  here?: string;
  /** Whether the person can log out. */
  canLogOut: boolean;
};

const views: [path: string, name: string][] = [
  ['/', 'Overview'],
  ['/endpoints', 'Endpoints'],
  ['/deliveries', 'Deliveries'],
  ['/tail', 'Live tail'],
  ['/modules', 'Modules'],
  ['/inbound', 'Inbound'],
  ['/unrouted', 'Unrouted'],
  ['/actions', 'Actions'],
];

/** A whole page. `refresh` is the number of seconds after which its marked regions are fetched again; 0 means never. */
export function page(site: Site, title: string, body: Html | Html[], { refresh = 0 } = {}) {
  const { base, person } = site;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${title} · collecta-webhooks</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="${base}/assets/console.css">
<script type="module" src="${base}/assets/console.js"></script>
</head>
<body data-refresh="${refresh}">
<a class="skip" href="#main">Skip to the content</a>
<header>
<a class="brand" href="${base}/">collecta<span>-webhooks</span></a>
${
  person
    ? html`<nav aria-label="Views">${views.map(
        ([path, name]) =>
          html`<a href="${base}${path}"${site.here === path ? html` aria-current="page"` : ''}>${name}</a>`,
      )}</nav>
<div class="who"><span title="Everything here is read and done as this role of PostgreSQL">${person.role}</span>${
        site.canLogOut
          ? html`<form method="post" action="${base}/logout"><button class="plain">Log out</button></form>`
          : ''
      }</div>`
    : ''
}
</header>
<main id="main" tabindex="-1">
<h1>${title}</h1>
${body}
</main>
</body>
</html>`;
}

/** The beginning of a text that may be very long. */
export const cut = (text: string, length = 1_000) => (text.length > length ? `${text.slice(0, length)}…` : text);

/** The key of a record, with a link to the record's deliveries unless the key is too long for an address. */
export function recordLink(base: string, module: string, record: string) {
  const code = html`<code class="cut">${cut(record, 300)}</code>`;
  return record.length > 1_000
    ? code
    : html`<a href="${url(`${base}/deliveries`, { record, module })}">
        ${code}</a>`;
}

/** A table that scrolls separately on a narrow screen. */
export function table(
  caption: string,
  head: (string | Html)[],
  rows: (string | Html)[][],
  options: { live?: string; empty?: string; quiet?: boolean } = {},
) {
  if (rows.length === 0) return html`<p class="quiet"${region(options.live)}>${options.empty ?? 'Nothing.'}</p>`;
  // On a narrow screen, CSS turns a row into a block whose cells name their columns. With the roles it is still a table
  // for screen readers.
  const name = (index: number) => (typeof head[index] === 'string' ? head[index] : '');
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"${region(options.live)}>
<table class="stack" role="table"><caption class="${options.quiet === false ? '' : 'away'}">${caption}</caption>
<thead role="rowgroup"><tr role="row">${head.map(
    each => html`<th scope="col" role="columnheader">${each}</th>`,
  )}</tr></thead>
<tbody role="rowgroup">${rows.map(
    cells =>
      html`<tr role="row">${cells.map(
        (cell, index) => html`<td role="cell"
      data-label="${name(index)}">${cell}</td>`,
      )}</tr>`,
  )}</tbody>
</table></div>`;
}

/** Marks a region that the page's script fetches again. New rows of lists wait for a click; all else is replaced. */
export const region = (name: string | undefined) => (name ? html` data-region="${name}"` : '');

/** A form whose fields become the query of the page's URL. */
export function filters(action: string, fields: Html[]) {
  return html`<form class="filters" method="get" action="${action}">${fields}<button>Show</button></form>`;
}

export const textField = (
  name: string,
  label: string,
  value: string | undefined,
  attributes: { placeholder?: string; type?: string; wide?: boolean } = {},
) =>
  html`<label class="${attributes.wide ? 'wide' : ''}"><span>${label}</span><input name="${name}"
  type="${attributes.type ?? 'text'}" value="${value ?? ''}" placeholder="${attributes.placeholder ?? ''}"
  autocomplete="off" spellcheck="false"></label>`;

export const choice = (
  name: string,
  label: string,
  value: string | undefined,
  options: readonly (readonly [string, string])[],
) =>
  html`<label><span>${label}</span><select name="${name}">${options.map(
    ([each, text]) => html`<option value="${each}"${each === (value ?? '') ? html` selected` : ''}>${text}</option>`,
  )}</select></label>`;

/** A coloured label for an outcome or state. The text alone says everything that the colour says. */
export const badge = (text: string) => html`<span class="badge is-${text.replace(/[^a-z_]/g, '')}">${text}</span>`;

export const sql = (statement: string) => html`<pre class="sql" tabindex="0">${cut(statement, 20_000)}</pre>`;

/** `path` with a query of all values that are neither undefined nor empty. */
export function url(path: string, query: Record<string, string | undefined>): string {
  const given = Object.entries(query).filter((entry): entry is [string, string] => Boolean(entry[1]));
  return given.length === 0 ? path : `${path}?${new URLSearchParams(given)}`;
}

export const facts = (rows: (readonly [string, string | Html | null | undefined])[]) =>
  html`<dl class="facts">${rows
    .filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
