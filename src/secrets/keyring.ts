import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from 'node:crypto';

/** The secret was sealed by a key that is not in the keyring. */
export class MissingKey extends Error {
  override readonly name = 'MissingKey';
  readonly keyId: string;
  constructor(keyId: string) {
    super(`the secret is sealed by key ${keyId}, which is not in COLLECTA_SECRET_KEY`);
    this.keyId = keyId;
  }
}

export type Keyring = {
  /** The id of the key that seals; undefined if there is no key. */
  readonly sealsBy: string | undefined;
  has(keyId: string): boolean;
  /** Seals a secret for one endpoint. If there is no key, it returns the plain secret. */
  seal(secret: string, endpointId: string): string;
  /**
   * Returns the secret that was sealed, or `stored` itself if it is plain. Throws MissingKey if the key is not in the
   * keyring, and an Error if the value is damaged or was sealed for another endpoint.
   */
  open(stored: string, endpointId: string): string;
};

const algorithm = 'aes-256-gcm';
const nonceBytes = 12;
const tagBytes = 16;
const sealedPattern = /^sealed:v1:([0-9a-f]{8}):([A-Za-z0-9+/]+={0,2})$/;

/** Whether a value is one key of COLLECTA_SECRET_KEY: 32 bytes in base64. */
export const isSealingKey = (text: string): boolean => /^[A-Za-z0-9+/]{43}=$/.test(text);

/**
 * The id that an endpoint's headers are sealed for. It differs from the id for the secret, so that nobody can store
 * sealed headers as the secret, or the sealed secret as headers.
 */
export const headersOf = (endpointId: string): string => `${endpointId}/headers`;

export const isSealed = (stored: string): boolean => stored.startsWith('sealed:');

/**
 * Seals endpoint secrets with AES-256-GCM. The keys are never in the database. `keys` is COLLECTA_SECRET_KEY, one or
 * more keys with commas between them: the first one seals, and all of them open. Throws if a key is malformed.
 *
 * A sealed value is `sealed:v1:<key id>:<base64 of nonce, ciphertext and tag>`. A key's id is the first 8 hex digits of
 * its SHA-256. The endpoint's id is authenticated as well, so that somebody who can write the table cannot move a
 * sealed secret to another endpoint.
 */
export function createKeyring(keys: string | undefined): Keyring {
  const ring = new Map<string, KeyObject>();
  for (const key of keys?.split(',').map(each => each.trim()) ?? []) {
    if (!isSealingKey(key)) throw new Error('a sealing key is 32 bytes in base64');
    const bytes = Buffer.from(key, 'base64');
    ring.set(createHash('sha256').update(bytes).digest('hex').slice(0, 8), createSecretKey(bytes));
  }
  const [first] = ring;
  return {
    sealsBy: first?.[0],
    has: keyId => ring.has(keyId),
    seal(secret, endpointId) {
      if (!first) return secret;
      const [keyId, key] = first;
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv(algorithm, key, nonce).setAAD(Buffer.from(endpointId));
      const sealed = Buffer.concat([nonce, cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
      return `sealed:v1:${keyId}:${sealed.toString('base64')}`;
    },
    open(stored, endpointId) {
      if (!isSealed(stored)) return stored;
      const [, keyId, encoded] = sealedPattern.exec(stored) ?? [];
      const bytes = Buffer.from(encoded ?? '', 'base64');
      if (!keyId || bytes.length < nonceBytes + tagBytes) throw new Error('the sealed secret is malformed');
      const key = ring.get(keyId);
      if (!key) throw new MissingKey(keyId);
      try {
        const decipher = createDecipheriv(algorithm, key, bytes.subarray(0, nonceBytes), { authTagLength: tagBytes })
          .setAAD(Buffer.from(endpointId))
          .setAuthTag(bytes.subarray(-tagBytes));
        return Buffer.concat([decipher.update(bytes.subarray(nonceBytes, -tagBytes)), decipher.final()]).toString(
          'utf8',
        );
      } catch {
        throw new Error('the sealed secret was damaged, or sealed for another endpoint');
      }
    },
  };
}
