import net from 'node:net';
import { setInterval } from 'node:timers';
import { buildConnector, Pool } from 'undici';
import { Connection } from './connection.ts';
import type { Allowed } from './destination.ts';

/** The connections to one receiver, at the addresses that the guard has checked. */
export type Origin = {
  pool: Pool;
  /** Requests that are under way. */
  exchanges: number;
  /** When the last one ended. */
  lastUsed: number;
  /** Opens a connection outside the pool. */
  open: () => Connection;
};

export type Origins = ReturnType<typeof createOrigins>;

const idleOriginMs = 15_000;
const maxOrigins = 1_000;

/**
 * The open connections to all receivers, by host and checked addresses. Several deliverers may share them: a connection
 * is never reused for a host that resolves to other addresses by now.
 */
export function createOrigins({
  deadlineMs,
  connections = null,
}: {
  deadlineMs: number;
  /** How many connections to one receiver; null: as many as there are requests. */
  connections?: number | null;
}) {
  const origins = new Map<string, Origin>();

  function retire(key: string, { pool, exchanges }: Origin): boolean {
    if (exchanges > 0) return false;
    pool.close().catch(() => {});
    return origins.delete(key);
  }

  const sweep = setInterval(() => {
    const before = performance.now() - idleOriginMs;
    for (const [key, origin] of origins) if (origin.lastUsed < before) retire(key, origin);
  }, 1_000);
  sweep.unref();

  return {
    of({ origin, url, addresses }: Allowed): Origin {
      const key = `${origin} ${addresses.length === 1 ? addresses[0] : addresses.toSorted().join()}`;
      let found = origins.get(key);
      if (found !== undefined) return found;
      if (origins.size >= maxOrigins) for (const [other, idle] of origins) if (retire(other, idle)) break;
      const pinned = addresses.map(address => ({ address, family: net.isIP(address) }));
      // TLS takes a host name without the trailing dot of an absolute name (RFC 6066).
      const servername = /\.$/.test(url.hostname) ? url.hostname.slice(0, -1) : undefined;
      const connect = buildConnector({
        timeout: Math.min(10_000, deadlineMs),
        ...(servername !== undefined && { servername }),
        lookup: (_host, { all }, answer) =>
          all ? answer(null, pinned) : answer(null, pinned[0]!.address, pinned[0]!.family),
      });
      const open = () => new Connection(origin, connect);
      const pool = new Pool(origin, { connections, factory: open });
      found = { pool, exchanges: 0, lastUsed: performance.now(), open };
      origins.set(key, found);
      return found;
    },
    /** Waits for the requests under way. */
    async close(): Promise<void> {
      clearInterval(sweep);
      await Promise.all(Array.from(origins.values(), ({ pool }) => pool.close().catch(() => {})));
    },
  };
}
