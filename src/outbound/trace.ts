import { isSpanContextValid, type Link, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { DeliveryResult } from './exchange.ts';

// W3C forbids ids of zeros.
const form = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;
const tracer = trace.getTracer('collecta-webhooks');

/**
 * The W3C traceparent of the transaction that made the change: `traceparent` in the payload's context, which is what
 * the writer set. Undefined where there is none, or none that is well formed.
 */
export function traceparentOf(body: string): string | undefined {
  // Almost no payload has one, so only those that may have one are parsed.
  if (!body.includes('"traceparent"')) return undefined;
  try {
    const given: unknown = JSON.parse(body).context?.traceparent;
    return typeof given === 'string' && form.test(given) ? given : undefined;
  } catch {
    return undefined;
  }
}

/**
 * A span for one attempt, where the process has an OpenTelemetry SDK; nothing otherwise. It is linked to the writer's
 * span and not its child: the delivery may come hours after that trace ended.
 */
export function startSpan(attempt: {
  endpointId: string;
  eventId: string;
  url: string;
  traceparent: string | undefined;
}): (result: DeliveryResult) => void {
  const links: Link[] = [];
  if (attempt.traceparent) {
    const [, traceId = '', spanId = '', flags = '00'] = form.exec(attempt.traceparent) ?? [];
    const context = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
    if (isSpanContextValid(context)) links.push({ context });
  }
  const span = tracer.startSpan('deliver webhook', {
    kind: SpanKind.PRODUCER,
    root: true,
    links,
    attributes: {
      'collecta.endpoint_id': attempt.endpointId,
      'collecta.event_id': attempt.eventId,
      'http.request.method': 'POST',
    },
  });
  if (!span.isRecording()) return () => span.end();
  span.setAttribute('server.address', hostOf(attempt.url));
  return ({ outcome, status, error }) => {
    span.setAttribute('collecta.outcome', outcome);
    if (status !== null) span.setAttribute('http.response.status_code', status);
    if (outcome !== 'delivered')
      span.setStatus({ code: SpanStatusCode.ERROR, ...(error !== null && { message: error }) });
    span.end();
  };
}

// A path or a query may hold a token.
const hostOf = (url: string) => (URL.canParse(url) ? new URL(url).hostname : '');
