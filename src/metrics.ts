import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/**
 * The metrics of this process for Prometheus. Each process counts only what it did itself, so sum them over all
 * processes. The metrics of the database are read from it at each scrape (operations/metrics.ts).
 */
export const processMetrics = new Registry();

const registers = [processMetrics];
const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const attempts = new Counter({
  name: 'collecta_attempts_total',
  help:
    'Delivery attempts that this process made. The last failed attempt of a delivery is "failed" here too, ' +
    'because only the database knows that it was the last.',
  labelNames: ['endpoint', 'outcome', 'status_class'] as const,
  registers,
});
const answerSeconds = new Histogram({
  name: 'collecta_answer_seconds',
  help: 'Time from the beginning of an attempt to the end of the answer, for the attempts that this process made.',
  labelNames: ['outcome'] as const,
  buckets: seconds,
  registers,
});
const receiptSeconds = new Histogram({
  name: 'collecta_receipt_seconds',
  help:
    'Time from the capture of a change to the receiver’s 2xx, with retries and replays, for the attempts that this ' +
    'process made. The clocks of the database and of this machine must agree.',
  buckets: [...seconds, 60, 300, 3600],
  registers,
});
const routed = new Counter({
  name: 'collecta_routed_total',
  help: 'Captured changes that this process routed.',
  registers,
});
const listening = new Gauge({
  name: 'collecta_listening',
  help:
    'Whether this process receives notifications (1) or only polls (0). If it only polls, a change waits up to ' +
    'COLLECTA_POLL_INTERVAL_MS.',
  registers,
});
const inbound = new Counter({
  name: 'collecta_inbound_requests_total',
  help: 'Inbound requests that this process answered, by the status of the answer.',
  labelNames: ['status'] as const,
  registers,
});

// The default metrics read /proc, for which Deno asks permission. So they are only collected on Node.
if (!('Deno' in globalThis)) collectDefaultMetrics({ register: processMetrics });

/** The endpoints that have a label of their own, and how many may have one. All others share "other". */
const labelled = new Set<string>();
let endpointLimit = 100;
export function limitEndpointLabels(limit: number): void {
  endpointLimit = limit;
}

/** The attempts that this process made, by endpoint. */
const attemptsOf = new Map<string, number>();
/** The endpoints that existed when labels were last chosen. */
let known: ReadonlySet<string> = new Set();

/** The label value of an endpoint: its id, or "other". */
export function labelOf(endpointId: string): string {
  return labelled.has(endpointId) ? endpointId : 'other';
}

/**
 * Gives the labels to the endpoints with the most attempts. `existing` are the endpoints of the databases; it is empty
 * if they are not known. An endpoint loses its label when it is deleted, or to one with more than twice as many
 * attempts, so that labels rarely change. Its series end then: if their counts were added to "other", that would look
 * like a burst of attempts.
 */
export async function chooseLabels(existing: ReadonlySet<string>): Promise<void> {
  const count = (endpointId: string) => attemptsOf.get(endpointId) ?? 0;
  const lost = new Set<string>();
  const lose = (endpointId: string) => {
    labelled.delete(endpointId);
    lost.add(endpointId);
  };
  if (existing.size > 0) {
    for (const endpointId of known) {
      if (existing.has(endpointId)) continue;
      attemptsOf.delete(endpointId);
      if (labelled.has(endpointId)) lose(endpointId);
    }
    known = existing;
  }
  const fewestFirst = [...labelled].sort((a, b) => count(a) - count(b));
  while (labelled.size > endpointLimit) lose(fewestFirst.shift() as string);
  const mostFirst = [...new Set([...attemptsOf.keys(), ...existing])]
    .filter(endpointId => !labelled.has(endpointId))
    .sort((a, b) => count(b) - count(a));
  for (const endpointId of mostFirst) {
    if (labelled.size >= endpointLimit) {
      const weakest = fewestFirst.shift();
      if (weakest === undefined || count(endpointId) <= 2 * count(weakest)) break;
      lose(weakest);
    }
    labelled.add(endpointId);
  }
  if (lost.size === 0) return;
  for (const { labels } of (await attempts.get()).values)
    if (lost.has(String(labels.endpoint))) attempts.remove(labels);
}

/** When the change of an event was captured, in milliseconds since 1970. An event's id begins with that time. */
function capturedAt(eventId: string): number {
  return Number.parseInt(eventId.slice(4, 16), 16);
}

export function countAttempt(attempt: {
  endpointId: string;
  eventId: string;
  outcome: 'delivered' | 'failed' | 'blocked' | 'lost';
  status: number | null;
  totalMs: number;
}): void {
  const { outcome, status, totalMs } = attempt;
  const statusClass = status === null ? 'none' : `${Math.floor(status / 100)}xx`;
  attemptsOf.set(attempt.endpointId, (attemptsOf.get(attempt.endpointId) ?? 0) + 1);
  if (labelled.size < endpointLimit) labelled.add(attempt.endpointId);
  attempts.inc({ endpoint: labelOf(attempt.endpointId), outcome, status_class: statusClass });
  answerSeconds.observe({ outcome }, totalMs / 1000);
  if (outcome === 'delivered') {
    const ms = Date.now() - capturedAt(attempt.eventId);
    if (ms >= 0) receiptSeconds.observe(ms / 1000);
  }
}

let silentBecause: string | undefined;
/** Sets whether this process receives notifications, and the reason if it does not. */
export function showListening(listens: boolean, reason?: string): void {
  listening.set(listens ? 1 : 0);
  silentBecause = listens ? undefined : reason;
}
/** Why this process receives no notifications; undefined if it does, or if it does not listen for any. */
export const whySilent = (): string | undefined => silentBecause;

export function countRouted(changes: number): void {
  if (changes > 0) routed.inc(changes);
}

export function countInbound(status: number): void {
  inbound.inc({ status: String(status) });
}
