// Answers 200 to every POST, at once or after a delay, and counts them. GET /count and /receipts return what it
// counted, and /reset starts again from 0.
import { createServer } from 'node:http';

const delayMs = Number(process.argv[2] ?? 0);
let count = 0;
let first = 0;
let last = 0;
let receipts = [];
const ids = new Set();

const server = createServer((request, response) => {
  if (request.method === 'GET') {
    if (request.url === '/reset') {
      count = first = last = 0;
      receipts = [];
      ids.clear();
    }
    response.end(
      JSON.stringify({
        count,
        first,
        last,
        distinct: ids.size,
        receipts: request.url === '/receipts' ? receipts : [],
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
    // The latency bench puts a number into each change.
    const numbered = /"number": ?([0-9]+)/.exec(Buffer.concat(chunks).toString());
    if (numbered) receipts.push([Number(numbered[1]), now]);
    if (delayMs > 0) setTimeout(() => response.end('ok'), delayMs);
    else response.end('ok');
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
