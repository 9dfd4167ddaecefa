// Offers changes at a steady rate: url, collecta or ideal, changes a second, seconds.
import postgres from 'postgres';

const [, , url = '', statement = 'collecta', rate = '100', seconds = '5'] = process.argv;
const sql = postgres(url, { max: 8, onnotice: () => {} });
await Promise.all(Array.from({ length: 8 }, () => sql`select 1`));
const total = Number(rate) * Number(seconds);
const started = performance.now();
const pending: Promise<unknown>[] = [];
for (let i = 0; i < total; i++) {
  const due = started + (i * 1000) / Number(rate);
  while (performance.now() < due)
    await new Promise(done => setTimeout(done, Math.max(0, due - performance.now() - 0.5)));
  const now = performance.timeOrigin + performance.now();
  // A query of this driver begins when it is awaited, unless it is told to.
  pending.push(
    (statement === 'ideal'
      ? sql`insert into ideal_queue (body) values (${JSON.stringify({ sent_at: now, note: 'a note of some length, as people write them' })})`
      : sql`insert into work_orders (product_code, custom_data) values ('A-4711', ${JSON.stringify({ sent_at: now })}::text::jsonb)`
    ).execute(),
  );
}
await Promise.all(pending);
await sql.end();
