import { randomUUID } from 'node:crypto';
import ky, { HTTPError } from 'ky';
import { parseSecret, signatureHeaders } from '../secrets/sign.ts';

export type SendOptions = {
  /** The URL of the inbound endpoint: `https://host/api/webhooks/<module>/<token>`. */
  url: string;
  /** A value that is sent as JSON, or a string or bytes that are sent as they are. */
  body: unknown;
  /** The secret that signs the request, as X-Webhook-Signature and as Standard Webhooks. */
  secret?: string | undefined;
  /** Makes it harmless to repeat this call with the same key. By default a random key, which covers only retries. */
  idempotencyKey?: string | undefined;
  /** Number of retries on 429, 503, other 5xx and network failures. They honour Retry-After. Default 5. */
  retries?: number;
  /** Longest wait before a retry, in milliseconds. Default 65,000, within which a budget per minute becomes free. */
  maxWaitMs?: number;
  /** Longest wait for one answer, in milliseconds. Default 30,000. */
  timeoutMs?: number;
  signal?: AbortSignal;
};

/** The endpoint did not answer 202. `detail` is the reason. `status` is 0 if there was no answer. */
export class SendError extends Error {
  override readonly name = 'SendError';
  readonly status: number;
  readonly detail: string;
  constructor(status: number, detail: string) {
    super(status === 0 ? detail : `${status}: ${detail}`);
    this.status = status;
    this.detail = detail;
  }
}

/**
 * Sends one payload to an inbound endpoint and returns the id of its record. Throws SendError, whose message does not
 * contain the URL, because that contains the token.
 */
export async function send({
  url,
  body,
  secret,
  idempotencyKey = randomUUID(),
  retries = 5,
  maxWaitMs = 65_000,
  timeoutMs = 30_000,
  signal,
}: SendOptions): Promise<{ recordId: string }> {
  const raw =
    typeof body === 'string'
      ? Buffer.from(body)
      : body instanceof Uint8Array
        ? body
        : Buffer.from(JSON.stringify(body));
  try {
    const response = await ky.post(url, {
      body: raw as Uint8Array<ArrayBuffer>,
      headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
      redirect: 'manual',
      timeout: timeoutMs,
      retry: {
        limit: retries,
        methods: ['post'],
        statusCodes: [408, 429, 500, 502, 503, 504],
        afterStatusCodes: [429, 503],
        maxRetryAfter: maxWaitMs,
        backoffLimit: maxWaitMs,
        retryOnTimeout: true,
      },
      hooks: {
        // A signature is valid for five minutes, and a retry may come later. So each retry is signed again.
        beforeRequest: [request => sign(request, secret, idempotencyKey, raw)],
        beforeRetry: [({ request }) => sign(request, secret, idempotencyKey, raw)],
      },
      ...(signal && { signal }),
    });
    const { recordId } = await response.json<{ recordId?: unknown }>();
    if (response.status !== 202 || typeof recordId !== 'string')
      throw new SendError(response.status, 'this is not an inbound endpoint');
    return { recordId };
  } catch (error) {
    if (error instanceof SendError) throw error;
    if (error instanceof HTTPError) {
      const problem = await error.response.json<{ detail?: unknown }>().catch(() => undefined);
      throw new SendError(
        error.response.status,
        typeof problem?.detail === 'string' ? problem.detail : error.response.statusText,
      );
    }
    const { name, cause } = error as { name: string; cause?: { code?: string } };
    throw new SendError(
      0,
      name === 'TimeoutError'
        ? 'no answer came in time'
        : `the endpoint cannot be reached${cause?.code ? ` (${cause.code})` : ''}`,
    );
  }
}

function sign(request: Request, secret: string | undefined, id: string, body: Uint8Array): void {
  if (secret === undefined) return;
  const headers = signatureHeaders([parseSecret(secret)], id, Math.floor(Date.now() / 1000), body);
  for (const [name, value] of Object.entries(headers)) request.headers.set(name, value);
}
