// Offers changes at a steady rate: url, whose, changes a second, seconds.
import postgres from 'postgres';

export type Offer = 'collecta' | 'ideal' | 'ideal outbox' | 'graphile-worker' | 'pg-boss';

const [, , url = '', whose = 'collecta', rate = '100', seconds = '5'] = process.argv;
const sql = postgres(url, { max: 8, onnotice: () => {} });
await Promise.all(Array.from({ length: 8 }, () => sql`select 1`));
const statements: Record<Offer, (body: string) => ReturnType<typeof sql>> = {
  collecta: body => sql`insert into work_orders (product_code, custom_data) values ('A-4711', ${body}::text::jsonb)`,
  ideal: body => sql`insert into ideal_queue (body) values (${body})`,
  'ideal outbox': body => sql`insert into ideal_outbox (body) values (${body})`,
  'graphile-worker': body => sql`select from graphile_worker.add_job('post', ${body}::text::json)`,
  'pg-boss': body => sql`insert into pgboss.job (name, data) values ('post', ${body}::text::jsonb)`,
};
const write = statements[whose as Offer];
const total = Number(rate) * Number(seconds);
const started = performance.now();
const pending: Promise<unknown>[] = [];
for (let i = 0; i < total; i++) {
  const due = started + (i * 1000) / Number(rate);
  while (performance.now() < due)
    await new Promise(done => setTimeout(done, Math.max(0, due - performance.now() - 0.5)));
  const now = performance.timeOrigin + performance.now();
  // A query of this driver begins when it is awaited, unless it is told to.
  pending.push(write(JSON.stringify({ sent_at: now, note: 'a note of some length, as people write them' })).execute());
}
await Promise.all(pending);
await sql.end();
