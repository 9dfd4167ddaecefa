import type { Row } from 'postgres';
import { fill, measure, prepare } from './drain.ts';
import { progress, type Sql, save, startBenchServer, startReceiver, startRunner, Table } from './support.ts';

const claims = 15;

/** Queue rows without their events' weight: `spread` endpoints, `hot` of them (0 to 1) at the first, due now or in an hour. */
async function queue(sql: Sql, rows: number, spread: number, hot: number, due = 'now()'): Promise<void> {
  await sql.unsafe(`insert into collecta.endpoints (endpoint_id, url, events, max_in_flight, after_change_id)
    select 'ep_' || lpad(i::text, 8, '0'), 'https://receiver.example.com/', '{record_created}', 1000, 0 from generate_series(1, ${spread}) i on conflict do nothing`);
  await sql.unsafe(
    `insert into collecta.endpoint_secrets (endpoint_id, secret) select endpoint_id, 'secret' from collecta.endpoints on conflict do nothing`,
  );
  await sql.unsafe(`with e as (insert into collecta.events (event_id, routed_at, change_id, position, module, event, occurred_at, body)
      values (collecta.new_id('evt'), now(), 0, 0, 'm', 'test', now(), '{}') returning event_id, routed_at)
    insert into collecta.delivery_queue (change_id, position, endpoint_id, event_id, routed_at, due_at)
    select i, 0, 'ep_' || lpad((case when i % 1000 < ${Math.round(hot * 1000)} then 1 else 1 + i % ${spread} end)::text, 8, '0'), e.event_id, e.routed_at, ${due} + i * interval '1 microsecond'
    from e, generate_series(1, ${rows}) i`);
}

async function record(sql: Sql, rows: Row[]): Promise<void> {
  await sql`select collecta.record_deliveries(${rows.map(row => row.delivery_id)}::text[]::bigint[], ${rows.map(row => row.lease)}::text[]::bigint[],
    ${rows.map(() => 'delivered')}::text[], ${rows.map(() => 'x')}::text[], ordered => false)`;
}

/** Median of claims of 200, each recorded before the next, as a runner does. */
async function claimTimes(sql: Sql, hints = true): Promise<number[]> {
  const times: number[] = [];
  let marks = '{}';
  let after = '';
  for (let i = 0; i < claims; i++) {
    const started = performance.now();
    const rows =
      await sql`select * from collecta.claim_deliveries(200, 0, 0, ${after}, ${hints ? marks : '{}'}::text::jsonb)`;
    times.push(performance.now() - started);
    const status = rows.find(row => row.delivery_id === null);
    marks = JSON.stringify(status?.next_marks ?? {});
    after =
      ((status?.endpoints ?? []) as { endpoint_id: string }[])
        .map(each => each.endpoint_id)
        .sort()
        .at(-1) ?? '';
    const mine = rows.filter(row => row.delivery_id !== null);
    if (mine.length > 0) await record(sql, mine);
  }
  return times.slice(3);
}

export async function backlog({ repetitions = 1 } = {}): Promise<void> {
  const server = await startBenchServer(['synchronous_commit=off']);
  const claim = new Table('Claim of 200', 'ms', '1,000 rows, 1 endpoint');
  const cases: [string, (sql: Sql) => Promise<void>][] = [
    ['1,000 rows, 1 endpoint', sql => queue(sql, 5_000, 1, 0)],
    ['100,000 rows, 1 endpoint', sql => queue(sql, 100_000, 1, 0)],
    ['1,000,000 rows, 1 endpoint', sql => queue(sql, 1_000_000, 1, 0)],
    ['1,000,000 rows, 100 endpoints, 99 % at one', sql => queue(sql, 1_000_000, 100, 0.99)],
    ['1,000,000 rows, 10,000 endpoints', sql => queue(sql, 1_000_000, 10_000, 0)],
    [
      '1,000,000 future retries over 10,000 endpoints, 200 due',
      async sql => {
        await queue(sql, 1_000_000, 10_000, 0, `now() + interval '1 hour'`);
        await sql`update collecta.delivery_queue set due_at = now() where delivery_id in (select delivery_id from collecta.delivery_queue order by random() limit 4000)`;
      },
    ],
  ];
  for (let i = 0; i < repetitions; i++)
    for (const [name, make] of cases) {
      const { sql } = await server.database();
      await make(sql);
      await sql`vacuum analyze`;
      for (const time of await claimTimes(sql)) claim.add(name, time);
      progress(`${name}: ${claim.median(name).toFixed(2)} ms`);
      await sql.end();
    }

  const routing = new Table('Routing 100,000 changes', 'changes/s', '1 endpoint, batches of 250');
  for (let i = 0; i < 3; i++)
    for (const [endpoints, batch] of [
      [1, 250],
      [1, 1_000],
      [20, 250],
    ] as const) {
      const { sql } = await server.database();
      await prepare(sql, 'http://127.0.0.1:1/', endpoints);
      await fill(sql, 100_000, false);
      const started = performance.now();
      for (let [from, routed] = ['0', 1]; routed > 0; ) {
        const [status] = await sql`select routed, next_change from collecta.claim_deliveries(0, ${batch}, ${from})`;
        [from, routed] = [status?.next_change, status?.routed];
      }
      const name = `${endpoints} endpoint${endpoints > 1 ? 's' : ''}, batches of ${batch.toLocaleString('en')}`;
      routing.add(name, 1e8 / (performance.now() - started));
      progress(`routing, ${name}: ${Math.round(routing.median(name))}/s`);
      await sql.end();
    }

  // An old snapshot: dead rows stay. Route and claim in turn, from the marks, while 600,000 are processed.
  const snapshot = new Table('Route 1,000 and claim 200 while an old snapshot is held', 'ms', 'at the beginning');
  const { sql, url } = await server.database();
  const receiver = await startReceiver();
  await prepare(sql, receiver.url);
  const holder = await sql.reserve();
  await holder.unsafe('begin isolation level repeatable read; select 1');
  let hints = { from: '0', marks: '{}' };
  for (let round = 0; round <= 6; round++) {
    if (round > 0) {
      await fill(sql, 100_000, false).catch(() => {});
      for (;;) {
        const rows =
          await sql`select * from collecta.claim_deliveries(1000, 1000, ${hints.from}::bigint, '', ${hints.marks}::text::jsonb)`;
        const status = rows.find(row => row.delivery_id === null);
        hints = {
          from: status?.next_change ?? hints.from,
          marks: JSON.stringify(status?.next_marks ?? JSON.parse(hints.marks)),
        };
        const mine = rows.filter(row => row.delivery_id !== null);
        if (mine.length === 0) break;
        await record(sql, mine);
      }
    }
    for (let i = 0; i < 8; i++) {
      await sql`insert into work_orders (status) select 'open' from generate_series(1, 1000)`;
      const started = performance.now();
      const rows =
        await sql`select * from collecta.claim_deliveries(200, 1000, ${hints.from}::bigint, '', ${hints.marks}::text::jsonb)`;
      snapshot.add(
        round === 0 ? 'at the beginning' : `after ${(round * 100).toLocaleString('en')},000 processed`,
        performance.now() - started,
      );
      const status = rows.find(row => row.delivery_id === null);
      hints = {
        from: status?.next_change ?? hints.from,
        marks: JSON.stringify(status?.next_marks ?? JSON.parse(hints.marks)),
      };
      const mine = rows.filter(row => row.delivery_id !== null);
      await record(sql, mine);
    }
    progress(
      `old snapshot, round ${round}: ${snapshot.median([...snapshot.rows.keys()].at(-1) as string).toFixed(1)} ms`,
    );
  }
  const jobs = 20_000;
  const drained = new Table(`Drain of ${jobs} due deliveries, 600,000 processed before`, 'deliveries/s', 'without it');
  for (const name of ['beside the old snapshot', 'without it']) {
    if (name === 'without it') {
      await holder.unsafe('rollback');
      holder.release();
    }
    for (let i = 0; i < 3; i++) {
      await fill(sql, jobs, true); // which vacuums
      drained.add(name, (await measure(sql, receiver, jobs, () => startRunner('node', url))).rate);
      progress(`${name}: ${Math.round(drained.median(name))}/s`);
    }
  }
  receiver.stop();
  await sql.end();
  await server.stop();
  save('backlog', [claim, routing, snapshot, drained]);
}
