import { createHash, createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { type Json, lookUp, type Path, parsePath, textOf } from './payload.ts';

const signature = z.strictObject({
  in: z.string(),
  separator: z.string().optional(),
  prefix: z.string().default(''),
  encoding: z.enum(['hex', 'base64', 'plain']).default('hex'),
  hash: z.enum(['sha256', 'sha1', 'sha512']).default('sha256'),
  key: z.enum(['text', 'base64']).default('text'),
  signed: z.string().default(''),
  id: z.string().optional(),
  timestamp: z.string().optional(),
  max_age: z.number().default(300),
});
const handshake = z.strictObject({
  method: z.string().default('POST'),
  when: z.record(z.string(), z.union([z.string(), z.literal(true)])),
  answer: z.string(),
  signed: z.boolean().default(false),
});

/** A row of `collecta.inbound_senders`: how its requests are signed and numbered, as data. */
export const senderRow = z.object({
  signatures: z.array(signature),
  ids: z.array(z.string()),
  event: z.string().nullable(),
  ignored: z.array(z.string()),
  handshakes: z.array(handshake),
  contentTypes: z.array(z.enum(['json', 'form', 'text'])),
  formField: z.string().nullable(),
});
export type Sender = z.infer<typeof senderRow>;
type Signature = z.infer<typeof signature>;

/**
 * A secret, prepared once. A `KeyObject` does not show the secret if it is logged. `plain` is the SHA-256 of the
 * secret, for senders that send the secret itself.
 */
export type SenderKey = { text: KeyObject; base64: KeyObject; plain: Buffer };

/**
 * What a source can read of a request. `document` is undefined until the body is parsed, and if it is not a payload.
 */
export type Readable = {
  headers: Readonly<Record<string, string | undefined>>;
  query: string;
  token: string;
  url: string;
  body: Uint8Array;
  document: Json | undefined;
};

const digest = (text: string) => createHash('sha256').update(text).digest();

/**
 * Prepares a secret. Throws for bad base64 after `whsec_`, but only if the sender's keys are base64: Stripe's secrets
 * begin with `whsec_` too, and are text.
 */
export function senderKey(secret: string, { signatures }: Sender): SenderKey {
  const text = createSecretKey(Buffer.from(secret, 'utf8'));
  const plain = digest(secret);
  const encoded = /^whsec_(.*)$/s.exec(secret)?.[1];
  if (encoded === undefined || !signatures.some(({ key }) => key === 'base64')) return { text, base64: text, plain };
  const decoded = Buffer.from(encoded, 'base64');
  if (decoded.length === 0 || decoded.toString('base64').replace(/=+$/, '') !== encoded.replace(/=+$/, ''))
    throw new Error('the secret is not base64 after whsec_');
  return { text, base64: createSecretKey(decoded), plain };
}

const paths = new Map<string, { base: Path; rest: Path | null }>();

/** All values of a source: `header:<name>`, `query:<name>`, or a path in which one `[*]` stands for all elements. */
function readAll(source: string, { headers, query, document }: Readable): string[] {
  const [, kind, name = ''] = /^(header|query):(.*)$/s.exec(source) ?? [];
  if (kind) {
    const value = kind === 'header' ? headers[name] : new URLSearchParams(query).get(name);
    return typeof value === 'string' ? [value] : [];
  }
  if (document === undefined) return [];
  let path = paths.get(source);
  if (!path) {
    const [base = '', rest] = source.split('[*]');
    path = { base: parsePath(base), rest: rest === undefined ? null : parsePath(`$${rest}`) };
    if (paths.size > 1000) paths.clear();
    paths.set(source, path);
  }
  const { base, rest } = path;
  const found = lookUp(document, base);
  if (rest === null) return [textOf(found)].filter(v => v !== undefined);
  // An element without the value gives an empty text, so that the check of all elements fails.
  return Array.isArray(found) ? found.map(element => textOf(lookUp(element, rest)) ?? '') : [];
}

/** The first value of a source. */
export const read = (source: string, request: Readable): string | undefined => readAll(source, request)[0];

/** Whether a source can be read before the body is. */
const isEarly = (source: string) => /^(header|query):/.test(source);

/** The fields of a form as Twilio signs them: sorted by name, each name followed by its value, repeated fields once. */
function sortedForm(body: Uint8Array): string {
  const fields = new URLSearchParams(Buffer.from(body).toString('utf8'));
  return [...new Set(fields.keys())]
    .sort()
    .flatMap(name => [...new Set(fields.getAll(name))].sort().map(value => name + value))
    .join('');
}

/** Fills a template. Returns its parts: literal text, and the value of each {placeholder}. */
function fill(template: string, request: Readable, named: Record<string, string | undefined>): (string | Uint8Array)[] {
  return template.split(/\{([^}]+)\}/).map((name, place) => {
    if (place % 2 === 0) return name; // the text between two placeholders
    if (name === 'body') return request.body;
    if (name === 'url') return request.url;
    if (name === 'token') return request.token;
    if (name === 'form') return sortedForm(request.body);
    return named[name] ?? read(name, request) ?? '';
  });
}

const byteLength = { sha1: 20, sha256: 32, sha512: 64 };

function decode(text: string, { encoding, hash }: Signature): Buffer | undefined {
  const length = byteLength[hash];
  if (encoding === 'hex')
    return new RegExp(`^[0-9a-f]{${length * 2}}$`, 'i').test(text) ? Buffer.from(text, 'hex') : undefined;
  const bytes = /^[A-Za-z0-9+/]+={0,2}$/.test(text) ? Buffer.from(text, 'base64') : Buffer.alloc(0);
  return bytes.length === length && bytes.toString('base64') === text ? bytes : undefined;
}

/** The result of a verification. `digest` is the SHA-256 of the signed text; null if the secret itself was sent. */
export type Verified =
  | { ok: true; id: string | null; timed: boolean; digest: string | null }
  | { ok: false; reason: string };

/**
 * Checks whether any of the sender's signatures is valid, over the raw bytes and with any of the keys, and compares in
 * constant time. Timestamps are compared with the clock of this process. `id` is the request's id if the signature
 * covers it.
 */
export function verify(
  signatures: readonly Signature[],
  keys: readonly SenderKey[],
  request: Readable,
  nowSeconds: number,
): Verified {
  let refused: Verified = { ok: false, reason: 'no signature header' };
  for (const scheme of signatures) {
    const given = readAll(scheme.in, request);
    if (given.length === 0) continue;
    const result = verifyOne(scheme, given, keys, request, nowSeconds);
    if (result.ok) return result;
    if (refused.reason === 'no signature header') refused = result;
  }
  return refused;
}

function verifyOne(
  scheme: Signature,
  given: string[],
  keys: readonly SenderKey[],
  request: Readable,
  nowSeconds: number,
): Verified {
  const name = scheme.in.replace('header:', '');
  const refuse = (reason: string): Verified => ({ ok: false, reason });
  if (scheme.encoding === 'plain') {
    const right = given.every(value => keys.some(({ plain }) => timingSafeEqual(digest(value), plain)));
    return right ? { ok: true, id: null, timed: false, digest: null } : refuse(`${name} does not match`);
  }
  const items = scheme.separator ? given[0]!.split(scheme.separator).map(item => item.trim()) : [given[0]!];
  const inside = scheme.timestamp?.startsWith('signature:') ? scheme.timestamp.slice('signature:'.length) : undefined;
  const timestamp =
    inside === undefined
      ? scheme.timestamp && read(scheme.timestamp, request)
      : items.find(item => item.startsWith(inside))?.slice(inside.length);
  const id = scheme.id && read(scheme.id, request);
  const label = inside === undefined ? (scheme.timestamp?.replace('header:', '') ?? '') : `the time in ${name}`;
  if ((scheme.timestamp && !timestamp) || (scheme.id && !id))
    return refuse(`${scheme.id?.replace('header:', '') ?? name} or ${label} is missing`);
  if (timestamp !== undefined) {
    if (!/^\d{1,12}$/.test(timestamp)) return refuse(`${label} is not a number of seconds`);
    if (Math.abs(nowSeconds - Number(timestamp)) > scheme.max_age)
      return refuse(`${label} is over ${scheme.max_age} s off`);
  }
  const candidates = items
    .filter(item => item.startsWith(scheme.prefix))
    .map(item => decode(item.slice(scheme.prefix.length), scheme))
    .filter(bytes => bytes !== undefined);
  if (candidates.length === 0)
    return refuse(`${name} is not ${scheme.prefix} and ${scheme.hash} in ${scheme.encoding}`);
  const message = fill(scheme.signed, request, { timestamp, id });
  const matches = keys.some(key => {
    const mac = createHmac(scheme.hash, key[scheme.key]);
    for (const part of message) mac.update(part);
    const expected = mac.digest();
    return candidates.some(bytes => timingSafeEqual(bytes, expected));
  });
  return matches
    ? { ok: true, id: id ?? null, timed: timestamp !== undefined, digest: digestOf(message) }
    : refuse(`${name} does not match`);
}

function digestOf(message: (string | Uint8Array)[]): string {
  const hash = createHash('sha256');
  for (const part of message) hash.update(part);
  return hash.digest('hex');
}

/**
 * The digest of what a signature without id and time covers. Somebody who captured a request can repeat it with only
 * such a signature and leave the other headers out; this digest identifies that repetition. Null if no such signature
 * is accepted.
 */
export function weakDigest(signatures: readonly Signature[], request: Readable): string | null {
  const weak = signatures.find(({ id, timestamp, encoding }) => !id && !timestamp && encoding !== 'plain');
  return weak ? digestOf(fill(weak.signed, request, {})) : null;
}

/**
 * The text that answers this request if it is a handshake; undefined if it is not. Before the body is read, only
 * handshakes that need nothing of it are checked.
 */
export function answerHandshake(
  { handshakes }: Sender,
  method: string,
  request: Readable,
  stage: 'before reading' | 'verified',
): string | undefined {
  for (const { method: expected, when, answer, signed } of handshakes) {
    const conditions = Object.entries(when);
    const early = !signed && conditions.every(([source]) => isEarly(source));
    if (expected !== method || early !== (stage === 'before reading')) continue;
    const holds = conditions.every(([source, value]) => {
      const found = read(source, request);
      if (found === undefined || value === true) return found !== undefined;
      return timingSafeEqual(digest(found), digest(value === '{token}' ? request.token : value));
    });
    const text = fill(answer, request, {}).join('');
    if (holds && /^[\x20-\x7e]{1,4096}$/.test(text)) return text;
  }
  return undefined;
}
