import { Counter, Gauge, Registry } from 'prom-client';
import type { Query } from '../database/pool.ts';
import { labelOf, processMetrics } from '../metrics.ts';

type Figure = { name: string; labels: Record<string, string>; value: number };

const help: Record<string, string> = {
  collecta_captured_total: 'Captured changes and test events, by the number of the last one. Of the database.',
  collecta_outbox_oldest_seconds: 'Age of the oldest change that is not routed yet. Of the database.',
  collecta_outbox_rows: 'Changes that are not routed yet, by the planner’s estimate. Of the database.',
  collecta_delivery_queue_rows: 'Deliveries that are queued, by the planner’s estimate. Of the database.',
  collecta_due_oldest_seconds:
    'How long the oldest due delivery has waited: of each endpoint with a label, and the oldest of the others. Of the database.',
  collecta_endpoints: 'Endpoints by state. Of the database.',
  collecta_endpoint_info: 'The name of each endpoint with a label; its value is 1. Of the database.',
  collecta_unrouted: 'Changes and events that are set aside in collecta.unrouted. Of the database.',
  collecta_attempts_last_minute: 'Attempts that began in the last minute, by outcome. Of the database.',
  collecta_inbound_requests_failed:
    'Inbound requests that are kept because they could not be written. Of the database.',
  collecta_health: 'Rows of collecta.health. Of the database.',
};

/** Sizes are the planner's estimates and ages are index look-ups, so a scrape costs the same on a million queued rows. */
const figures = (sql: Query) => sql`
  select 'collecta_captured_total' as name, '{}'::jsonb as labels,
    case when is_called then last_value / 2 else 0 end::float8 as value from collecta.outbox_change_id_seq
  union all
  select 'collecta_outbox_oldest_seconds', '{}', coalesce(extract(epoch from now()
    - (select captured_at from collecta.waiting_changes order by change_id limit 1)), 0)::float8
  union all
  select 'collecta_' || relname || '_rows', '{}', greatest(reltuples, 0)::float8
  from pg_class where oid in ('collecta.outbox'::regclass, 'collecta.delivery_queue'::regclass)
  union all
  select 'collecta_due_oldest_seconds', jsonb_build_object('endpoint', e.endpoint_id),
    greatest(extract(epoch from now() - q.due_at), 0)::float8
  from collecta.endpoints e
  cross join lateral (
    select due_at from collecta.delivery_queue q where q.endpoint_id = e.endpoint_id order by due_at limit 1) q
  where e.state <> 'deleted' and q.due_at < now()
  union all
  select 'collecta_endpoints', jsonb_build_object('state', state), count(*)::float8 from collecta.endpoints group by state
  union all
  select 'collecta_endpoint_info', jsonb_build_object('endpoint', endpoint_id, 'name', coalesce(name, '')), 1
  from collecta.endpoints where state <> 'deleted'
  union all
  select 'collecta_unrouted', '{}', count(*)::float8 from collecta.unrouted
  union all
  select 'collecta_attempts_last_minute', jsonb_build_object('outcome', outcome), count(*)::float8
  from collecta.delivery_attempts where started_at > now() - interval '1 minute' group by outcome
  union all
  select 'collecta_inbound_requests_failed', '{}', count(*)::float8 from collecta.inbound_requests where state = 'failed'
  union all
  select 'collecta_health', jsonb_build_object('severity', severity, 'problem', problem), count(*)::float8
  from collecta.health group by severity, problem`;

/** What this process counted and what the database says now, in Prometheus' text format. `sql` needs collecta_reader. */
export async function readMetrics(sql: Query): Promise<string> {
  const registry = new Registry();
  const registers = [registry];
  const families = new Map<string, Counter | Gauge>();
  let oldestOther = 0;
  for (const { name, labels, value } of (await figures(sql)) as unknown as Figure[]) {
    if (labels.endpoint !== undefined && labelOf(labels.endpoint) === 'other') {
      if (name === 'collecta_due_oldest_seconds') oldestOther = Math.max(oldestOther, value);
      continue;
    }
    familyOf(name, labels).inc(labels, value);
  }
  if (oldestOther > 0)
    familyOf('collecta_due_oldest_seconds', { endpoint: 'other' }).inc({ endpoint: 'other' }, oldestOther);
  return (await Promise.all([processMetrics.metrics(), registry.metrics()])).join('\n');

  function familyOf(name: string, labels: Record<string, string>): Counter | Gauge {
    const known = families.get(name);
    if (known) return known;
    const Family = name.endsWith('_total') ? Counter : Gauge;
    const made = new Family({ name, help: help[name] ?? name, labelNames: Object.keys(labels), registers });
    families.set(name, made);
    return made;
  }
}
