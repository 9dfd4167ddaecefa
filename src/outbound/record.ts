import { createEncoder } from '../database/encoding.ts';
import { isOutage, whyUnreachable } from '../database/errors.ts';
import type { Query } from '../database/pool.ts';
import type { Log } from '../log.ts';
import { countAttempt } from '../metrics.ts';
import { type Attempt, attemptOf, cleaned, type Finished, parametersOf, sparseAttemptOf } from './attempt.ts';

const maxBatch = 400;
const goodBatch = 200;
const gatherMs = 20;
const maxStatements = 2;

/**
 * Records finished deliveries by collecta.record_deliveries, in batches of what gathers within 20 ms. A batch is sent
 * sooner if it has 200 results, or if another delivery waits until one of them is recorded.
 *
 * A batch that cannot be recorded is halved until the result that fails is alone. Of that result, as much is recorded
 * as is possible. During an outage results are sent again until their lease ends. After that another runner has the
 * delivery, and the database would refuse the result.
 */
export function createRecorder(
  sql: Query,
  log: Log,
  { leaseMs, onRecorded }: { leaseMs: () => number; onRecorded: (batch: Finished[]) => void },
) {
  const gathered: Finished[] = [];
  let awaited = false;
  let flushing: NodeJS.Immediate | undefined;
  let timer: NodeJS.Timeout | undefined;
  let statements = 0;
  let alone = 0; // results that are recorded apart, since with others they failed
  let onIdle: (() => void)[] = [];
  const encoder = createEncoder(sql);

  const isBusy = () => statements > 0 || alone > 0 || gathered.length > 0;

  async function send(attempts: Attempt[]): Promise<void> {
    // What the database's encoding lacks is escaped. In headers, which are JSON, that keeps their meaning.
    const bodies = await encoder.encode(attempts.map(({ responseBody }) => responseBody));
    const errors = await encoder.encode(attempts.map(({ error }) => error));
    for (const [i, attempt] of attempts.entries()) {
      attempt.responseBody = bodies[i]!;
      attempt.error = errors[i]!;
    }
    const { results, urls, headers } = parametersOf(attempts);
    const [row] = await sql`
      select collecta.record_deliveries(${results}::text::collecta.delivery_result[],
        ${await encoder.encode(urls)}::text[], ${await encoder.encode(headers)}::text[]::json[]) as recorded`;
    const stale = attempts.length - Number(row?.recorded);
    if (stale > 0) log.warn('results came too late: their deliveries were claimed again', { stale });
  }

  async function record(batch: Finished[]): Promise<void> {
    for (let attempt = 0; batch.length > 0; attempt++) {
      const now = performance.now();
      try {
        await send(batch.map(each => attemptOf(each, now)));
        return onRecorded(batch);
      } catch (error) {
        const { code = '', message } = error as { code?: string; message: string };
        encoder.forget();
        const kept = batch.filter(({ delivery }) => now - delivery.claimedAt < leaseMs());
        const given_up = batch.length - kept.length;
        log.error('attempts could not be recorded', { attempts: batch.length, given_up, code, message });
        batch = kept;
        if (whyUnreachable(error) === undefined && code !== '') {
          if (batch.length > 1) {
            const half = Math.ceil(batch.length / 2);
            await record(batch.slice(0, half));
            return record(batch.slice(half));
          }
          if (batch[0]) recordAlone(batch[0]);
          return;
        }
        await pause(attempt);
      }
    }
  }

  const pause = (attempt: number) => new Promise(done => setTimeout(done, Math.min(100 * 2 ** attempt, 5_000)));

  /** Records one result, beside the batches, which do not wait for it. */
  async function recordAlone(finished: Finished): Promise<void> {
    alone++;
    const { delivery, result } = finished;
    let form: 'whole' | 'sparse' | 'outcome' = 'whole';
    let reason = '';
    for (let attempt = 0; performance.now() - delivery.claimedAt < leaseMs(); attempt++) {
      try {
        const now = performance.now();
        if (form === 'whole') await send([attemptOf(finished, now)]);
        else if (form === 'sparse') await send([sparseAttemptOf(finished, now, reason)]);
        else
          await sql`
            select collecta.record_outcome(${delivery.id}, ${delivery.lease}, ${result.outcome}, ${cleaned(reason)})`;
        log.error('an attempt was recorded', { event_id: delivery.eventId, endpoint_id: delivery.endpoint.id, form });
        onRecorded([finished]);
        break;
      } catch (error) {
        const { code = '', message } = error as { code?: string; message: string };
        if (whyUnreachable(error) === undefined && code !== '' && !isOutage(code)) {
          reason = message;
          if (form === 'outcome') log.error('an attempt could not be recorded at all', { code, message });
          form = form === 'whole' ? 'sparse' : 'outcome';
        }
        await pause(attempt);
      }
    }
    alone--;
    settle();
  }

  function flush(): void {
    clearImmediate(flushing);
    clearTimeout(timer);
    flushing = undefined;
    timer = undefined;
    // A second statement beside the first only for a batch that is worth it.
    while (gathered.length >= (statements > 0 ? goodBatch : 1) && statements < maxStatements) {
      const batch = gathered.splice(0, maxBatch);
      awaited &&= gathered.length > 0;
      // Counting a batch at once costs a fifth of counting each attempt when it ends.
      for (const { delivery, result } of batch) {
        const { outcome, status, totalMs } = result;
        if (outcome !== 'withdrawn')
          countAttempt({ endpointId: delivery.endpoint.id, eventId: delivery.eventId, outcome, status, totalMs });
      }
      statements++;
      record(batch).finally(() => {
        statements--;
        if (awaited || gathered.length >= goodBatch) flush();
        else if (gathered.length > 0) timer ??= setTimeout(flush, gatherMs);
        else settle();
      });
    }
  }

  function settle(): void {
    if (isBusy()) return;
    for (const done of onIdle) done();
    onIdle = [];
  }

  return {
    add(finished: Finished): void {
      gathered.push(finished);
      awaited ||= onIdle.length > 0 || finished.delivery.awaited;
      // Results of one turn of the event loop go together.
      if (awaited || gathered.length >= goodBatch) flushing ??= setImmediate(flush);
      else timer ??= setTimeout(flush, gatherMs);
    },
    /** Whether something is not recorded yet. */
    get busy(): boolean {
      return isBusy();
    },
    /** Resolves when everything is recorded. */
    drained(): Promise<void> {
      if (!isBusy()) return Promise.resolve();
      flush();
      return new Promise(done => onIdle.push(done));
    },
  };
}
