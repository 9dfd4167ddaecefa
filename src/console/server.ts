import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { isIPv6 } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { csrf } from 'hono/csrf';
import { html } from 'hono/html';
import { secureHeaders } from 'hono/secure-headers';
import { streamSSE } from 'hono/streaming';
import type { Config } from '../config.ts';
import { whyUnreachable } from '../database/connect.ts';
import type { Log } from '../log.ts';
import { parseAddress, parseRange, within } from '../network/address.ts';
import { verify } from '../operations/verify.ts';
import { actionNamed, Incomplete, NotRun, perform, propose } from './actions.ts';
import { deliveries, delivery, deliveryFilters, readRequest } from './deliveries.ts';
import { endpoint, endpoints } from './endpoints.ts';
import { duration, moment } from './figures.ts';
import { actionsDone, inbound, inboundRequest, modules, unrouted } from './lists.ts';
import { overview, type Span, spans } from './overview.ts';
import { badge, cut, filters, type Html, page, type Site, textField, url } from './page.ts';
import { createPeople, DidNotAnswer, type Person, Refused, type Transaction } from './people.ts';
import { type Attempt, createWatch } from './watch.ts';

export type ConsoleConfig = Pick<Config, 'databaseUrl' | 'consolePath' | 'consoleTrustHeader' | 'consoleTrustFrom'>;

const cookie = 'collecta_console';
const maxAtOnce = 32;
const maxAtOnceOfRole = 8;
const maxFormBytes = 65_536;

type Env = {
  Variables: { person: Person; here: string };
  Bindings: { incoming?: IncomingMessage; outgoing?: ServerResponse };
};
type Page = Context<Env>;

// The files that the browser gets besides pages. dist/ reads them from src/ too, since the package contains both.
const folder = new URL(import.meta.url.endsWith('.ts') ? './assets/' : '../../src/console/assets/', import.meta.url);
const uplot = createRequire(import.meta.url)
  .resolve('uplot/package.json')
  .replace(/package\.json$/, 'dist/');
const assets: Readonly<Record<string, { type: string; read: () => Buffer }>> = {
  'console.css': { type: 'text/css; charset=utf-8', read: () => readFileSync(new URL('console.css', folder)) },
  'console.js': { type: 'text/javascript; charset=utf-8', read: () => readFileSync(new URL('console.js', folder)) },
  'uplot.js': { type: 'text/javascript; charset=utf-8', read: () => readFileSync(`${uplot}uPlot.esm.js`) },
  'uplot.css': { type: 'text/css; charset=utf-8', read: () => readFileSync(`${uplot}uPlot.min.css`) },
};

/**
 * The console's web site. Everything is read and done as the PostgreSQL role of the person. It is served under
 * `consolePath`, on the port of health and metrics; `/` redirects there.
 */
export function createConsole(config: ConsoleConfig, log: Log) {
  const { consoleTrustHeader } = config;
  const proxies = config.consoleTrustFrom.map(entry =>
    parseRange({ name: entry, cidr: entry.includes('/') ? entry : `${entry}/${isIPv6(entry) ? 128 : 32}` }),
  );
  const peerOf = (c: Page) => c.env?.incoming?.socket.remoteAddress ?? '';
  const isProxy = (c: Page) => {
    const address = parseAddress(peerOf(c));
    return address !== null && proxies.some(proxy => within(address, proxy));
  };
  /** The client's address: behind a proxy the last one of X-Forwarded-For, which the proxy itself has added. */
  const addressOf = (c: Page) => {
    const last = isProxy(c) ? (c.req.header('x-forwarded-for') ?? '').split(',').at(-1)?.trim() : undefined;
    return last || peerOf(c);
  };
  const base = config.consolePath === '/' ? '' : config.consolePath;
  const people = createPeople(config);
  const watch = createWatch(log);
  const app = new Hono<Env>({ strict: false });
  /** The requests under way, by role. Pages that need no database are not among them. */
  const atOnce = new Map<string, number>();

  /** The page's context without a person, for pages that everybody may see. */
  const stranger = (title: string, body: Html) => page({ base, person: undefined, canLogOut: false }, title, body);
  const siteOf = (c: Page, here?: string): Site => ({
    base,
    person: c.get('person'),
    canLogOut: consoleTrustHeader === undefined,
    ...(here !== undefined && { here }),
  });
  const show = (c: Page, here: string, title: string, body: Html, refresh = 0) =>
    c.html(page(siteOf(c, here), title, body, { refresh }));

  app.use(
    secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'", 'data:'],
        connectSrc: ["'self'"],
        formAction: ["'self'"],
        frameAncestors: ["'none'"],
        baseUri: ["'none'"],
      },
      xFrameOptions: 'DENY',
      // With `no-referrer`, browsers would send the origin "null" with our own forms.
      referrerPolicy: 'same-origin',
      // This header is for a proxy with TLS to set.
      strictTransportSecurity: false,
    }),
  );
  app.use(async (c, next) => {
    c.header('cache-control', 'no-store');
    return await next();
  });
  // A browser says where a form comes from. A request that does not say it, or comes from elsewhere, is refused.
  const fromHere = (c: Context) => {
    const site = c.req.header('sec-fetch-site');
    const origin = c.req.header('origin');
    if (site !== undefined && site !== 'same-origin') return false;
    if (origin === undefined) return site === 'same-origin';
    return URL.canParse(origin) && new URL(origin).host === c.req.header('host');
  };
  app.use(csrf({ origin: (_, c) => fromHere(c), secFetchSite: (_, c) => fromHere(c) }));
  app.use(async (c, next) => {
    if (c.req.method === 'POST') {
      // hono's check accepts other content types without an origin. Our forms always have this one.
      if (!/^application\/x-www-form-urlencoded\b/i.test(c.req.header('content-type') ?? ''))
        return c.text('A form is expected.\n', 415);
      if (!(Number(c.req.header('content-length')) <= maxFormBytes)) return c.text('The form is too large.\n', 413);
    } else if (c.req.method !== 'GET' && c.req.method !== 'HEAD') return c.text('', 405, { allow: 'GET, HEAD, POST' });
    return await next();
  });

  const under = new Hono<Env>({ strict: false });

  under.get('/assets/:name', c => {
    const name = c.req.param('name');
    const asset = Object.hasOwn(assets, name) ? assets[name] : undefined;
    if (!asset) return c.notFound();
    c.header('cache-control', 'no-cache');
    return c.body(new Uint8Array(asset.read()), 200, { 'content-type': asset.type });
  });

  if (consoleTrustHeader === undefined) {
    const form = (
      problem: string | undefined,
      to: string,
    ) => html`${problem ? html`<p class="problem" role="alert">${problem}</p>` : ''}
<form method="post" action="${base}/login" class="login">
<p>With a name and password of PostgreSQL. What that role may see and do is what you may see and do here.</p>
<input type="hidden" name="to" value="${to}">
<label><span>Name</span><input name="name" autocomplete="username" required autofocus></label>
<label><span>Password</span><input name="password" type="password" autocomplete="current-password" required></label>
<button class="go">Log in</button></form>`;
    // Only a path of this console is accepted. Browsers read `//elsewhere`, `/\elsewhere` and slashes with a tab
    // between them as another site.
    const inside = (to = '') => {
      const here = 'http://console.invalid';
      if (!to.startsWith('/') || !URL.canParse(to, here)) return `${base}/`;
      const { origin, pathname, search } = new URL(to, here);
      return origin === here && pathname.startsWith(`${base}/`) && !pathname.startsWith('//')
        ? pathname + search
        : `${base}/`;
    };
    under.get('/login', c => c.html(stranger('Log in', form(undefined, inside(c.req.query('to'))))));
    under.post('/login', async c => {
      const given = await c.req.parseBody();
      const to = inside(String(given.to ?? ''));
      try {
        people.logout(getCookie(c, cookie));
        const token = await people.login(String(given.name ?? ''), String(given.password ?? ''), addressOf(c));
        setCookie(c, cookie, token, {
          path: base || '/',
          httpOnly: true,
          sameSite: 'Strict',
          secure: (c.req.header('x-forwarded-proto') ?? new URL(c.req.url).protocol).startsWith('https'),
        });
        log.info('somebody logged in to the console', { role: String(given.name) });
        return c.redirect(to, 303);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        log.warn('a login to the console was refused', { role: String(given.name).slice(0, 63), status: error.status });
        return c.html(stranger('Log in', form(error.message, to)), error.status);
      }
    });
    under.post('/logout', c => {
      people.logout(getCookie(c, cookie));
      deleteCookie(c, cookie, { path: base || '/' });
      return c.redirect(`${base}/login`, 303);
    });
  }

  under.use(async (c, next) => {
    if (consoleTrustHeader !== undefined) {
      if (!isProxy(c)) throw new Refused(403, 'This console is reached by way of its proxy only.');
      c.set('person', await people.ofHeader(c.req.header(consoleTrustHeader)));
    } else {
      const isRefresh = c.req.header('x-collecta-refresh') !== undefined || c.req.path.endsWith('/tail/events');
      const person = people.ofSession(getCookie(c, cookie), !isRefresh);
      if (!person) {
        if (c.req.header('accept')?.includes('text/event-stream')) return c.text('Log in first.\n', 401);
        const { pathname, search } = new URL(c.req.url);
        return c.redirect(url(`${base}/login`, { to: c.req.method === 'POST' ? '' : pathname + search }), 303);
      }
      c.set('person', person);
    }
    const { role } = c.get('person');
    const ofRole = atOnce.get(role) ?? 0;
    const ofAll = [...atOnce.values()].reduce((sum, n) => sum + n, 0);
    if (ofRole >= maxAtOnceOfRole || ofAll >= maxAtOnce) {
      c.header('retry-after', '1');
      return c.text('The console is busy: try again in a second.\n', 503);
    }
    atOnce.set(role, ofRole + 1);
    const end = () => {
      const others = (atOnce.get(role) ?? 1) - 1;
      if (others > 0) atOnce.set(role, others);
      else atOnce.delete(role);
    };
    // A page is in memory until the client has taken all of it. The live tail has its own limit.
    const { outgoing } = c.env ?? {};
    if (outgoing && !c.req.path.endsWith('/tail/events')) {
      outgoing.once('close', end);
      return await next();
    }
    try {
      return await next();
    } finally {
      end();
    }
  });

  const read = <T>(c: Page, work: (sql: Transaction) => Promise<T>) => c.get('person').read(work);
  const spanOf = (c: Page): Span => {
    const span = c.req.query('span') ?? 'day';
    return Object.hasOwn(spans, span) ? (span as Span) : 'day';
  };
  const text = (c: Page, name: string) => c.req.query(name)?.replaceAll('\0', '').trim() || undefined;

  under.get('/', async c => show(c, '/', 'Overview', await read(c, sql => overview(sql, base, spanOf(c))), 10));
  under.get('/endpoints', async c =>
    show(
      c,
      '/endpoints',
      'Endpoints',
      await read(c, sql =>
        endpoints(sql, base, { q: text(c, 'q'), state: text(c, 'state'), after: c.req.query('after') }),
      ),
      10,
    ),
  );
  under.get('/endpoints/:id', async c => {
    const found = await read(c, sql => endpoint(sql, base, c.req.param('id'), spanOf(c)));
    return found ? show(c, '/endpoints', found.title, found.body, 10) : missing(c, 'endpoint');
  });
  under.get('/deliveries', async c => {
    const filter = Object.fromEntries(deliveryFilters.map(name => [name, text(c, name)]));
    if (filter.id?.startsWith('dlv_')) return c.redirect(`${base}/deliveries/${encodeURIComponent(filter.id)}`, 303);
    return show(c, '/deliveries', 'Deliveries', await read(c, sql => deliveries(sql, base, filter)), 5);
  });
  under.get('/deliveries/:id', async c => {
    const body = await read(c, sql => delivery(sql, base, c.req.param('id')));
    return body ? show(c, '/deliveries', 'One delivery', body) : missing(c, 'delivery');
  });
  under.get('/deliveries/:id/body', async c => {
    const request = await read(c, sql => readRequest(sql, c.req.param('id')));
    if (typeof request?.body !== 'string') return missing(c, 'delivery');
    return c.body(request.body, 200, {
      'content-type': 'application/json',
      'content-disposition': 'attachment; filename="body.json"',
    });
  });
  under.post('/deliveries/:id/verify', async c => {
    const id = c.req.param('id');
    const secret = String((await c.req.parseBody()).secret ?? '');
    const request = await read(c, sql => readRequest(sql, id));
    if (!request) return missing(c, 'delivery');
    const headers = JSON.parse(request.headers ?? '{}') as Record<string, string>;
    const signature = headers['webhook-signature'] ?? headers['x-webhook-signature'];
    const verdict =
      request.body === null || !signature
        ? { ok: false, reason: 'its body or its signature cannot be read' }
        : check(secret, request.body, {
            signature,
            id: headers['webhook-id'],
            timestamp: headers['webhook-timestamp'],
            anyAge: true,
          });
    return show(
      c,
      '/deliveries',
      'Verify a signature',
      html`<p class="${verdict.ok ? 'well' : 'problem'}" role="status">${
        verdict.ok
          ? 'The signature is valid: these bytes were signed with this secret.'
          : `The signature is not valid: ${verdict.reason}.`
      }</p>
<p><a href="${base}/deliveries/${id}">The delivery</a></p>`,
    );
  });

  const tailHead = ['when (UTC)', 'outcome', 'event', 'record', 'endpoint', 'attempt', 'took'];
  const line = (each: Attempt) => {
    const cells = [
      html`<a class="time" href="${base}/deliveries/${each.id}">${moment(each.started_at)}</a>`,
      html`${badge(each.outcome)} <span class="number">${each.response_status ?? ''}</span>`,
      each.event
        ? html`${each.event}<span class="quiet block">${each.module}</span>`
        : html`<span class="quiet">hidden from you</span>`,
      html`<code class="cut">${cut(each.record_id ?? '', 300)}</code>`,
      html`<a href="${base}/endpoints/${each.endpoint_id}">${cut(each.name ?? each.endpoint_id, 300)}</a>`,
      html`<span class="number">${each.attempt}</span>`,
      html`<span class="number">${duration(each.duration_ms)}</span>`,
    ];
    return html`<tr role="row" data-key="${each.id}">${cells.map(
      (cell, i) => html`<td role="cell" data-label="${tailHead[i] as string}">${cell}</td>`,
    )}</tr>`;
  };
  under.get('/tail', async c => {
    const endpointId = text(c, 'endpoint');
    const stream = url(`${base}/tail/events`, { endpoint: endpointId });
    return show(
      c,
      '/tail',
      'Live tail',
      html`<p>Attempts as they are recorded, the newest first. Without JavaScript:
      <a href="${url(`${base}/deliveries`, { endpoint: endpointId })}">deliveries</a>.</p>
${filters(`${base}/tail`, [textField('endpoint', 'Endpoint', endpointId, { placeholder: 'name or id' })])}
<p class="quiet" id="tail-state" role="status">Not connected.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Attempts as they are recorded"><table class="stack"
role="table" data-tail="${stream}"><caption class="away">Attempts as they are recorded</caption><thead
role="rowgroup"><tr role="row">${tailHead.map(
        each => html`<th scope="col" role="columnheader">${each}</th>`,
      )}</tr></thead><tbody
  role="rowgroup"></tbody></table></div>`,
    );
  });
  under.get('/tail/events', c => {
    // A HEAD request has no body whose end could stop the watching.
    if (c.req.method === 'HEAD') return c.body(null, 200, { 'content-type': 'text/event-stream' });
    const endpointId = text(c, 'endpoint');
    const person = c.get('person');
    return streamSSE(c, async stream => {
      let leave = () => {};
      await new Promise<void>(resolve => {
        let busy = Promise.resolve();
        let waiting = 0;
        const say = (event: string, data: string) => {
          // A watcher that does not read is disconnected, because its rows would fill the memory.
          if (waiting > 50) return resolve();
          waiting++;
          busy = busy
            .then(() => stream.writeSSE({ event, data }))
            .catch(resolve)
            .finally(() => waiting--) as Promise<void>;
        };
        // When the session ends, the stream ends too.
        const isOver = () =>
          consoleTrustHeader === undefined && people.ofSession(getCookie(c, cookie), false) !== person;
        const end = watch.watch(
          person,
          attempts => {
            if (isOver()) return resolve();
            const mine = endpointId
              ? attempts.filter(each => each.endpoint_id === endpointId || each.name === endpointId)
              : attempts;
            if (mine.length > 0) say('attempts', mine.map(each => String(line(each))).join(''));
          },
          resolve,
        );
        if (!end) {
          say('full', 'Too many are watching already.');
          return void busy.then(() => resolve());
        }
        say('ready', 'Connected.');
        const beat = setInterval(() => {
          if (isOver()) return resolve();
          say('beat', '');
        }, 15_000);
        leave = () => {
          clearInterval(beat);
          end();
        };
        stream.onAbort(resolve);
      });
      leave();
    });
  });

  under.get('/modules', async c => show(c, '/modules', 'Modules', await read(c, sql => modules(sql, base))));
  under.get('/inbound', async c =>
    show(
      c,
      '/inbound',
      'Inbound',
      await read(c, sql =>
        inbound(sql, base, { endpoint: text(c, 'endpoint'), state: text(c, 'state'), before: text(c, 'before') }),
      ),
      10,
    ),
  );
  under.get('/inbound/:id', async c => {
    const body = await read(c, sql => inboundRequest(sql, base, c.req.param('id')));
    return body ? show(c, '/inbound', 'One inbound request', body) : missing(c, 'request');
  });
  under.get('/unrouted', async c =>
    show(
      c,
      '/unrouted',
      'Unrouted',
      await read(c, sql => unrouted(sql, base, { endpoint: text(c, 'endpoint'), after: text(c, 'after') })),
      10,
    ),
  );
  under.get('/actions', async c =>
    show(c, '/actions', 'Actions', await read(c, sql => actionsDone(sql, base, text(c, 'before'))), 10),
  );

  under.get('/act/:name', async c => {
    const name = c.req.param('name');
    const action = actionNamed(name);
    if (!action) return missing(c, 'action');
    return show(c, '', action.title, await read(c, sql => propose(sql, base, name, action, c.req.query())));
  });
  under.post('/act/:name', async c => {
    const name = c.req.param('name');
    const action = actionNamed(name);
    if (!action) return missing(c, 'action');
    const form = Object.fromEntries(
      Object.entries(await c.req.parseBody()).map(([key, value]) => [key, String(value)]),
    );
    const person = c.get('person');
    try {
      const body = await person.act(sql => perform(sql, base, action, form));
      log.info('an action was run from the console', { role: person.role, action: name });
      return show(c, '', action.title, body);
    } catch (error) {
      if (!(error instanceof NotRun)) throw error;
      const again = await read(c, sql => propose(sql, base, name, action, form));
      return c.html(
        page(
          siteOf(c),
          action.title,
          html`<p class="problem" role="alert">Nothing was done. ${error.message}</p>${again}`,
        ),
        409,
      );
    }
  });

  function missing(c: Page, what: string) {
    return c.html(
      page(
        siteOf(c),
        'Not found',
        html`<p>There is no such ${what}, or it is none of yours, or it is past its retention.</p>`,
      ),
      404,
    );
  }
  under.get('*', c => missing(c, 'page'));

  app.route(base || '/', under);
  app.notFound(c => {
    if (base !== '' && ['/', base].includes(new URL(c.req.url).pathname)) return c.redirect(`${base}/`, 303);
    return c.text(`There are /livez, /readyz, /metrics and the console at ${base}/\n`, 404);
  });

  app.onError((error, c) => {
    const person = (c as Page).get('person') as Person | undefined;
    const { code, message, detail, hint } = error as Error & { code?: string; detail?: string; hint?: string };
    if (error instanceof Refused)
      return c.html(stranger('No entry', html`<p class="problem" role="alert">${message}</p>`), error.status);
    if (error instanceof Incomplete)
      return c.html(page(siteOf(c as Page), 'Refused', html`<p class="problem" role="alert">${message}</p>`), 422);
    if ('getResponse' in error) return c.text('This request did not come from a page of this console.\n', 403);
    const unreachable = error instanceof DidNotAnswer ? message : whyUnreachable(error);
    log.warn('a page of the console failed', { path: new URL(c.req.url).pathname, code, message });
    // The password was changed, or the role may not log in any more.
    if (code?.startsWith('28') && person && consoleTrustHeader === undefined) {
      people.logout(getCookie(c, cookie));
      return c.redirect(`${base}/login`, 303);
    }
    if (unreachable !== undefined || !code || !person)
      return c.html(
        stranger(
          'Not now',
          html`<p class="problem" role="alert">${
            unreachable === undefined
              ? 'Something went wrong: this process’s log says what.'
              : 'The database cannot be reached now. Try again.'
          }</p>${
            unreachable !== undefined && person && c.req.method === 'POST'
              ? html`<p>It is not known whether the action was run: if it was, it is among the
<a href="${base}/actions">actions</a>.</p>`
              : ''
          }`,
        ),
        unreachable === undefined ? 500 : 503,
      );
    const why =
      code === '57014'
        ? 'The database took longer than 5 s, so the question was cancelled. Narrow the filter.'
        : code === '42501'
          ? `${person.role} may not do this: ${message}.`
          : message;
    const status = code === '57014' ? 503 : code === '42501' ? 403 : 422;
    return c.html(
      page(
        siteOf(c as Page),
        'Refused',
        html`<p class="problem" role="alert">${why}</p>${detail ? html`<p>${detail}</p>` : ''}${
          hint ? html`<p>What helps:</p><pre class="sql" tabindex="0">${hint}</pre>` : ''
        }<p class="quiet">SQLSTATE
          ${code}</p>`,
      ),
      status,
    );
  });

  const listen = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  return {
    handle: (request: IncomingMessage, response: ServerResponse): Promise<void> => listen(request, response),
    /** Answers a request without a socket, for tests. */
    fetch: (request: Request) => app.fetch(request),
    async close(): Promise<void> {
      watch.close();
      await people.close();
    },
  };
}

function check(
  secret: string,
  body: string,
  given: Parameters<typeof verify>[2],
): { ok: boolean; reason: string | null } {
  try {
    return verify(secret, Buffer.from(body), given);
  } catch (error) {
    return { ok: false, reason: (error as Error).message };
  }
}
