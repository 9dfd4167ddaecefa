// Offers changes at a steady rate: url, whose, changes a second, seconds. Sends its parent when each one's COMMIT was sent.
import postgres from 'postgres';

export type Offer = 'collecta' | 'ideal' | 'ideal outbox' | 'graphile-worker' | 'pg-boss';

const [, , url = '', whose = 'collecta', rate = '100', seconds = '5'] = process.argv;
const sql = postgres(url, { max: 8, onnotice: () => {} });
await Promise.all(Array.from({ length: 8 }, () => sql`select 1`));
type Tx = postgres.TransactionSql;
const statements: Record<Offer, (tx: Tx, body: string) => PromiseLike<unknown>> = {
  collecta: (tx, body) =>
    tx`insert into work_orders (product_code, custom_data) values ('A-4711', ${body}::text::jsonb)`,
  ideal: (tx, body) => tx`insert into ideal_queue (body) values (${body})`,
  'ideal outbox': (tx, body) => tx`insert into ideal_outbox (body) values (${body})`,
  'graphile-worker': (tx, body) => tx`select from graphile_worker.add_job('post', ${body}::text::json)`,
  'pg-boss': (tx, body) => tx`insert into pgboss.job (name, data) values ('post', ${body}::text::jsonb)`,
};
const write = statements[whose as Offer];
const total = Number(rate) * Number(seconds);
const started = performance.now();
const pending: Promise<unknown>[] = [];
const committing: number[] = [];
for (let i = 0; i < total; i++) {
  const due = started + (i * 1000) / Number(rate);
  while (performance.now() < due)
    await new Promise(done => setTimeout(done, Math.max(0, due - performance.now() - 0.5)));
  const body = JSON.stringify({ number: i, note: 'a note of some length, as people write them' });
  pending.push(
    sql.begin(async tx => {
      await write(tx, body);
      committing[i] = performance.timeOrigin + performance.now();
    }),
  );
}
await Promise.all(pending);
await sql.end();
process.send?.(committing, () => process.disconnect());
