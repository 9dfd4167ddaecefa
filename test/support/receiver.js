// A receiver of webhooks in a process of its own, in plain JavaScript and with none of the project's code. It verifies
// every request twice, with node:crypto and with the standardwebhooks package, and prints one JSON line for each. Its
// parent scripts it over IPC: {path, secrets, answers}. An answer is a status, or {status, headers, body, delayMs,
// hang, drop}; they are given one after the other, the last one for ever. What is not scripted gets 200.
import { createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import { Webhook } from 'standardwebhooks';

const scripts = new Map();
const held = new Map();
const concurrent = new Map();
const print = line => process.stdout.write(`${JSON.stringify(line)}\n`);

function passes(check) {
  try {
    return check();
  } catch {
    return false;
  }
}

function verify(secret, headers, body) {
  const hex = createHmac('sha256', secret).update(body).digest('hex');
  const key = secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64') : Buffer.from(secret);
  const signed = Buffer.concat([Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.`), body]);
  const standard = `v1,${createHmac('sha256', key).update(signed).digest('base64')}`;
  return {
    hex: headers['x-webhook-signature'] === `sha256=${hex}`,
    standard: String(headers['webhook-signature']).split(' ').includes(standard),
    package: passes(() => new Webhook(key, { format: 'raw' }).verify(body.toString(), headers) !== undefined),
  };
}

const server = createServer(async (request, response) => {
  const path = request.url;
  const script = scripts.get(path) ?? { secrets: [], answers: [200] };
  const at = Date.now();
  concurrent.set(path, (concurrent.get(path) ?? 0) + 1);
  const inFlight = concurrent.get(path);
  response.on('close', () => concurrent.set(path, concurrent.get(path) - 1));
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const answer = script.answers.length > 1 ? script.answers.shift() : script.answers[0];
  const {
    status = 200,
    headers = {},
    body: text = '',
    delayMs = 0,
    hang,
    drop,
  } = typeof answer === 'number' ? { status: answer } : answer;
  print({
    path,
    at,
    method: request.method,
    headers: request.headers,
    body: body.toString(),
    verified: script.secrets.map(secret => verify(secret, request.headers, body)),
    status: hang || drop ? null : status,
    inFlight,
  });
  const respond = () => response.writeHead(status, headers).end(text);
  if (drop) request.socket.destroy();
  else if (hang) held.set(path, [...(held.get(path) ?? []), respond]);
  else if (delayMs > 0) setTimeout(respond, delayMs);
  else respond();
});

process.on('message', ({ id, path, secrets, answers, release }) => {
  if (release) {
    for (const respond of held.get(path) ?? []) respond();
    held.delete(path);
  } else scripts.set(path, { secrets: secrets ?? scripts.get(path)?.secrets ?? [], answers });
  process.send({ id });
});
process.on('disconnect', () => process.exit());
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => process.send({ id: 'listening', port: server.address().port }));
