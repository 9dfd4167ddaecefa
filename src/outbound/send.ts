import type { Query } from '../database/pool.ts';
import type { Log } from '../log.ts';
import { signatureHeaders } from '../secrets/sign.ts';
import type { Finished } from './attempt.ts';
import type { Delivery } from './claim.ts';
import type { Deliverer } from './deliver.ts';
import { notSent } from './exchange.ts';
import type { Places } from './places.ts';
import { startSpan, traceparentOf } from './trace.ts';

/** `mayBegin` is asked right before the first byte of a request is written. `abandon` ends the requests under way. */
export function createSender(
  { deliver }: Pick<Deliverer, 'deliver'>,
  places: Places,
  options: {
    mayBegin: (delivery: Delivery) => boolean;
    record: (finished: Finished) => void;
    giveBack: (delivery: Delivery) => Promise<void>;
    abandon: AbortSignal;
  },
) {
  const { mayBegin, record, abandon } = options;
  let underway = 0;
  let onIdle: (() => void)[] = [];

  async function send(delivery: Delivery): Promise<void> {
    const { endpoint, eventId, body } = delivery;
    const startedAt = performance.now();
    const leave = places.begin(endpoint.id, delivery.bytes);
    const { url, unusable } = endpoint;
    const signed = unusable ? null : signatureHeaders(endpoint.keys, eventId, Math.floor(Date.now() / 1000), body);
    const traceparent = traceparentOf(body);
    const endSpan = startSpan({ endpointId: endpoint.id, eventId, url, traceparent });
    const headers = {
      ...endpoint.headers,
      'content-type': 'application/json',
      ...signed,
      ...(traceparent && { traceparent }),
    };
    const request = { url, headers, body, mayBegin: () => mayBegin(delivery) };
    const result = unusable ? notSent(unusable) : await deliver(request, abandon);
    const { outcome, totalMs } = result;
    endSpan(result);
    leave(outcome === 'withdrawn' ? null : totalMs);
    if (outcome === 'withdrawn') return options.giveBack(delivery);
    record({ delivery, startedAt, signed, traceparent, result });
  }

  return {
    /**
     * Signs and sends one delivery, and hands its result over to be recorded. Gives it back if it was not sent. Never
     * rejects.
     */
    async begin(delivery: Delivery, onEnd: () => void): Promise<void> {
      underway++;
      await send(delivery);
      underway--;
      onEnd();
      if (underway > 0) return;
      for (const done of onIdle) done();
      onIdle = [];
    },
    /** Resolves when no request is under way. */
    idle: (): Promise<void> => (underway === 0 ? Promise.resolve() : new Promise(done => onIdle.push(done))),
  };
}

/**
 * Gives claimed deliveries back to the queue, where any runner may claim them at once. Costs no attempt. Never rejects.
 */
export async function giveBack(
  sql: Query,
  log: Log,
  deliveries: readonly Pick<Delivery, 'id' | 'lease'>[],
): Promise<void> {
  if (deliveries.length === 0) return;
  const ids = deliveries.map(({ id }) => id);
  const leases = deliveries.map(({ lease }) => lease);
  try {
    await sql`select collecta.release_deliveries(${ids}::text[]::bigint[], ${leases}::text[]::bigint[])`;
  } catch (error) {
    const { message } = error as Error;
    log.warn('claimed deliveries wait for their lease to end', { deliveries: deliveries.length, message });
  }
}
