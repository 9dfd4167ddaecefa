import { setTimeout as pause } from 'node:timers/promises';
import { openPool } from '../database/pool.ts';
import type { Log } from '../log.ts';
import { type Figure, readFigures } from '../operations/metrics.ts';

/** A database whose figures are wanted. */
export type Source = { name: string; databaseUrl: string };

const goodForMs = 55_000;
const answerWithinMs = 2_000;
const patienceMs = 10_000;
const atOnce = 4;

/**
 * The figures of many databases, each with the label `database`. Reading a hundred databases takes seconds, and they
 * are scraped every few seconds. So each database is read at most once a minute, four of them at a time. A scrape that
 * has waited for two seconds gets the figures that are known by then; `collecta_figures_age_seconds` says how old they
 * are. A session is opened for each reading and closed after it.
 */
export function createFigures(log: Log) {
  const known = new Map<string, { figures: Figure[]; readAt: number }>();
  const failedAt = new Map<string, number>();
  let reading: Promise<void> | undefined;

  async function read({ name, databaseUrl }: Source): Promise<void> {
    const sql = openPool(databaseUrl, { purpose: 'metrics', max: 1, prepare: false, patienceMs, graceMs: 0 });
    try {
      const figures = await readFigures(sql);
      const labelled = figures.map(each => ({ ...each, labels: { database: name, ...each.labels } }));
      known.set(name, { figures: labelled, readAt: performance.now() });
    } catch (error) {
      failedAt.set(name, performance.now());
      const { code, message } = error as { code?: string; message: string };
      log.warn('the figures of a database cannot be read', { database_name: name, code, message });
    } finally {
      await sql.end({ timeout: 1 });
    }
  }

  const isOld = (since: number | undefined) => since === undefined || performance.now() - since > goodForMs;

  async function readAll(sources: Source[]): Promise<void> {
    const due = sources.filter(({ name }) => isOld(known.get(name)?.readAt) && isOld(failedAt.get(name)));
    await Promise.all(
      Array.from({ length: atOnce }, async () => {
        for (let next = due.shift(); next; next = due.shift()) await read(next);
      }),
    );
  }

  return {
    /** Returns the known figures of the databases `served`. Those that are `awake` are read again if theirs are old. */
    async current(served: readonly Source[], awake: readonly Source[]): Promise<Figure[]> {
      reading ??= readAll([...awake]).finally(() => {
        reading = undefined;
      });
      const timer = new AbortController();
      await Promise.race([reading, pause(answerWithinMs, undefined, { signal: timer.signal }).catch(() => {})]);
      timer.abort();
      const names = new Set(served.map(({ name }) => name));
      for (const name of known.keys()) if (!names.has(name)) known.delete(name);
      for (const name of failedAt.keys()) if (!names.has(name)) failedAt.delete(name);
      return Array.from(known, ([database, { figures, readAt }]): Figure[] => [
        ...figures,
        {
          name: 'collecta_figures_age_seconds',
          labels: { database },
          value: (performance.now() - readAt) / 1000,
        },
      ]).flat();
    },
  };
}
