import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SendError, send } from '../../src/operations/send.ts';
import { parseSecret, verifySignature } from '../../src/secrets/sign.ts';
import { useServer } from '../support/database.ts';
import { makeEndpoint, makeModule, startReceiving } from '../support/inbound.ts';

const { database } = await useServer();
const db = await database();
const { sql } = db;
await makeModule(sql);
const receiving = await startReceiving(db);
t.teardown(() => receiving.stop());
const scratch = mkdtempSync(join(tmpdir(), 'collecta-send-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));

type Seen = { headers: IncomingHttpHeaders; body: string; at: number };
type Step = { status: number; headers?: Record<string, string>; body?: string };

/** A server that gives the listed answers one after the other. */
async function scripted(t: Test, steps: Step[]) {
  const seen: Seen[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    seen.push({ headers: request.headers, body, at: Date.now() });
    const { status, headers = {}, body: answer = '{}' } = steps[Math.min(seen.length, steps.length) - 1]!;
    response.writeHead(status, headers).end(answer);
  });
  const port = await new Promise<number>(resolve =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  );
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${port}/api/webhooks/m/secret-token`, seen };
}

t.test('send posts a signed payload that becomes a record', async t => {
  const { path, secret } = await makeEndpoint(sql, undefined, { require_signature: true });
  const url = `http://127.0.0.1:${receiving.port}${path}`;
  const body = { payload: { sku: 'SENT', qty: 3 } };
  const { recordId } = await send({ url, body, secret: secret!, idempotencyKey: 'one' });
  t.strictSame(
    [...(await sql`select id, quantity from work_orders where product_code = 'SENT'`)],
    [{ id: recordId, quantity: 3 }],
  );
  t.strictSame(await send({ url, body, secret: secret!, idempotencyKey: 'one' }), { recordId });
  t.equal((await sql`select from work_orders where product_code = 'SENT'`).length, 1);
  const refused = await send({ url, body, secret: 'wrong' }).catch(error => error);
  t.match(refused, new SendError(401, 'The signature was refused: webhook-signature does not match.'));
  const failed = await send({ url, body: '{"payload": {"sku": "SENT", "qty": "x"}}', secret: secret! }).catch(
    error => error,
  );
  t.match(failed, { name: 'SendError', status: 422, detail: /quantity/ });
  t.notMatch(failed.message + failed.stack, path);
});

t.test('send retries 429 and 503 after Retry-After with the same key and body and a new signature', async t => {
  const { url, seen } = await scripted(t, [
    { status: 429, headers: { 'retry-after': '1' } },
    { status: 503, headers: { 'retry-after': '1' } },
    { status: 202, body: '{"recordId": "rec_1"}' },
  ]);
  t.strictSame(await send({ url, body: { a: 1 }, secret: 'shared' }), { recordId: 'rec_1' });
  t.equal(seen.length, 3);
  t.ok(seen[1]!.at - seen[0]!.at >= 990 && seen[2]!.at - seen[1]!.at >= 990, 'a second each');
  t.equal(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size, 1);
  for (const { headers, body } of seen)
    t.strictSame(verifySignature([parseSecret('shared')], headers, body), { ok: true, reason: null });
  t.not(seen[0]!.headers['webhook-timestamp'], seen[2]!.headers['webhook-timestamp']);
});

t.test('send does not retry other refusals, redirects and invalid answers', async t => {
  for (const step of [
    { status: 404 },
    { status: 422, body: '{"detail": "no"}' },
    { status: 307, headers: { location: 'http://127.0.0.1:1/' } },
    { status: 200, body: '{"recordId": "x"}' },
    { status: 202, body: '{"recordId": 5}' },
  ]) {
    const { url, seen } = await scripted(t, [step]);
    const error = await send({ url, body: {} }).catch(error => error);
    t.match(error, { name: 'SendError', status: step.status }, `${step.status}`);
    t.equal(seen.length, 1);
  }
  const gaveUp = await scripted(t, [{ status: 503, headers: { 'retry-after': '0' } }]);
  t.match(await send({ url: gaveUp.url, body: {}, retries: 2, maxWaitMs: 10 }).catch(error => error), { status: 503 });
  t.equal(gaveUp.seen.length, 3);
  const nobody = await send({ url: 'http://127.0.0.1:1/api/webhooks/m/secret-token', body: {}, retries: 0 }).catch(
    error => error,
  );
  t.match(nobody, { name: 'SendError', status: 0, message: /cannot be reached/ });
  t.notMatch(nobody.message, /secret-token/);
});

for (const [runtime, [program, ...first]] of Object.entries({
  'Node, dist': ['env', '-u', 'NODE_OPTIONS', process.execPath, 'dist/cli.js'],
  'Deno, src': [
    'node_modules/.bin/deno',
    'run',
    '--allow-env',
    '--allow-net',
    '--allow-read',
    '--allow-sys',
    'src/cli.ts',
  ],
} as const)) {
  t.test(`collecta-webhooks send works on ${runtime}`, async t => {
    const cli = (args: string[], env: Record<string, string> = {}, input = '') =>
      new Promise<{ status: number | null; out: string; err: string }>(done => {
        const child = execFile(
          program,
          [...first, 'send', ...args],
          { env: { ...process.env, ...env } },
          (_error, out, err) => done({ status: child.exitCode, out, err }),
        );
        child.stdin?.end(input);
      });
    const { path, secret } = await makeEndpoint(sql, undefined, { require_signature: true });
    const url = `http://127.0.0.1:${receiving.port}${path}`;
    const file = join(scratch, 'payload.json');
    writeFileSync(file, '{"payload": {"sku": "CLI", "qty": 1}}');
    const sent = await cli([url, file], { COLLECTA_SECRET: secret! });
    t.match(sent, { status: 0, out: /^rec_[0-9a-f]{32}\n$/, err: '' });
    const [row] = await sql`select product_code from work_orders where id = ${sent.out.trim()}`;
    t.equal(row?.product_code, 'CLI');
    writeFileSync(join(scratch, 'secret'), `${secret}\n`);
    const piped = await cli(
      [url, '-', '--idempotency-key', 'k'],
      { COLLECTA_SECRET_FILE: join(scratch, 'secret') },
      '{"payload": {"sku": "PIPED"}}',
    );
    t.match(piped, { status: 0, out: /^rec_/ });
    t.strictSame(
      await cli([url, '--idempotency-key', 'k'], { COLLECTA_SECRET: secret! }, '{"payload": {"sku": "PIPED"}}'),
      piped,
      'the same key, the same record',
    );
    const refused = await cli([url], { COLLECTA_SECRET: 'wrong' }, '{}');
    t.match(refused, { status: 1, out: '', err: /^collecta-webhooks: 401: / });
    t.notMatch(refused.err, path);
    t.match(await cli([], {}), { status: 2, out: '' });
    t.match(await cli(['not-a-url'], {}), { status: 2, out: '' });
  });
}
