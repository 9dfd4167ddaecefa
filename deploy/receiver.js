// A receiver for a look: prints what comes, one line each, and answers 204.
import { createServer } from 'node:http';

createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  console.log(`${request.method} ${request.url} ${request.headers['webhook-id'] ?? '-'} ${body}`);
  response.writeHead(204).end();
}).listen(Number(process.env.PORT ?? 9000), process.env.HOST ?? '0.0.0.0');
