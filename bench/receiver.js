// Answers 200 to every POST, at once or after a delay, and counts. GET /count, /latencies, /reset.
import { createServer } from 'node:http';

const delayMs = Number(process.argv[2] ?? 0);
let count = 0;
let first = 0;
let last = 0;
let latencies = [];
const ids = new Set();

const server = createServer((request, response) => {
  if (request.method === 'GET') {
    if (request.url === '/reset') {
      count = first = last = 0;
      latencies = [];
      ids.clear();
    }
    response.end(
      JSON.stringify({
        count,
        first,
        last,
        distinct: ids.size,
        latencies: request.url === '/latencies' ? latencies : [],
      }),
    );
    return;
  }
  const chunks = [];
  request.on('data', chunk => chunks.push(chunk));
  request.on('end', () => {
    const now = performance.timeOrigin + performance.now();
    if (count++ === 0) first = now;
    last = now;
    if (request.headers['webhook-id']) ids.add(request.headers['webhook-id']);
    // A latency benchmark writes the clock's microseconds into the row.
    const body = Buffer.concat(chunks).toString();
    const sent = /"sent_at": ?"?([0-9.]+)/.exec(body);
    if (sent) latencies.push(now - Number(sent[1]));
    if (delayMs > 0) setTimeout(() => response.end('ok'), delayMs);
    else response.end('ok');
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
