import net from 'node:net';
import { setInterval } from 'node:timers';
import { type Client, Pool } from 'undici';
import { explain } from './answer.ts';
import { Connection, type LineOptions } from './connection.ts';
import type { Allowed, Guard } from './destination.ts';
import { type DeliveryRequest, type DeliveryResult, Exchange } from './exchange.ts';

export type { DeliveryRequest, DeliveryResult } from './exchange.ts';

export type Deliverer = {
  deliver(request: DeliveryRequest, signal?: AbortSignal): Promise<DeliveryResult>;
  close(): Promise<void>;
};

type Origin = { pool: Pool; exchanges: number; lastUsed: number; connect: () => Client };

const idleOriginMs = 15_000;
const maxOrigins = 1_000;

/**
 * The delivery client. `deliver` sends one POST to an address that the guard has checked; it never throws: whatever the
 * receiver does is a result. Only a 2xx is delivered, even if its body then breaks off or meets the deadline, which
 * spans the whole exchange (`error` is set). No redirects, no decompression, no cookies. Header names are lower case.
 * `signal` ends an exchange within 100 ms; `close` waits for those in flight. `connections` is per origin.
 */
export function createDeliverer(options: {
  guard: Guard;
  userAgent: string;
  deadlineMs?: number;
  maxResponseBodyBytes?: number;
  maxResponseHeaderBytes?: number;
  connections?: number;
}): Deliverer {
  const { guard, userAgent, deadlineMs = 30_000, maxResponseBodyBytes = 16_384 } = options;
  const origins = new Map<string, Origin>();
  const inFlight = new Set<Exchange>();
  /** Connections for a request whose first one had ended. */
  const single = new Set<Client>();

  // All deadlines are equally long, so one timer over what is in flight serves them all.
  const sweep = setInterval(
    () => {
      const now = performance.now();
      for (const exchange of inFlight) {
        if (exchange.signal?.aborted) exchange.end(`stopped while ${exchange.phase}`);
        else if (now - exchange.started >= deadlineMs)
          exchange.end(`timeout after ${deadlineMs / 1000} s while ${exchange.phase}`);
      }
      for (const [key, origin] of origins) if (now - origin.lastUsed > idleOriginMs) retire(key, origin);
    },
    Math.min(100, Math.ceil(deadlineMs / 10)),
  );
  sweep.unref();

  function retire(key: string, { pool, exchanges }: Origin): boolean {
    if (exchanges > 0) return false;
    pool.close().catch(() => {});
    return origins.delete(key);
  }

  // Keyed by what was checked: a connection is never reused for a host that now resolves to something else.
  function originOf({ origin, url, addresses }: Allowed): Origin {
    const key = `${origin} ${addresses.length === 1 ? addresses[0] : addresses.toSorted().join()}`;
    let found = origins.get(key);
    if (found !== undefined) return found;
    if (origins.size >= maxOrigins) for (const [other, idle] of origins) if (retire(other, idle)) break;
    const pinned = addresses.map(address => ({ address, family: net.isIP(address) }));
    // The name without the dot that ends an absolute one: TLS does not take it (RFC 6066).
    const servername = /\.$/.test(url.hostname) ? url.hostname.slice(0, -1) : undefined;
    const connect: NonNullable<Pool.Options['connect']> = {
      timeout: Math.min(10_000, deadlineMs),
      ...(servername !== undefined && { servername }),
      lookup: (_host, { all }, answer) =>
        all ? answer(null, pinned) : answer(null, pinned[0]!.address, pinned[0]!.family),
    };
    const limits = { maxHeaderSize: options.maxResponseHeaderBytes ?? 16_384, headersTimeout: 0, bodyTimeout: 0 };
    const pool = new Pool(origin, {
      ...limits,
      connect,
      connections: options.connections ?? null,
      factory: (to, given) => new Connection(to, given as Client.Options),
    });
    found = { pool, exchanges: 0, lastUsed: 0, connect: () => new Connection(origin, { ...limits, connect }) };
    origins.set(key, found);
    return found;
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
      exchange.enter('connecting');
      const { origin, path } = verdict;
      const via = originOf(verdict);
      const { settle } = exchange;
      via.exchanges++;
      const request: LineOptions = {
        origin,
        path,
        method: 'POST',
        headers: { 'user-agent': userAgent, ...headers },
        body,
        onLine: exchange.onLine,
      };
      let alone: Client | null = null;
      exchange.again = () => {
        alone = via.connect();
        single.add(alone);
        alone.dispatch(request, exchange);
      };
      exchange.settle = result => {
        via.exchanges--;
        via.lastUsed = performance.now();
        settle(result);
        if (alone === null) return;
        single.delete(alone);
        alone.close().catch(() => {});
      };
      via.pool.dispatch(request, exchange);
    } catch (error) {
      exchange.end(explain(error as Error));
    }
  }

  return {
    deliver(request, signal) {
      return new Promise(done => {
        const exchange = new Exchange(request, signal, maxResponseBodyBytes, result => {
          inFlight.delete(exchange);
          done(result);
        });
        inFlight.add(exchange);
        send(exchange, request);
      });
    },
    async close() {
      const open = [...Array.from(origins.values(), ({ pool }) => pool), ...single];
      await Promise.all(open.map(each => each.close().catch(() => {})));
      clearInterval(sweep);
    },
  };
}
