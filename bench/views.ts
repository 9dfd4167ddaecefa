import { readConfig } from '../src/config.ts';
import { createConsole } from '../src/console/server.ts';
import { migrate } from '../src/install/migrate.ts';
import { createLog } from '../src/log.ts';
import { fillHistory } from '../test/support/history.ts';
import { inLab, type Sql } from './lab.ts';
import type { Options, Outcome } from './results.ts';
import { type Fact, progress } from './rounds.ts';

const repeats = 5;

/** How long the console's pages take on a database with millions of attempts over 30 days and 10,000 endpoints. */
export const views = ({ size: attempts = 1_000_000 }: Options): Promise<Outcome> =>
  inLab(['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'], async lab => {
    const { url, sql } = await lab.database();
    await migrate(url);
    progress(`${attempts.toLocaleString('en')} attempts are written`);
    await fillHistory(sql, { endpoints: 10_000, attempts, days: 30 });
    await sql`vacuum analyze`;
    return { comparisons: [], facts: await measureViews(url, sql) };
  });

/** Logs in to the console as a reader. The returned function answers a page's text, or throws. */
export async function enterConsole(url: string, sql: Sql) {
  await sql.unsafe(`do $$ begin
    if to_regrole('bench_reader') is null then
      create role bench_reader login password 'bench' in role collecta_reader;
    end if;
  end $$`);
  const site = createConsole(readConfig({ DATABASE_URL: url, COLLECTA_OPERATIONS_PORT: '1' }), createLog('error'));
  const origin = 'http://127.0.0.1:1';
  const body = 'name=bench_reader&password=bench';
  const entered = await site.fetch(
    new Request(`${origin}/console/login`, {
      method: 'POST',
      body,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': String(body.length),
        'sec-fetch-site': 'same-origin',
        origin,
        host: '127.0.0.1:1',
      },
    }),
  );
  const cookie = (entered.headers.get('set-cookie') ?? '').split(';')[0] as string;
  return {
    async read(path: string): Promise<string> {
      const answer = await site.fetch(new Request(`${origin}/console/${path}`, { headers: { cookie } }));
      if (answer.status !== 200) throw new Error(`${path}: status ${answer.status}`);
      return await answer.text();
    },
    close: () => site.close(),
  };
}

/** The pages of the console, each with the filters that are the hardest for the database. */
export async function pagesOf(sql: Sql): Promise<[name: string, path: string][]> {
  const [given] = await sql`
    select id, event_id, endpoint_id, collecta.attempt_id_at(now() - interval '25 days') as deep,
      to_char(now() - interval '10 days', 'YYYY-MM-DD HH24:MI') as early,
      to_char(now() - interval '9 days', 'YYYY-MM-DD HH24:MI') as late
    from collecta.delivery_attempts
    where outcome = 'exhausted' and id < collecta.attempt_id_at(now() - interval '10 days') order by id desc limit 1`;
  const { id, event_id: event, endpoint_id: endpoint, deep: before, early: from, late: to } = given!;
  const list = (query: Record<string, string>) => `deliveries?${new URLSearchParams(query)}`;
  const rare = '{"record": {"status": "nothing has it"}}';
  return [
    ['overview, an hour', '?span=hour'],
    ['overview, 24 hours', ''],
    ['overview, 7 days', '?span=week'],
    ['overview, 30 days', '?span=month'],
    ['endpoints', 'endpoints'],
    ['endpoints, the 9,000th', `endpoints?${new URLSearchParams({ after: `customer-09000\n${endpoint}` })}`],
    ['endpoints, a search', 'endpoints?q=customer-0777'],
    ['one endpoint, 30 days', `endpoints/${endpoint}?span=month`],
    ['deliveries', 'deliveries'],
    ['deliveries, 25 days back', list({ before })],
    ['deliveries of an endpoint', list({ endpoint })],
    ['deliveries of an endpoint, 25 days back', list({ endpoint, before })],
    ['deliveries of an endpoint, blocked', list({ endpoint, outcome: 'blocked' })],
    ['failed', list({ outcome: 'failed' })],
    ['given up', list({ outcome: 'exhausted' })],
    ['lost (none is)', list({ outcome: 'lost' })],
    ['lost (none is), within a day', list({ outcome: 'lost', from, to })],
    ['status 404 (none has it)', list({ status: '404' })],
    ['a module that has none, 25 days back', list({ module: 'none', before })],
    ['an event that none has', list({ event: 'test' })],
    ['of a record', list({ record: 'rec_77' })],
    ['of an event', list({ id: event })],
    ['payload contains (all do)', list({ contains: '{"record": {"status": "done"}}' })],
    ['payload contains (none does), 25 days back', list({ contains: rare, before })],
    ['given up, payload contains (none does)', list({ outcome: 'exhausted', contains: rare })],
    ['one delivery', `deliveries/${id}`],
    ['replay what was given up, before it runs', `act/replay-given-up?endpoint=${endpoint}`],
    ['modules', 'modules'],
    ['inbound', 'inbound'],
    ['unrouted', 'unrouted'],
  ];
}

/** The median of five requests of each page, and the slowest of the first ones, in milliseconds. */
export async function measureViews(url: string, sql: Sql): Promise<Fact[]> {
  const reader = await enterConsole(url, sql);
  const facts: Fact[] = [];
  let slowestFirst = 0;
  for (const [name, path] of await pagesOf(sql)) {
    const times: number[] = [];
    for (let n = 0; n < repeats; n++) {
      const began = performance.now();
      await reader.read(path);
      times.push(performance.now() - began);
    }
    slowestFirst = Math.max(slowestFirst, times[0] as number);
    facts.push({ name, value: times.sort((a, b) => a - b)[Math.floor(repeats / 2)] as number, unit: 'ms' });
  }
  await reader.close();
  return [
    ...facts.sort((a, b) => b.value - a.value),
    { name: 'the slowest of the first requests', value: slowestFirst, unit: 'ms' },
  ];
}
