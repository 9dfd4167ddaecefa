import { randomUUID } from 'node:crypto';
import ky, { HTTPError } from 'ky';
import { parseSecret, signatureHeaders } from '../secrets/sign.ts';

export type SendOptions = {
  /** The inbound endpoint's URL: `https://host/api/webhooks/<module>/<token>`. */
  url: string;
  /** JSON: a value, or the exact text or bytes to send. */
  body: unknown;
  /** Signs the request, as X-Webhook-Signature and as Standard Webhooks. */
  secret?: string | undefined;
  /** Makes repetitions harmless; by default one for this call, so that its own retries are. */
  idempotencyKey?: string | undefined;
  /** Tries after the first, on 429, 503, other 5xx and network failures; Retry-After is honoured. Default 5. */
  retries?: number;
  /** Longest wait before a try, Retry-After included. Default 65 s: a minute's budget comes free within it. */
  maxWaitMs?: number;
  /** Longest wait for one answer. Default 30 s. */
  timeoutMs?: number;
  signal?: AbortSignal;
};

/** The endpoint's answer was not 202; `detail` is its reason, `status` 0 where no answer came. */
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

/** Sends one payload to an inbound endpoint and returns the id of the record it became. Throws SendError, never with the URL in it: it holds the token. */
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
        // A signature is good for five minutes, and the waits may be longer: each try has its own.
        beforeRequest: [request => sign(request, secret, idempotencyKey, raw)],
        beforeRetry: [({ request }) => sign(request, secret, idempotencyKey, raw)],
      },
      ...(signal && { signal }),
    });
    const { recordId } = await response.json<{ recordId?: unknown }>();
    if (response.status !== 202 || typeof recordId !== 'string')
      throw new SendError(response.status, 'this is no inbound endpoint');
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
