import { execFile } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Webhook } from 'standardwebhooks';
import t from 'tap';
import { readConfig, variables } from '../../src/config.ts';
import { receive } from '../../src/inbound/service.ts';
import { createLog } from '../../src/log.ts';
import { useServer } from '../support/database.ts';

const readme = readFileSync('README.md', 'utf8');
const pages = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  ...readdirSync('docs')
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`),
].map(path => ({
  path,
  text: readFileSync(path, 'utf8'),
}));
const { database } = await useServer();
const scratch = mkdtempSync(join(tmpdir(), 'collecta-readme-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));

const blocks = (text: string, language: string) =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))].map(([, code]) => code as string);
const section = (title: string) => readme.split(/^## /m).find(part => part.startsWith(title)) ?? '';
/** The rows of the tables in a text without their headers, as trimmed cells. */
const rows = (text: string) =>
  [...text.matchAll(/^\|(.*)\|$/gm)]
    .map(([, line]) => (line as string).split(/(?<!\\)\|/).map(cell => cell.trim()))
    .filter((cells, i, all) => !/^-+$/.test(cells[0] ?? '') && !/^-+$/.test(all[i + 1]?.[0] ?? ''));
const coded = (text: string) => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code as string);

type Signed = { secret: string; body: Buffer; headers: Record<string, string> };

/** These signatures come from the published library and from the documented formula, not from our code. */
function sign(secret: string, body: Buffer, at = new Date()): Signed {
  return {
    secret,
    body,
    headers: {
      'x-webhook-signature': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
      'webhook-id': 'evt_1',
      'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
      'webhook-signature': new Webhook(secret.replace('whsec_', '')).sign('evt_1', at, body.toString()),
    },
  };
}

const good = sign(
  `whsec_${randomBytes(32).toString('base64')}`,
  Buffer.from('{"event": "test", "name": "Jürgen", "n": 1.10}\n'),
);
const other = sign(`whsec_${randomBytes(32).toString('base64')}`, good.body);
const change = (name: string, value: string): Signed => ({ ...good, headers: { ...good.headers, [name]: value } });
const twice = `v1,${'A'.repeat(43)}= ${good.headers['webhook-signature']}`;
/** What each function must answer: the first form of signature, then the second. */
const cases: [string, Signed, boolean, boolean][] = [
  ['signed', good, true, true],
  ['another secret', { ...good, secret: other.secret }, false, false],
  ['another body', { ...good, body: Buffer.from('{}') }, false, false],
  ['no headers', { ...good, headers: {} }, false, false],
  ['one more digit', change('x-webhook-signature', `${good.headers['x-webhook-signature']}0`), false, true],
  ['no ASCII', change('x-webhook-signature', `sha256=${'é'.repeat(64)}`), false, true],
  ['one of two signatures', change('webhook-signature', twice), true, true],
  ['another id', change('webhook-id', 'evt_2'), true, false],
  ['no time', change('webhook-timestamp', 'soon'), true, false],
  ['an old one', sign(good.secret, good.body, new Date(Date.now() - 310_000)), true, false],
];

const run = (program: string, args: string[], env: Record<string, string> = {}, input?: string) =>
  new Promise<{ status: number; out: string; err: string }>(done => {
    const child = execFile(
      program,
      args,
      { cwd: scratch, env: { PATH: process.env.PATH, ...env } },
      (error, out, err) => done({ status: error ? Number(error.code) : 0, out, err }),
    );
    child.stdin?.end(input ?? '');
  });

t.test('the README’s signature check in Node works', async t => {
  const [code, ...rest] = blocks(section('Verify a signature'), 'js');
  t.strictSame(rest, []);
  writeFileSync(join(scratch, 'verify.mjs'), code as string);
  const { verify, verifyStandard } = await import(pathToFileURL(join(scratch, 'verify.mjs')).href);
  for (const [name, { secret, body, headers }, first, second] of cases) {
    t.equal(verify(secret, body, headers), first, `X-Webhook-Signature: ${name}`);
    t.equal(verifyStandard(secret, body, headers), second, `webhook-signature: ${name}`);
  }
});

t.test('the README’s signature check in Python works', async t => {
  const [code, ...rest] = blocks(section('Verify a signature'), 'python');
  t.strictSame(rest, []);
  writeFileSync(join(scratch, 'verify.py'), code as string);
  const program = `import base64, json, sys, verify
for c in json.load(sys.stdin):
    body = base64.b64decode(c["body"])
    print(json.dumps([f(c["secret"], body, c["headers"]) for f in (verify.verify, verify.verify_standard)]))`;
  const input = JSON.stringify(cases.map(([, signed]) => ({ ...signed, body: signed.body.toString('base64') })));
  const { out, err } = await run('python3', ['-c', program], {}, input);
  t.strictSame(
    out.trim().split('\n'),
    cases.map(([, , first, second]) => JSON.stringify([first, second]).replace(',', ', ')),
    err,
  );
});

t.test('the README’s signature check in the shell works', async t => {
  const [code, ...rest] = blocks(section('Verify a signature'), 'sh');
  t.strictSame(rest, []);
  for (const [name, { secret, body, headers }, first] of cases) {
    writeFileSync(join(scratch, 'body.json'), body);
    const env = { WEBHOOK_SECRET: secret, SIGNATURE: headers['x-webhook-signature'] ?? '' };
    t.match(await run('sh', ['-c', code as string], env), { status: 0, out: first ? 'valid\n' : 'invalid\n' }, name);
  }
});

t.test('the SQL statements of the README and the operations page run in order', async t => {
  const { sql } = await database();
  let statements = 0;
  for (const { path, text } of pages.filter(page => /README|operations/.test(page.path)))
    for (const block of blocks(text, 'sql')) {
      await t.resolves(sql.unsafe(block).simple(), `${path}: ${block.trim().split('\n')[0]}`);
      statements++;
    }
  t.ok(statements > 20);
  const [{ events, queued } = {}] = await sql`
    select (select count(*)::int from collecta.outbox) as events, (select count(*)::int
      from collecta.delivery_queue) as queued`;
  t.strictSame(
    { events, queued },
    { events: 2, queued: 1 },
    'the first webhook: two changes captured, a test event queued',
  );
});

t.test('the payload that the README posts with curl is received', async t => {
  const { sql, url } = await database();
  const [table = ''] = blocks(section('Your first webhook'), 'sql');
  const [code = '', ...rest] = blocks(section('Receive payloads'), 'sh');
  t.strictSame(rest, []);
  await sql.unsafe(table);
  await sql`select collecta.attach_module('work_orders', 'work-orders')`;
  const made = (await sql.unsafe(blocks(section('Receive payloads'), 'sql').join('')).simple()).flat();
  const endpoint = made.find(row => row && 'path' in row) as unknown as { path: string; secret: string };
  const stopping = new AbortController();
  const config = { ...readConfig({ DATABASE_URL: url }), port: 0 };
  let ended: Promise<void> | undefined;
  const port = await new Promise(onListening => {
    ended = receive(config, createLog('error'), stopping.signal, { onListening });
  });
  const env = { URL: `http://127.0.0.1:${port}${endpoint.path}`, SECRET: endpoint.secret };
  const { out, err } = await run('sh', ['-c', code], env);
  const [{ record, n } = {}] =
    await sql`select row(product_code, quantity, work_center)::text as record, count(*) over ()::int as n
      from work_orders`;
  t.strictSame({ record, n }, { record: '(PUMP-9,8.50,assembly-1)', n: 1 });
  t.match(out, /^\{"recordId":"rec_[0-9a-f]{32}"\}$/, err);
  t.equal((await run('sh', ['-c', code], env)).out, out, 'again: the same answer');
  t.equal((await sql`select from work_orders`).length, 1);
  t.match(await run('sh', ['-c', code], { ...env, SECRET: 'another' }), { out: /"status":401/ });
  stopping.abort();
  await ended;
});

t.test('the settings table matches src/config.ts', async t => {
  const expected = Object.entries<{ about: string; default?: string; secret?: true }>(variables).map(
    ([name, { about, default: fallback, secret }]) => [
      `\`${name}\`${secret ? ' (or `…_FILE`)' : ''}`,
      about,
      fallback ? `\`${fallback}\`` : '',
    ],
  );
  t.strictSame(rows(section('Settings')), expected);
});

t.test('the function table lists all callable functions with their arguments', async t => {
  const { sql } = await database();
  const functions = await sql<{ name: string; args: string[]; grantees: string[] }[]>`
    select p.proname as name,
      coalesce((select array_agg(arg order by i) from unnest(p.proargnames) with ordinality a (arg, i)
        where coalesce(p.proargmodes[i], 'i') in ('i', 'b')), '{}') as args,
      array(select grantee::regrole::text from aclexplode(p.proacl) where grantee <> p.proowner order by 1) as grantees
    from pg_proc p
    where p.pronamespace = 'collecta'::regnamespace and p.proname !~
      '^(capture_\\d|(map|write|accept)_inbound_\\d|cast_inbound_\\d)'`;
  const known = new Map(functions.map(each => [each.name, each]));
  const documented = new Set<string>();
  for (const [signatures = '', , who = ''] of rows(section('SQL functions')))
    for (const signature of coded(signatures)) {
      const [, name = '', args] = /^(\w+)(?:\((.*)\))?$/.exec(signature) ?? [];
      documented.add(name);
      if (args === undefined) t.ok(known.has(name), signature);
      else t.strictSame(args.match(/\w+/g) ?? [], known.get(name)?.args, signature);
      const grantees = known.get(name)?.grantees.filter(role => !/_(writer|viewer)$/.test(role));
      t.strictSame(coded(who), grantees, `${name}: who may`);
    }
  // Every function that some role may call is documented, and so is every function named like a file at the top of a
  // topic (see folders.test.ts).
  t.strictSame(
    functions
      .filter(each => !documented.has(each.name) && each.grantees.some(role => !/capture|writer|viewer/.test(role)))
      .map(each => each.name),
    [],
  );
});

t.test('the table of errors matches the sources in sql/', async t => {
  const raised = new Set<string>();
  const files = (readdirSync('sql', { recursive: true }) as string[]).filter(
    file => file.endsWith('.sql') && !file.startsWith('committed/'),
  );
  for (const file of files)
    for (const [, code] of readFileSync(join('sql', file), 'utf8').matchAll(/errcode = '+(CW\d{3})/g))
      raised.add(code as string);
  t.strictSame(
    rows(section('Errors')).map(([code]) => code),
    [...raised].sort().map(code => `\`${code}\``),
  );
});

t.test('the operations page explains every problem that collecta.health can show', async t => {
  const checks = (readdirSync('sql/fixtures', { recursive: true }) as string[])
    .filter(name => /(^|\/)(check_[a-z]+|health)\.sql$/.test(name))
    .map(name => readFileSync(join('sql/fixtures', name), 'utf8'));
  const shown = [...checks.join('\n').matchAll(/'(error|warning|info)', '([a-z ]+)'/g)];
  t.ok(shown.length > 10);
  const [, text = ''] = readFileSync('docs/operations.md', 'utf8').split(/^## /m);
  t.strictSame(
    rows(text)
      .filter(cells => /^(error|warning|info)$/.test(cells[0] ?? ''))
      .map(([severity, problem]) => `${severity} ${problem}`)
      .sort(),
    [...new Set(shown.map(([, severity, problem]) => `${severity} ${problem}`))].sort(),
  );
});

t.test('relations, functions, settings, commands, variables and files named in the pages exist', async t => {
  const { sql } = await database();
  const names = await sql<{ name: string }[]>`
    select relname as name from pg_class where relnamespace = 'collecta'::regnamespace
    union select proname from pg_proc where pronamespace = 'collecta'::regnamespace`;
  const known = new Set([...names.map(each => each.name), 'context', 'muted', 'notify', 'traceparent']);
  const commands = new Set(
    [...readFileSync('src/cli.ts', 'utf8').matchAll(/^ {2}'?([a-z-]+)'?: \w+Command,$/gm)].map(([, name]) => name),
  );
  const scripts = Object.keys(JSON.parse(readFileSync('package.json', 'utf8')).scripts);
  // These variables make a test run longer; CONTRIBUTING.md lists them.
  const ofTests = new Set(
    (readdirSync('test', { recursive: true }) as string[])
      .filter(name => name.endsWith('.ts'))
      .flatMap(name => [...readFileSync(join('test', name), 'utf8').matchAll(/process\.env\.(TEST_\w+)/g)])
      .map(([, name]) => name),
  );
  for (const { path, text } of pages) {
    const unknown = [
      ...[...text.matchAll(/\bcollecta\.([a-z_]+)\b(?!\.)/g)].filter(([, name]) => !known.has(name as string)),
      ...[...text.matchAll(/\b(?:COLLECTA|DATABASE)_[A-Z_]*[A-Z]\b/g)].filter(
        ([name]) => !Object.hasOwn(variables, name.replace(/_FILE$/, '')) && !ofTests.has(name),
      ),
      ...[...text.matchAll(/(?:`|npx |\$ )collecta-webhooks ([a-z][a-z-]*)/g)].filter(
        ([, name]) => !commands.has(name),
      ),
      ...[...text.matchAll(/npm run (?:-\w+ )?([a-z:]+)/g)].filter(([, name]) => !scripts.includes(name as string)),
      ...[...text.matchAll(/\]\((?!https?:)([^)#]+)(#[^)]*)?\)/g)].filter(
        ([, file]) => !existsSync(join(dirname(path), file as string)),
      ),
    ].map(([found]) => found);
    t.strictSame(unknown, [], path);
  }
  const anchors = [...readme.matchAll(/\]\((docs\/[^)#]+)#([^)]+)\)/g)];
  for (const [, file, anchor] of anchors) {
    const titles = [...readFileSync(file as string, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
      (title as string)
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    );
    t.ok(titles.includes(anchor as string), `${file}#${anchor}`);
  }
});
