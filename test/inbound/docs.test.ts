import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import t from 'tap';
import { useServer } from '../support/database.ts';
import { closeAgent, makeModule, post, startReceiving } from '../support/inbound.ts';

const page = readFileSync('docs/inbound.md', 'utf8');
const blocks = (language: string) =>
  [...page.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))].map(([, code]) => code!);
const { database } = await useServer();
const db = await database();
const { sql } = db;
await makeModule(sql);
const receiving = await startReceiving(db);
const scratch = mkdtempSync(join(tmpdir(), 'collecta-docs-'));
t.teardown(async () => {
  await receiving.stop();
  await closeAgent();
  rmSync(scratch, { recursive: true, force: true });
});
writeFileSync(
  join(scratch, 'collecta-webhooks'),
  `#!/bin/sh
unset NODE_OPTIONS TEST_POSTGRES_PACKAGE TEST_SERVER
exec '${process.execPath}' '${resolve('dist/cli.js')}' "$@"
`,
);
chmodSync(join(scratch, 'collecta-webhooks'), 0o755);

const shell = (script: string, env: Record<string, string>) =>
  new Promise<{ status: number; out: string; err: string }>(done => {
    const options = { cwd: scratch, env: { ...process.env, PATH: `${scratch}:${process.env.PATH}`, ...env } };
    execFile('sh', ['-eu', '-c', script], options, (error, out, err) =>
      done({ status: error ? Number(error.code) : 0, out, err }),
    );
  });

t.test('the commands in docs/inbound.md work in the order of the page', async t => {
  const statements = blocks('sql');
  const create = statements[0];
  const test = statements.find(text => text.includes('test_inbound_mapping('));
  const failed = statements.find(text => text.includes('from collecta.inbound_requests'));
  const [made] = await sql.unsafe(create!);
  t.match(made, { inbound_endpoint_id: /^inb_/, path: /^\/api\/webhooks\/work-orders\//, secret: /^whsec_/ });
  const env = { URL: `http://127.0.0.1:${receiving.port}${made!.path}`, SECRET: made!.secret };
  const [curl, send] = blocks('sh');
  const first = await shell(curl!, env);
  t.match(first, { status: 0, out: /^\{"recordId":"rec_[0-9a-f]{32}"\}$/, err: '' });
  t.strictSame(await shell(curl!, env), first, 'the same key again');
  t.match(await shell(curl!, { ...env, SECRET: 'another' }), { out: /"status":401/ });
  t.equal(page.includes('{"recordId":"rec_018f…"}'), true);
  const second = await shell(send!, env);
  t.strictSame([second.status, second.out, second.err], [0, `${JSON.parse(first.out).recordId}\n`, '']);
  t.match([...(await sql`select quantity, work_center from work_orders`)], [{ quantity: 8, work_center: 'WELD-2' }]);
  const own = (statement: string) => sql.unsafe(statement.replaceAll('inb_…', made!.inbound_endpoint_id));
  t.match(
    [...(await own(test!))].find(row => row.column_name === 'quantity'),
    { problem: /cannot be stored as integer/ },
  );
  t.strictSame([...(await own(failed!))], []);
});

t.test('the documented mapping with both forms works', async t => {
  const mapping = blocks('json').find(text => text.includes('"whole"'))!;
  const [made] = await sql`select path from collecta.create_inbound_endpoint('work-orders', ${mapping}::text::jsonb)`;
  const reply = await post(receiving.port, made!.path, { payload: { sku: 'BOTH', station: 'W' } });
  t.equal(reply.status, 202);
  const [row] = await sql`select product_code, quantity, work_center, tenant_id, custom_data from work_orders
      where id = ${reply.json.recordId as string}`;
  t.strictSame(row, {
    product_code: 'BOTH',
    quantity: 1,
    work_center: 'W',
    tenant_id: 'acme',
    custom_data: { payload: { sku: 'BOTH', station: 'W' } },
  });
});

t.test('the documented sample server uses names that exist', async t => {
  const [sample] = blocks('ts');
  for (const [, names, path] of sample!.matchAll(/import \{ (.*) \} from 'collecta-webhooks\/dist\/(.*)\.js'/g)) {
    const module = await import(`../src/${path}.ts`);
    for (const name of names!.split(', ')) t.type(module[name], 'function', name);
  }
  t.equal(blocks('nginx').length, 1);
});
