import { setInterval } from 'node:timers';
import { explain } from './answer.ts';
import type { Guard } from './destination.ts';
import { type DeliveryRequest, type DeliveryResult, Exchange } from './exchange.ts';
import { createOrigins, type Origins } from './origins.ts';

export type { DeliveryRequest, DeliveryResult } from './exchange.ts';

export type Deliverer = ReturnType<typeof createDeliverer>;

/**
 * The delivery client. `deliver` sends one POST to an address that the guard has checked. It never throws: whatever the
 * receiver does becomes a result. The outcome is `delivered` for a 2xx only, also if its body then breaks off or takes
 * longer than the deadline, which spans the whole exchange (`error` says so). It follows no redirects, decompresses
 * nothing and keeps no cookies. Header names are lower case. `signal` ends an exchange within 100 ms. `close` waits for
 * those in flight.
 * `origins` are connections that other deliverers share; `close` leaves them open. Without `origins`, the deliverer
 * opens up to `connections` of its own to each receiver.
 */
export function createDeliverer(options: {
  guard: Guard;
  userAgent: string;
  deadlineMs?: number;
  connections?: number;
  origins?: Origins;
}) {
  const { guard, userAgent, deadlineMs = 30_000 } = options;
  const origins = options.origins ?? createOrigins({ ...options, deadlineMs });
  const inFlight = new Set<Exchange>();

  // All deadlines are equally long, so one timer checks everything in flight. An idle deliverer has no timer.
  let sweep: NodeJS.Timeout | undefined;
  function watch(): void {
    if (sweep !== undefined) return;
    sweep = setInterval(
      () => {
        const now = performance.now();
        for (const exchange of inFlight) {
          if (exchange.signal?.aborted) exchange.abandon();
          else if (now - exchange.started >= deadlineMs)
            exchange.end(`timeout after ${deadlineMs / 1000} s while ${exchange.phase}`);
        }
        if (inFlight.size > 0) return;
        clearInterval(sweep);
        sweep = undefined;
      },
      Math.min(100, Math.ceil(deadlineMs / 10)),
    );
    sweep.unref();
  }

  async function send(exchange: Exchange, { url, headers, body }: DeliveryRequest): Promise<void> {
    try {
      const verdict = await guard.check(url);
      if (exchange.signal?.aborted) exchange.withdraw('stopped before it was sent');
      if (exchange.settle === null) return;
      if (!verdict.allowed) {
        if (verdict.unresolved) return exchange.end(verdict.reason);
        exchange.result.outcome = 'blocked';
        return exchange.end(`blocked: ${verdict.reason}`);
      }
      exchange.result.lookupMs = verdict.lookupMs;
      const { origin, path } = verdict;
      const via = origins.of(verdict);
      via.exchanges++;
      const allHeaders = { 'user-agent': userAgent, ...headers };
      exchange.dispatch(via, { origin, path, method: 'POST', headers: allHeaders, body, exchange });
    } catch (error) {
      exchange.end(explain(error as Error));
    }
  }

  return {
    deliver(request: DeliveryRequest, signal?: AbortSignal): Promise<DeliveryResult> {
      return new Promise(done => {
        const exchange = new Exchange(request, signal, result => {
          inFlight.delete(exchange);
          const { origin, ownConnection } = exchange;
          if (origin) {
            origin.exchanges--;
            origin.lastUsed = performance.now();
          }
          ownConnection?.close().catch(() => {});
          done(result);
        });
        inFlight.add(exchange);
        watch();
        send(exchange, request);
      });
    },
    async close(): Promise<void> {
      const closeOwn = ({ ownConnection }: Exchange) => ownConnection?.close().catch(() => {});
      if (options.origins === undefined) await Promise.all([origins.close(), ...Array.from(inFlight, closeOwn)]);
      // Shared connections stay open, so only this deliverer's requests are waited for.
      else while (inFlight.size > 0) await new Promise(done => setTimeout(done, 50));
      clearInterval(sweep);
    },
  };
}
