import { parseSecret, verifySignature } from '../secrets/sign.ts';

export type VerifyOptions = {
  /** `sha256=<hex>` as in X-Webhook-Signature, or the value of webhook-signature (`v1,<base64>`, several with spaces). */
  signature: string;
  /** webhook-id and webhook-timestamp, for the second form. */
  id?: string | undefined;
  timestamp?: string | undefined;
  /** Accept any timestamp: for a delivery from the history. */
  anyAge?: boolean;
};

/** Checks one request's signature over the exact bytes of its body; `reason` says why it is refused. */
export function verify(secret: string, body: Uint8Array, { signature, id, timestamp, anyAge }: VerifyOptions) {
  const standard = !signature.startsWith('sha256=');
  const headers = standard
    ? { 'webhook-signature': signature, 'webhook-id': id, 'webhook-timestamp': timestamp }
    : { 'x-webhook-signature': signature };
  return verifySignature([parseSecret(secret)], headers, body, anyAge && timestamp ? Number(timestamp) : undefined);
}
