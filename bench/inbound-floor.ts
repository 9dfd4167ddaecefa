// The floor of inbound: the same server and driver, one INSERT a request, nothing checked.
import { connect } from '../src/database/connect.ts';
import { createInboundServer } from '../src/inbound/server.ts';
import { createLog } from '../src/log.ts';

const sql = connect(process.env.DATABASE_URL ?? '', { max: 10 });
const server = createInboundServer(async ({ body }) => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body ?? []) chunks.push(chunk);
  const { payload } = JSON.parse(Buffer.concat(chunks).toString());
  const [row] = await sql`insert into work_orders (product_code, quantity, work_center)
      values (${payload.sku}, ${payload.qty}, ${payload.station}) returning id`;
  return { status: 202, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ recordId: row!.id }) };
}, createLog('error'));
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: (server.address() as { port: number }).port })));
