// The least that a delivery loop can do. It claims 200 deliveries with SKIP LOCKED, signs and posts them with undici,
// 50 at once, and records them in batches with one history row each. The steps run at the same time. It has no guard,
// no routing, no details in the history and only one endpoint, and checks nothing. In mode "route" it reads an outbox
// in one statement, which stores the event and a leased queue row.
import { createHmac } from 'node:crypto';
import postgres from 'postgres';
import { Agent, request } from 'undici';

const [, , url = '', target = '', mode = 'drain'] = process.argv;
const concurrency = 50;
const sql = postgres(url, { max: 4 });
const agent = new Agent({ connections: concurrency });
type Job = { id: string; body: string };

const ahead: Job[] = [];
let underway = 0;
const done: { id: string; status: number; ms: number }[] = [];
let recording = 0;
let claiming = false;
let more = true;

async function post({ id, body }: Job): Promise<void> {
  const started = performance.now();
  const signature = createHmac('sha256', 'secret').update(body).digest('hex');
  const answer = await request(target, {
    method: 'POST',
    body,
    dispatcher: agent,
    headers: { 'content-type': 'application/json', 'x-webhook-signature': `sha256=${signature}`, 'webhook-id': id },
  });
  await answer.body.dump();
  done.push({ id, status: answer.statusCode, ms: performance.now() - started });
}

async function record(): Promise<void> {
  if (recording >= 2 || done.length === 0) return;
  const batch = done.splice(0, 200);
  recording++;
  await sql`
    with r as (
      select * from unnest(${batch.map(b => b.id)}::text[]::bigint[], ${batch.map(b => b.status)}::int[],
        ${batch.map(b => b.ms)}::real[]) r (id, status, ms)),
    d as (delete from ideal_queue q using r where q.id = r.id)
    insert into ideal_history (id, status, ms) select * from r`;
  recording--;
  setImmediate(record);
}

async function claim(): Promise<void> {
  if (claiming || ahead.length > 100) return;
  claiming = true;
  const rows =
    mode === 'route'
      ? await sql<Job[]>`
    with o as (
      delete from ideal_outbox
      where id in (select id from ideal_outbox order by id limit 200 for update skip locked) returning id, body),
    e as (insert into ideal_events (id, body) select id, body from o),
    q as (
      insert into ideal_queue (id, body, leased_until, attempt) overriding system value
      select id, '', now() + interval '60 s', 1 from o)
    select id, body from o order by id`
      : await sql<Job[]>`
    with c as (
      select id from ideal_queue where due_at <= now() and (leased_until is null or leased_until < now())
      order by due_at, id limit 200 for update skip locked)
    update ideal_queue q set leased_until = now() + interval '60 s', attempt = attempt + 1
    from c where q.id = c.id returning q.id, q.body`;
  claiming = false;
  more = rows.length > 0;
  ahead.push(...rows);
  pump();
}

function pump(): void {
  while (underway < concurrency && ahead.length > 0) {
    underway++;
    post(ahead.shift() as Job).finally(() => {
      underway--;
      if (done.length === 1) setImmediate(record);
      pump();
    });
  }
  if (ahead.length <= 100 && more) claim();
}

await sql.listen('ideal', () => claim());
await claim();
setInterval(() => claim(), 1000);
