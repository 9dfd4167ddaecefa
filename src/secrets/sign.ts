import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';

/**
 * One endpoint secret, prepared once for any number of signatures: `raw` for `x-webhook-signature`, `standard` for
 * `webhook-signature`. A `KeyObject` does not show the secret if it is logged.
 */
export type SigningKey = { readonly raw: KeyObject; readonly standard: KeyObject };

export type Verification = { ok: true; reason: null } | { ok: false; reason: string };

const valid: Verification = { ok: true, reason: null };
const toleranceSeconds = 300;

/**
 * Prepares a secret. The key of `X-Webhook-Signature` is the whole secret as UTF-8 bytes. The key of
 * `webhook-signature` is what the base64 after `whsec_` decodes to (https://www.standardwebhooks.com), or the whole
 * secret as UTF-8 bytes if it does not begin with `whsec_`. Throws if the secret is empty, and if the text after
 * `whsec_` is not base64; the messages do not quote the secret.
 */
export function parseSecret(secret: string): SigningKey {
  if (secret === '') throw new Error('the secret is empty');
  const raw = createSecretKey(Buffer.from(secret, 'utf8'));
  if (!secret.startsWith('whsec_')) return { raw, standard: raw };
  const encoded = secret.slice('whsec_'.length);
  const decoded = Buffer.from(encoded, 'base64');
  if (decoded.length === 0 || decoded.toString('base64').replace(/=+$/, '') !== encoded.replace(/=+$/, ''))
    throw new Error('the secret is not base64 after whsec_');
  return { raw, standard: createSecretKey(decoded) };
}

const hexSignature = (key: SigningKey, body: string | Uint8Array): string =>
  `sha256=${createHmac('sha256', key.raw).update(body).digest('hex')}`;

const standardSignature = (key: SigningKey, id: string, timestamp: number | string, body: string | Uint8Array) =>
  `v1,${createHmac('sha256', key.standard).update(`${id}.${timestamp}.`).update(body).digest('base64')}`;

/**
 * The four signature headers of one delivery, with lower-case names. `keys` has one key, or two during the overlap of a
 * rotation, the old one first. `x-webhook-signature` is made with the first key only; `webhook-signature` has one
 * signature for each key. Throws if there is no key.
 */
export function signatureHeaders(
  keys: readonly SigningKey[],
  id: string,
  timestampSeconds: number,
  body: string | Uint8Array,
): Record<string, string> {
  const first = keys[0];
  if (first === undefined) throw new Error('no secret to sign with');
  let standard = standardSignature(first, id, timestampSeconds, body);
  for (let i = 1; i < keys.length; i++) standard += ` ${standardSignature(keys[i]!, id, timestampSeconds, body)}`;
  return {
    'x-webhook-signature': hexSignature(first, body),
    'webhook-id': id,
    'webhook-timestamp': String(timestampSeconds),
    'webhook-signature': standard,
  };
}

// timingSafeEqual needs inputs of one length. The callers' patterns guarantee it.
const equal = (given: string, expected: string) => timingSafeEqual(Buffer.from(given), Buffer.from(expected));

/**
 * Checks the signature of a request over the raw bytes of its body. It is valid if it matches any of the keys. The
 * names in `headers` are lower case. If `webhook-signature` is present, only that header is checked; it also covers the
 * id and the timestamp, which must be within 300 s of `nowSeconds`. Otherwise it checks `x-webhook-signature`, or else
 * GitHub's `x-hub-signature-256`, which has the same form. Never throws because of a bad signature.
 */
export function verifySignature(
  keys: readonly SigningKey[],
  headers: Readonly<Record<string, string | string[] | undefined>>,
  body: string | Uint8Array,
  nowSeconds: number = Date.now() / 1000,
): Verification {
  const refuse = (reason: string): Verification => ({ ok: false, reason });
  const standard = headers['webhook-signature']?.toString();
  if (standard === undefined) {
    const name = headers['x-webhook-signature'] === undefined ? 'x-hub-signature-256' : 'x-webhook-signature';
    const given = headers[name]?.toString();
    if (given === undefined) return refuse('no signature header');
    if (!/^sha256=[0-9a-f]{64}$/.test(given)) return refuse(`${name} is not sha256= and 64 lower-case hex digits`);
    return keys.some(key => equal(given, hexSignature(key, body))) ? valid : refuse(`${name} does not match`);
  }
  const id = headers['webhook-id']?.toString();
  const timestamp = headers['webhook-timestamp']?.toString();
  if (!id || !timestamp) return refuse('webhook-id or webhook-timestamp is missing');
  if (!/^\d{1,12}$/.test(timestamp)) return refuse('webhook-timestamp is not a number of seconds');
  if (Math.abs(nowSeconds - Number(timestamp)) > toleranceSeconds) return refuse('webhook-timestamp is over 300 s off');
  const given = standard.split(' ').filter(signature => /^v1,[A-Za-z0-9+/]{43}=$/.test(signature));
  const matches = keys.some(key => {
    const expected = standardSignature(key, id, timestamp, body);
    return given.some(signature => equal(signature, expected));
  });
  return matches ? valid : refuse('webhook-signature does not match');
}
