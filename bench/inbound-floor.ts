// The floors of inbound: the same server and driver without any checks. Each request does one INSERT. With
// BENCH_ENDPOINT, a hand-written function does the four writes of an accepted request: budget, record, stored request
// and captured change.
import { connect } from '../src/database/connect.ts';
import { createInboundServer } from '../src/inbound/server.ts';
import { createLog } from '../src/log.ts';

const endpoint = process.env.BENCH_ENDPOINT;
const sql = connect(process.env.DATABASE_URL ?? '', { max: 10 });
const server = createInboundServer(async ({ body, headers }) => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body ?? []) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  const { payload } = JSON.parse(text);
  const [row] = endpoint
    ? await sql`select public.four_writes(${endpoint}, ${payload.sku}, ${payload.qty}, ${payload.station}, ${text},
        ${headers['idempotency-key'] ?? ''}) as id`
    : await sql`insert into public.work_orders (product_code, quantity, work_center)
        values (${payload.sku}, ${payload.qty}, ${payload.station}) returning id`;
  return { status: 202, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ recordId: row!.id }) };
}, createLog('error'));
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: (server.address() as { port: number }).port })));
