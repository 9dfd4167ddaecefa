// The demo's receiver, which runs in its own process. It knows the secret and the two signature rules, and nothing else
// about collecta-webhooks. It reads the secret from the first line of standard input. It writes one JSON line with its
// port to standard output, and then one JSON line for each request.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { buffer } from 'node:stream/consumers';

const tell = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

process.stdout.on('error', () => process.exit(0)); // the process that started this one has ended

let secret = '';
createInterface({ input: process.stdin })
  .once('line', line => {
    secret = line;
  })
  .once('close', () => process.exit(0));

function equal(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

let refused = false; // whether the one request was refused that shows a retry
createServer(async (request, response) => {
  const body = await buffer(request);
  const header = (name: string) => request.headers[name]?.toString() ?? '';
  const id = header('webhook-id');
  const timestamp = header('webhook-timestamp');

  const hex = equal(header('x-webhook-signature'), `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`);
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const standard =
    equal(
      header('webhook-signature'),
      `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`,
    ) && Math.abs(Date.now() / 1000 - Number(timestamp)) < 300;

  const event: string | null = hex && standard ? JSON.parse(body.toString()).event : null;
  let status = event === null ? 401 : 204;
  if (event === 'status_change' && !refused) {
    refused = true;
    status = 503;
  }
  response.writeHead(status, status === 503 ? { 'content-type': 'text/plain' } : {});
  response.end(status === 503 ? 'back in a second\n' : undefined);
  tell({ id, event, status, hex, standard });
}).listen(0, '127.0.0.1', function (this: ReturnType<typeof createServer>) {
  tell({ port: (this.address() as { port: number }).port });
});
