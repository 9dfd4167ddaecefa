import { fill, prepare } from './drain.ts';
import { pause, progress, save, startBenchServer, startReceiver, startRunner, stop, Table, until } from './support.ts';

/** One runner and two, on the same cores: where the cores are the limit, and where waiting for receivers is. */
export async function replicas({ repetitions = 3 } = {}): Promise<void> {
  const server = await startBenchServer();
  const tables: Table[] = [];
  for (const { delayMs, jobs, endpoints } of [
    { delayMs: 0, jobs: 60_000, endpoints: 4 },
    { delayMs: 50, jobs: 30_000, endpoints: 4 },
  ]) {
    const receiver = await startReceiver(delayMs);
    const rate = new Table(
      delayMs === 0
        ? `${jobs} deliveries, receivers answer at once: bound by the cores`
        : `${jobs} deliveries, receivers take ${delayMs} ms: bound by 50 requests at once for each runner`,
      'deliveries/s',
      'one runner',
    );
    tables.push(rate);
    for (let i = 0; i < repetitions; i++)
      for (const count of [1, 2]) {
        const { url, sql } = await server.database();
        await prepare(sql, receiver.url, endpoints);
        await fill(sql, jobs / endpoints, true);
        await receiver.reset();
        const runners = Array.from({ length: count }, () => startRunner('node', url, { COLLECTA_CONCURRENCY: '50' }));
        await until('the drain', async () => (await receiver.count()).count >= jobs, 180_000, 100);
        const { first, last, count: received, distinct } = await receiver.count();
        // An event goes to each of the endpoints.
        if (received !== jobs || distinct !== jobs / endpoints)
          throw new Error(`${received} of ${jobs}, ${distinct} events`);
        const name = count === 1 ? 'one runner' : 'two runners';
        rate.add(name, jobs / ((last - first) / 1000));
        progress(`${delayMs} ms, ${name}: ${Math.round(jobs / ((last - first) / 1000))}/s`);
        await Promise.all(runners.map(child => stop(child, 'SIGKILL')));
        await sql.end();
        await pause(500);
      }
    receiver.stop();
  }
  await server.stop();
  save('replicas', tables);
}
