import { createHash } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import type { Log } from '../log.ts';
import { formToJson, readPayload } from './payload.ts';
import { type InboundEndpoint, type Outcome, type Receiver, type Repetition, Unavailable } from './receive.ts';
import { answerHandshake, type Readable, read, type Sender, type Verified, verify, weakDigest } from './senders.ts';

/** One request. Header names are lower case, and several headers of one name are joined with `, `. */
export type InboundRequest = {
  method: string;
  /** The request's target, unchanged: the path with its query, or a URL. */
  target: string;
  headers: Readonly<Record<string, string | undefined>>;
  body: AsyncIterable<Uint8Array> | null;
  remoteAddress: string | undefined;
};
export type InboundAnswer = { status: number; headers: Record<string, string>; body: string };

export type HandlerOptions = {
  receiver: Receiver;
  log: Log;
  /** The number of trusted proxies. The client's address is at this place from the right in X-Forwarded-For. */
  trustedProxies?: number;
  now?: () => number;
  /** The URL under which senders see this server, for those that sign it. By default https and the Host header. */
  publicUrl?: string | undefined;
};

/** The number of 401 and 404 per minute and address (or IPv6 /64) after which all its requests get 429. */
const maxFailures = 600;
/** The most bytes of bodies that are processed at once. */
const maxBytesInFlight = 64 * 1024 * 1024;

/** The names of RFC 9110. Node still has older ones of these two. */
const titles: Record<number, string | undefined> = {
  ...STATUS_CODES,
  413: 'Content Too Large',
  422: 'Unprocessable Content',
};

type Extra = { headers?: Record<string, string>; members?: Record<string, string | null> };

const answerWith = (status: number, type: string, body: string, headers: Record<string, string> = {}) => ({
  status,
  headers: { 'content-type': type, 'cache-control': 'no-store', ...headers },
  body,
});

/** An answer as application/problem+json (RFC 9457). */
export function problem(status: number, detail: string, { headers = {}, members = {} }: Extra = {}): InboundAnswer {
  const body = JSON.stringify({ type: 'about:blank', title: titles[status], status, detail, ...members });
  return answerWith(status, 'application/problem+json', body, headers);
}

const plain = (body: string): InboundAnswer =>
  answerWith(200, 'text/plain; charset=utf-8', body, { 'x-content-type-options': 'nosniff' });

class TooLarge extends Error {}

const sha256 = (data: string | Uint8Array) => createHash('sha256').update(data).digest('hex');

/**
 * Answers `POST /api/webhooks/:moduleSlug/:token`. First it checks the address limit, the route, the token, the budget
 * and the size. Then it reads the body, checks signature, content type and payload, and calls the database once. It
 * throws only if the request ends before its body does.
 */
export function createInbound({ receiver, log, trustedProxies = 0, now = Date.now, publicUrl }: HandlerOptions) {
  const addresses = createAddressLimit(now);
  let bytesInFlight = 0;

  return async function answer(request: InboundRequest): Promise<InboundAnswer> {
    const { headers, method } = request;
    const address = clientAddress(request, trustedProxies);
    let endpointId = '';
    const refuse = (status: number, detail: string, extra: Extra = {}): InboundAnswer => {
      receiver.refused(endpointId, status);
      if (status === 401 || status === 404) addresses.count(address);
      return problem(status, detail, extra);
    };
    const notFound = () => {
      endpointId = '';
      return refuse(404, 'There is nothing here.');
    };
    const blockedMs = addresses.blockedFor(address);
    if (blockedMs > 0)
      return refuse(429, 'Too many failed requests from this address.', {
        headers: { 'retry-after': seconds(blockedMs) },
      });

    const [, path = '', query = ''] = /^(?:https?:\/\/[^/?]*)?([^?]*)\??(.*)$/is.exec(request.target) ?? [];
    const route = /^\/api\/webhooks\/([^/]*\/[^/]*)\/?$/.exec(path)?.[1];
    if (route === undefined) return notFound();
    const notAllowed = () => {
      const refusal = refuse(405, 'Send a POST.', { headers: { allow: 'POST' } });
      return method === 'HEAD' || method === 'OPTIONS' ? { ...refusal, body: '' } : refusal;
    };
    // A GET can only be a handshake, and those have a query.
    if (method !== 'POST' && (method !== 'GET' || query === '')) return notAllowed();
    const decoded = decodePath(route);
    if (decoded === undefined && method === 'POST') return refuse(400, 'The path is not percent-encoded UTF-8.');
    const [, slug, token] = /^([a-z0-9][a-z0-9_-]{0,62})\/([0-9a-f]{64})$/.exec(decoded ?? '') ?? [];
    if (!slug || !token) return method === 'GET' ? notAllowed() : notFound();

    let reserved = 0;
    try {
      const endpoint = await receiver.find(slug, sha256(token));
      if (!endpoint && method === 'GET') {
        addresses.count(address);
        return notAllowed();
      }
      if (!endpoint) return notFound();
      const readable: Readable = {
        headers,
        query,
        token,
        url: (publicUrl?.replace(/\/$/, '') ?? `https://${headers.host ?? ''}`) + path + (query && `?${query}`),
        body: new Uint8Array(),
        document: undefined,
      };
      const greeting = answerHandshake(endpoint.sender, method, readable, 'before reading');
      if (greeting !== undefined) return plain(greeting);
      if (method === 'GET') return notAllowed();
      endpointId = endpoint.id;

      const { rateLimit, sender } = endpoint;
      const usedUp = (milliseconds: number) =>
        refuse(429, `This endpoint takes ${rateLimit} requests in 60 seconds.`, {
          headers: {
            'retry-after': seconds(milliseconds),
            'ratelimit-limit': String(rateLimit),
            'ratelimit-remaining': '0',
            'ratelimit-reset': seconds(milliseconds),
            'ratelimit-policy': `${rateLimit};w=60`,
          },
        });
      if (endpoint.usedUpUntil > now()) return usedUp(endpoint.usedUpUntil - now());
      const announced = Number(headers['content-length'] ?? endpoint.maxBodyBytes);
      const most = Math.min(Number.isSafeInteger(announced) ? announced : 0, endpoint.maxBodyBytes);
      if (bytesInFlight > 0 && bytesInFlight + most > maxBytesInFlight)
        return refuse(503, 'Too many large requests are under way.', { headers: { 'retry-after': '1' } });
      reserved = most;
      bytesInFlight += reserved;
      readable.body = await readBody(request, endpoint.maxBodyBytes);

      // The payload is parsed before it is verified only if it contains the signature.
      const inside = endpoint.signatures?.some(scheme => !scheme.in.startsWith('header:')) ?? false;
      let payload = inside ? readAs(headers, sender, readable.body) : undefined;
      if (typeof payload === 'object' && payload.ok) readable.document = payload.document;
      const verified = endpoint.signatures && verify(endpoint.signatures, endpoint.keys, readable, now() / 1000);
      if (verified && !verified.ok)
        return refuse(401, `The signature was refused: ${verified.reason}.`, {
          headers: { 'www-authenticate': 'Signature' },
        });
      payload ??= readAs(headers, sender, readable.body);
      if (typeof payload === 'string') return refuse(415, payload, { headers: { accept: 'application/json' } });
      if (payload.ok) readable.document = payload.document;

      // Somebody who captured the request cannot change an id that the signature covers.
      const id = verified?.id ?? sender.ids.map(source => read(source, readable)).find(found => found !== undefined);
      const key = id ?? headers['idempotency-key'];
      const isText = sender.ids.some(source => source.startsWith('$') && read(source, readable) === key);
      if (key !== undefined && !isText && !/^[\x20-\x7e]{1,255}$/.test(key))
        return refuse(400, 'An idempotency key is 1 to 255 printable ASCII characters.');
      if (!payload.ok && payload.status === 400) return refuse(400, `${capitalised(payload.reason)}.`);
      const shaken = answerHandshake(sender, method, readable, 'verified');
      if (shaken !== undefined) return plain(shaken);
      const repetition: Repetition = {
        keyHash: key === undefined ? null : sha256(key),
        sameBody: id === undefined,
        ...digestFor(endpoint, readable, verified, isText),
      };
      const event = sender.event === null ? undefined : read(sender.event, readable);
      const { events } = endpoint;
      const ignored =
        (event !== undefined && sender.ignored.includes(event)) || (events !== null && !events.includes(event ?? ''));

      const outcome = await receiver.receive(endpoint, payload, repetition, ignored);
      log[outcome.status === 202 ? 'debug' : 'info']('inbound request', {
        inbound_endpoint_id: endpoint.id,
        status: outcome.status,
        request_id: outcome.kept_as,
        column: outcome.column_name,
      });
      if (outcome.status === 404) return notFound();
      if (outcome.status === 429) return usedUp((outcome.retry_after ?? 0) * 1000);
      return answerOutcome(endpoint, outcome, ignored);
    } catch (error) {
      if (error instanceof TooLarge) return refuse(413, error.message);
      const { name, code } = error as { name?: string; code?: string };
      if (/^(40|55P03)/.test(code ?? '')) {
        log.warn('other sessions were in the way of an inbound request', { code });
        return refuse(503, 'Other writers are in the way right now.', { headers: { 'retry-after': '5' } });
      }
      if (error instanceof Unavailable) log.warn('inbound cannot reach the database', { code: code ?? error.message });
      else if (code === 'ECONNRESET') throw error;
      else if (code === '22021' || code === '22P05')
        return refuse(422, 'The database has an encoding that cannot hold the body.');
      else if (code === 'CW040')
        log.error('inbound requests are refused: this database is a copy', { hint: 'select * from collecta.health;' });
      else log.error('inbound failed', { name, code });
      return refuse(503, 'The database cannot be reached right now.', { headers: { 'retry-after': '5' } });
    } finally {
      bytesInFlight -= reserved;
    }
  };
}

/**
 * The digest that identifies repetitions of this request, and whether this request can itself be a repetition. It
 * cannot if its signature covers its id, or its time and the payload that contains its id. The digest is that of the
 * signed text and not of the body, because one signature may be valid for several encodings of a form.
 */
function digestFor(
  { signatures, digestSeconds }: InboundEndpoint,
  request: Readable,
  verified: Verified | null,
  idIsSigned: boolean,
): Pick<Repetition, 'bodyDigest' | 'checkDigest'> {
  if (digestSeconds === 0) return { bodyDigest: null, checkDigest: false };
  const signed = verified?.ok ? verified : null;
  if (digestSeconds !== null)
    return { bodyDigest: (!signed?.timed && signed?.digest) || sha256(request.body), checkDigest: true };
  if (signed === null) return { bodyDigest: null, checkDigest: false };
  if (signed.id === null && !(signed.timed && idIsSigned))
    return { bodyDigest: signed.digest ?? sha256(request.body), checkDigest: true };
  return { bodyDigest: weakDigest(signatures ?? [], request), checkDigest: false };
}

function decodePath(path: string): string | undefined {
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

/** The answer for the sender: what was written, or why nothing was. */
function answerOutcome({ paths, eachAlone }: InboundEndpoint, outcome: Outcome, ignored: boolean): InboundAnswer {
  if (outcome.status === 202) {
    const results = outcome.results ? resultRows.parse(JSON.parse(outcome.results)) : null;
    const body = results
      ? {
          recordIds: results.map(({ recordId }) => recordId),
          ...(eachAlone && {
            results: results.map(({ recordId, detail, column }) =>
              recordId === null ? { detail, column } : { recordId },
            ),
          }),
        }
      : { recordId: outcome.record_id, ...(ignored && { ignored: true }) };
    return answerWith(202, 'application/json', JSON.stringify(body));
  }
  const { column_name: column = null, kept_as: requestId = null } = outcome;
  const path = (column !== null && Object.hasOwn(paths, column) && paths[column]) || null;
  const where = column === null ? '' : `${path === null ? '' : `${path} → `}${column}: `;
  const detail = `${where}${outcome.reason ?? ''}.`;
  const members = { path, column, requestId };
  return outcome.status === 422
    ? problem(422, detail, { members })
    : problem(503, detail, { members, headers: { 'retry-after': '5' } });
}

const resultRows = z.array(
  z.object({
    recordId: z.string().nullable(),
    detail: z.string().nullish(),
    column: z.string().nullish(),
  }),
);

/** The payload of a body, or as text the reason why there is none, for example the content type. */
function readAs(headers: InboundRequest['headers'], { contentTypes, formField }: Sender, body: Uint8Array) {
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity')
    return 'Send the body without a Content-Encoding.';
  const [, type = '', parameters = ''] = /^\s*([^;,\s]+)\s*((?:;.*)?)$/s.exec(headers['content-type'] ?? '') ?? [];
  const charset = /;\s*charset\s*=\s*"?([^";,\s]*)/i.exec(parameters)?.[1] ?? 'utf-8';
  const kind = /^(application|text)\/json$|^application\/[a-z0-9!#$&^_.+-]+\+json$/i.test(type)
    ? 'json'
    : /^application\/x-www-form-urlencoded$/i.test(type)
      ? 'form'
      : 'text';
  const known = kind !== 'text' || /^text\/plain$/i.test(type);
  if (
    !known ||
    parameters.includes(',') ||
    !contentTypes.includes(kind) ||
    !/^(unicode-1-1-)?utf[-_]?8$/i.test(charset)
  )
    return 'Send application/json in UTF-8.';
  try {
    return readPayload(kind === 'form' ? formToJson(body, formField) : body);
  } catch {
    return readPayload(Uint8Array.of(0xff));
  }
}

/**
 * The handler as a function from fetch's Request to its Response, for any server. It needs the unchanged path
 * (`/api/webhooks/…`) and the unread body. Without `remoteAddress` all requests count for one address.
 */
export function createInboundHandler(options: HandlerOptions) {
  const answer = createInbound(options);
  return async (request: Request, info?: { remoteAddress?: string }): Promise<Response> => {
    const { status, headers, body } = await answer({
      method: request.method,
      target: request.url,
      headers: Object.fromEntries(request.headers),
      body: request.body as unknown as AsyncIterable<Uint8Array> | null,
      remoteAddress: info?.remoteAddress,
    });
    return new Response(body || null, { status, headers });
  };
}

/**
 * Reads at most `limit` bytes. A Content-Length above the limit is refused at once. A smaller one is not trusted.
 */
async function readBody({ headers, body }: InboundRequest, limit: number): Promise<Uint8Array> {
  const tooLarge = () => new TooLarge(`The body is larger than ${limit} bytes.`);
  if (Number(headers['content-length'] ?? 0) > limit) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    size += chunk.byteLength;
    if (size > limit) throw tooLarge();
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

const seconds = (milliseconds: number) => String(Math.max(1, Math.ceil(milliseconds / 1000)));
const capitalised = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

function clientAddress({ remoteAddress, headers }: InboundRequest, trustedProxies: number): string {
  const hops = trustedProxies > 0 ? (headers['x-forwarded-for'] ?? '').split(',') : [];
  const address = hops.at(-trustedProxies)?.trim() || remoteAddress || '';
  if (!isIPv6(address)) return address;
  const parsed = ipaddr.IPv6.parse(address.replace(/%.*$/, ''));
  return parsed.isIPv4MappedAddress() ? parsed.toIPv4Address().toString() : parsed.parts.slice(0, 4).join(':');
}

/** Counts failures per minute and address, in memory. Above 10,000 addresses it forgets the oldest. */
function createAddressLimit(now: () => number) {
  const failures = new Map<string, { count: number; until: number }>();
  return {
    count(address: string): void {
      const known = failures.get(address);
      if (known && known.until > now()) {
        known.count++;
        return;
      }
      failures.delete(address);
      if (failures.size >= 10_000) failures.delete(failures.keys().next().value!);
      failures.set(address, { count: 1, until: now() + 60_000 });
    },
    blockedFor(address: string): number {
      const known = failures.get(address);
      return known && known.count >= maxFailures ? known.until - now() : 0;
    },
  };
}
