import { setTimeout as pause } from 'node:timers/promises';
import type { Log } from '../log.ts';
import type { Person } from './people.ts';

export type Attempt = {
  id: string;
  started_at: string;
  outcome: string;
  response_status: number | null;
  endpoint_id: string;
  name: string | null;
  module: string | null;
  event: string | null;
  record_id: string | null;
  attempt: number;
  duration_ms: number | null;
  error: string | null;
};

type Watcher = { person: Person; see: (attempts: Attempt[]) => void; lost: () => void };

const everyMs = 1_000;
const maxWatchers = 200;
const rowsATurn = 200;

/**
 * Reads new attempts for all who watch the live tail. It sends one query per second for each role, however many watch
 * as that role, and none if nobody watches. Rows are read with the rights of the role.
 */
export function createWatch(log: Log) {
  const groups = new Map<string, Set<Watcher>>();
  let watching = 0;
  let closed = false;

  async function follow(role: string, watchers: Set<Watcher>): Promise<void> {
    let since: string | undefined;
    const seen = new Set<string>();
    while (watchers.size > 0 && !closed) {
      const [first] = watchers;
      if (!first) break;
      try {
        const rows = await first.person.read(async sql => {
          const [now] = await sql`
            select collecta.attempt_id_at(clock_timestamp() - interval '5 s') as back,
              collecta.attempt_id_at(clock_timestamp()) as now`;
          const from = since ?? (now?.now as string);
          // It reads 5 s back, so that an attempt that is committed up to 5 s late is not missed.
          since = now?.back as string;
          return (await sql`
            select d.id, d.started_at::text as started_at, d.outcome, d.response_status, d.endpoint_id, e.name,
              d.module, d.event,
              d.record_id, d.attempt, d.duration_ms::float8 as duration_ms, d.error
            from (select a.id, a.routed_at from collecta.delivery_attempts a where a.id >= ${from}
              order by a.id desc limit ${rowsATurn}) a
            join collecta.webhook_deliveries d on d.id = a.id and d.routed_at = a.routed_at
            left join collecta.endpoints e on e.endpoint_id = d.endpoint_id
            order by d.id`) as unknown as Attempt[];
        });
        const fresh = rows.filter(({ id }) => !seen.has(id));
        for (const { id } of fresh) seen.add(id);
        for (const id of seen) if (id < (since as string)) seen.delete(id);
        if (fresh.length > 0) for (const { see } of watchers) see(fresh);
      } catch (error) {
        log.warn('the live tail cannot be read', { role, message: (error as Error).message });
        // The session of this watcher may have ended. Another watcher's session may still work.
        watchers.delete(first);
        watching--;
        first.lost();
      }
      await pause(everyMs);
    }
    if (groups.get(role) === watchers) groups.delete(role);
  }

  return {
    /** Adds a watcher and returns the function that removes it; undefined if there are too many watchers. */
    watch(person: Person, see: Watcher['see'], lost: Watcher['lost']): (() => void) | undefined {
      if (watching >= maxWatchers || closed) return undefined;
      const watcher = { person, see, lost };
      watching++;
      const group = groups.get(person.role);
      if (group && group.size > 0) group.add(watcher);
      else {
        const watchers = new Set([watcher]);
        groups.set(person.role, watchers);
        void follow(person.role, watchers);
      }
      return () => {
        for (const watchers of groups.values()) if (watchers.delete(watcher)) watching--;
      };
    },
    close() {
      closed = true;
    },
  };
}

export type Watch = ReturnType<typeof createWatch>;
