import { createHash } from 'node:crypto';
import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Log } from '../log.ts';
import { verifySignature } from '../secrets/sign.ts';
import { readPayload } from './mapping.ts';
import { type Receiver, Unavailable } from './receive.ts';

/** One request, as far as inbound looks at it; header names in lower case, several of one name joined by `, `. */
export type InboundRequest = {
  method: string;
  /** Path as it came, without the query. */
  path: string;
  headers: Readonly<Record<string, string | undefined>>;
  body: AsyncIterable<Uint8Array> | null;
  remoteAddress: string | undefined;
};
export type InboundAnswer = { status: number; headers: Record<string, string>; body: string };

export type HandlerOptions = {
  receiver: Receiver;
  log: Log;
  /** How many proxies in front are ours: the address is taken from so far right in X-Forwarded-For. */
  trustedProxies?: number;
  /** 401 and 404 a minute and address (an IPv6 /64), after which everything from there is 429. */
  addressLimit?: number;
  now?: () => number;
};

const titles: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  404: 'Not Found',
  405: 'Method Not Allowed',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  429: 'Too Many Requests',
  503: 'Service Unavailable',
};

type Extra = { headers?: Record<string, string>; members?: Record<string, string | null>; endpointId?: string };

/** An answer as application/problem+json (RFC 9457). */
export function problem(status: number, detail: string, { headers = {}, members = {} }: Extra = {}): InboundAnswer {
  const body = JSON.stringify({ type: 'about:blank', title: titles[status], status, detail, ...members });
  return {
    status,
    headers: { 'content-type': 'application/problem+json', 'cache-control': 'no-store', ...headers },
    body,
  };
}

class TooLarge extends Error {}

/**
 * Answers `POST /api/webhooks/:moduleSlug/:token`: address limit → route → token → size → signature → content type →
 * JSON → one call of the database. Never throws but for a request that ends before its body does.
 */
export function createInbound({
  receiver,
  log,
  trustedProxies = 0,
  addressLimit = 600,
  now = Date.now,
}: HandlerOptions) {
  const addresses = createAddressLimit(addressLimit, now);

  return async function answer(request: InboundRequest): Promise<InboundAnswer> {
    const address = clientAddress(request, trustedProxies);
    const refuse = (status: number, detail: string, extra: Extra = {}): InboundAnswer => {
      receiver.refused(extra.endpointId ?? '', status);
      if (status === 401 || status === 404) addresses.count(address);
      return problem(status, detail, extra);
    };
    const notFound = () => refuse(404, 'There is nothing here.');
    const blockedMs = addresses.blockedFor(address);
    if (blockedMs > 0)
      return refuse(429, 'Too many failed requests from this address.', {
        headers: { 'retry-after': seconds(blockedMs) },
      });

    const route = /^\/api\/webhooks\/([^/]*)\/([^/]*)$/.exec(request.path);
    if (!route) return notFound();
    if (request.method !== 'POST') {
      const answer = refuse(405, 'Send a POST.', { headers: { allow: 'POST' } });
      return request.method === 'HEAD' || request.method === 'OPTIONS' ? { ...answer, body: '' } : answer;
    }
    let slug: string;
    let token: string;
    try {
      slug = decodeURIComponent(route[1]!);
      token = decodeURIComponent(route[2]!);
    } catch {
      return refuse(400, 'The path is not percent-encoded UTF-8.');
    }
    if (!/^[a-z0-9][a-z0-9_-]{0,62}$/.test(slug) || !/^[0-9a-f]{64}$/.test(token)) return notFound();

    try {
      const tokenHash = createHash('sha256').update(token).digest('hex');
      let endpoint = await receiver.find(slug, tokenHash);
      if (!endpoint) return notFound();
      const { headers } = request;
      const on = { endpointId: endpoint.id };
      const bytes = await readBody(request, endpoint.maxBodyBytes);
      const signatures = {
        'webhook-id': headers['webhook-id'],
        'webhook-timestamp': headers['webhook-timestamp'],
        'webhook-signature': headers['webhook-signature'],
        'x-webhook-signature': headers['x-webhook-signature'],
        ...(endpoint.githubSignature && { 'x-hub-signature-256': headers['x-hub-signature-256'] }),
      };
      if (endpoint.keys.length > 0) {
        const { ok, reason } = verifySignature(endpoint.keys, signatures, bytes, now() / 1000);
        if (!ok)
          return refuse(401, `The signature was refused: ${reason}.`, {
            ...on,
            headers: { 'www-authenticate': 'Signature' },
          });
      }
      const unsupported = whyUnsupported(headers);
      if (unsupported) return refuse(415, unsupported, { ...on, headers: { accept: 'application/json' } });
      const key = headers['idempotency-key'] ?? headers['webhook-id'];
      if (key !== undefined && !/^[\x20-\x7e]{1,255}$/.test(key))
        return refuse(400, 'An idempotency key is 1 to 255 printable ASCII characters.', on);
      const keyHash = key === undefined ? null : createHash('sha256').update(key).digest('hex');
      const payload = readPayload(bytes);
      if (!payload.ok && payload.status === 400) return refuse(400, `${capitalised(payload.reason)}.`, on);
      const { rateLimit } = endpoint;
      const usedUp = (milliseconds: number) =>
        refuse(429, `This endpoint takes ${rateLimit} requests in 60 seconds.`, {
          ...on,
          headers: {
            'retry-after': seconds(milliseconds),
            'ratelimit-limit': String(rateLimit),
            'ratelimit-remaining': '0',
            'ratelimit-reset': seconds(milliseconds),
            'ratelimit-policy': `${rateLimit};w=60`,
          },
        });
      if (endpoint.usedUpUntil > now()) return usedUp(endpoint.usedUpUntil - now());

      let outcome = await receiver.receive(endpoint, payload, keyHash);
      if (outcome.status === 409) {
        // The mapping has changed, and the NOTIFY has not come through yet.
        receiver.forget();
        endpoint = await receiver.find(slug, tokenHash);
        if (!endpoint) return notFound();
        outcome = await receiver.receive(endpoint, payload, keyHash);
      }
      log[outcome.status === 202 ? 'debug' : 'info']('inbound request', {
        inbound_endpoint_id: endpoint.id,
        status: outcome.status,
        request_id: outcome.kept_as,
        column: outcome.column_name,
      });
      if (outcome.status === 202)
        return {
          status: 202,
          headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
          body: JSON.stringify({ recordId: outcome.record_id }),
        };
      if (outcome.status === 404) return notFound();
      if (outcome.status === 429) return usedUp((outcome.retry_after ?? 0) * 1000);
      const path = endpoint.mapping.find(({ column }) => column === outcome.column_name)?.path ?? null;
      const where = outcome.column_name === null ? '' : `${path === null ? '' : `${path} → `}${outcome.column_name}: `;
      const kept = { members: { path, column: outcome.column_name, requestId: outcome.kept_as } };
      if (outcome.status === 422) return problem(422, `${where}${outcome.reason}.`, kept);
      return problem(503, `${where}${outcome.reason ?? 'the mapping is being changed'}.`, {
        ...kept,
        headers: { 'retry-after': '5' },
      });
    } catch (error) {
      if (error instanceof TooLarge) return refuse(413, error.message);
      const { name, code } = error as { name?: string; code?: string };
      if (error instanceof Unavailable) log.warn('inbound cannot reach the database', { code: code ?? error.message });
      else if (code === 'ECONNRESET') throw error;
      else if (code === '22021' || code === '22P05')
        return refuse(422, 'The database has an encoding that cannot hold the body.');
      else log.error('inbound failed', { name, code });
      return refuse(503, 'The database cannot be reached right now.', { headers: { 'retry-after': '5' } });
    }
  };
}

/**
 * The same as a function over fetch's Request and Response, to be mounted in any server. It must see the path as it
 * came (`/api/webhooks/…`) and the body unread; without `remoteAddress` all requests count as one address's.
 */
export function createInboundHandler(options: HandlerOptions) {
  const answer = createInbound(options);
  return async (request: Request, info?: { remoteAddress?: string }): Promise<Response> => {
    const { status, headers, body } = await answer({
      method: request.method,
      path: new URL(request.url).pathname,
      headers: Object.fromEntries(request.headers),
      body: request.body as unknown as AsyncIterable<Uint8Array> | null,
      remoteAddress: info?.remoteAddress,
    });
    return new Response(body || null, { status, headers });
  };
}

/** Reads at most `limit` bytes: what a header announces is believed when it is too much, and never otherwise. */
async function readBody({ headers, body }: InboundRequest, limit: number): Promise<Uint8Array> {
  const tooLarge = new TooLarge(`The body is larger than ${limit} bytes.`);
  if (Number(headers['content-length'] ?? 0) > limit) throw tooLarge;
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body ?? []) {
    size += chunk.byteLength;
    if (size > limit) throw tooLarge;
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
}

function whyUnsupported(headers: InboundRequest['headers']): string | undefined {
  const encoding = headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity')
    return 'Send the body without a Content-Encoding.';
  const type = /^application\/(?:json|[a-z0-9!#$&^_.+-]+\+json)\s*((?:;.*)?)$/i.exec(headers['content-type'] ?? '');
  const charset = /;\s*charset\s*=\s*"?([^";,\s]*)/i.exec(type?.[1] ?? '')?.[1];
  if (!type || type[1]!.includes(',') || (charset !== undefined && charset.toLowerCase() !== 'utf-8'))
    return 'Send application/json in UTF-8.';
  return undefined;
}

const seconds = (milliseconds: number) => String(Math.max(1, Math.ceil(milliseconds / 1000)));
const capitalised = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

function clientAddress({ remoteAddress, headers }: InboundRequest, trustedProxies: number): string {
  const hops = (headers['x-forwarded-for'] ?? '').split(',').map(hop => hop.trim());
  const address = (trustedProxies > 0 && hops.at(-trustedProxies)) || remoteAddress || '';
  if (!isIPv6(address)) return address;
  const parsed = ipaddr.IPv6.parse(address.replace(/%.*$/, ''));
  return parsed.isIPv4MappedAddress() ? parsed.toIPv4Address().toString() : parsed.parts.slice(0, 4).join(':');
}

/** Failures a minute and address, in memory; of more than 10,000 addresses the oldest is forgotten. */
function createAddressLimit(limit: number, now: () => number) {
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
      return known && known.count >= limit ? known.until - now() : 0;
    },
  };
}
