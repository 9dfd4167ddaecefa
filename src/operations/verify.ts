import { parseSecret, verifySignature } from '../secrets/sign.ts';

export type VerifyOptions = {
  /** The value of X-Webhook-Signature (`sha256=<hex>`) or of webhook-signature (one or several `v1,<base64>`). */
  signature: string;
  /** The values of webhook-id and webhook-timestamp, which webhook-signature needs. */
  id?: string | undefined;
  timestamp?: string | undefined;
  /** Whether to accept any timestamp, for a delivery from the history. */
  anyAge?: boolean;
};

/** Checks the signature of one request over the exact bytes of its body. `reason` says why it is not valid. */
export function verify(secret: string, body: Uint8Array, { signature, id, timestamp, anyAge }: VerifyOptions) {
  const standard = !signature.startsWith('sha256=');
  const headers = standard
    ? { 'webhook-signature': signature, 'webhook-id': id, 'webhook-timestamp': timestamp }
    : { 'x-webhook-signature': signature };
  return verifySignature([parseSecret(secret)], headers, body, anyAge && timestamp ? Number(timestamp) : undefined);
}
