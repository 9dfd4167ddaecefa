import { Counter, Gauge, Registry } from 'prom-client';
import type { Query } from '../database/pool.ts';
import { chooseLabels, labelOf, processMetrics } from '../metrics.ts';

export type Figure = { name: string; labels: Record<string, string>; value: number };

const exactUpTo = 'It is exact up to 10,000, then an estimate. Of the database.';
const help: Record<string, string> = {
  collecta_captured_total: 'Captured changes and test events, by the number of the last one. Of the database.',
  collecta_outbox_oldest_seconds: 'Age of the oldest change that is not routed yet. Of the database.',
  collecta_outbox_rows: `Changes that are not routed yet. ${exactUpTo}`,
  collecta_outbox_rows_estimated: 'Whether collecta_outbox_rows is an estimate (1) or exact (0). Of the database.',
  collecta_delivery_queue_rows: `Deliveries that are queued. ${exactUpTo}`,
  collecta_delivery_queue_rows_estimated:
    'Whether collecta_delivery_queue_rows is an estimate (1) or exact (0). Of the database.',
  collecta_due_oldest_seconds:
    'How long the oldest due delivery has waited, for each endpoint with a label, and the longest of all others. ' +
    'Of the database.',
  collecta_endpoints: 'Endpoints by state. Of the database.',
  collecta_endpoint_info: 'The name of each endpoint with a label. The value is 1. Of the database.',
  collecta_unrouted: `Changes and events that are set aside in collecta.unrouted. ${exactUpTo}`,
  collecta_unrouted_estimated: 'Whether collecta_unrouted is an estimate (1) or exact (0). Of the database.',
  collecta_attempts_last_minute: 'Attempts that were recorded in the last minute, by outcome. Of the database.',
  collecta_inbound_requests_failed:
    'Inbound requests that are kept because they could not be written. 10001 means that many or more. Of the database.',
  collecta_health: 'Rows of collecta.health. Of the database.',
  collecta_figures_age_seconds: 'How long ago this process read the figures of a database.',
};

/** Reads the database's current figures. `sql` needs collecta_dispatcher, collecta_inbound or collecta_reader. */
export async function readFigures(sql: Query): Promise<Figure[]> {
  return (await sql`select name, labels, value from collecta.read_figures()`) as unknown as Figure[];
}

/**
 * The metrics of this process and the figures of one or several databases, in Prometheus' text format. With several
 * databases, each figure has a label that names its database.
 */
export async function showMetrics(figures: readonly Figure[]): Promise<string> {
  const endpoints = figures.filter(({ name }) => name === 'collecta_endpoint_info');
  await chooseLabels(new Set(endpoints.map(({ labels }) => labels.endpoint as string)));
  const registry = new Registry();
  const registers = [registry];
  const families = new Map<string, Counter | Gauge>();
  const oldestOther = new Map<string | undefined, number>(); // by database
  const show = (name: string, labels: Record<string, string>, value: number) => {
    let family = families.get(name);
    if (!family) {
      const Family = name.endsWith('_total') ? Counter : Gauge;
      family = new Family({ name, help: help[name] ?? name, labelNames: Object.keys(labels), registers });
      families.set(name, family);
    }
    family.inc(labels, value);
  };
  for (const { name, labels, value } of figures) {
    const { endpoint, database } = labels;
    if (endpoint === undefined || labelOf(endpoint) !== 'other') show(name, labels, value);
    else if (name === 'collecta_due_oldest_seconds')
      oldestOther.set(database, Math.max(oldestOther.get(database) ?? 0, value));
  }
  for (const [database, value] of oldestOther)
    show('collecta_due_oldest_seconds', { endpoint: 'other', ...(database !== undefined && { database }) }, value);
  return (await Promise.all([processMetrics.metrics(), registry.metrics()])).join('\n');
}
