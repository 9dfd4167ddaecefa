import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { createKeyring, headersOf, MissingKey } from '../../src/secrets/keyring.ts';
import { useServer } from '../support/database.ts';
import { makeModule, post, sign } from '../support/inbound.ts';
import { createEndpoint, type LogLine, runtimes, startReceiver, startRunner, until } from '../support/runner.ts';

const { database } = await useServer(['-c', 'track_activity_query_size=65536']);
const receiver = await startReceiver();
const root = fileURLToPath(new URL('../..', import.meta.url));
const newKey = () => randomBytes(32).toString('base64');
const keyId = (key: string) => createKeyring(key).sealsBy!;

const { NODE_OPTIONS: _, ...inherited } = process.env;
type Result = { status: number; stdout: string; stderr: string };

/** Runs the command line from src/, as on Deno, through tsx. */
async function cli(args: string[], env: Record<string, string>): Promise<Result> {
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--import', 'tsx', 'src/cli.ts', ...args], {
      cwd: root,
      env: { ...inherited, ...env },
    });
    return { status: 0, stdout, stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { status: code, stdout, stderr };
  }
}

t.test('a sealed secret can be opened only for its endpoint and with its key', async t => {
  const [first, second] = [newKey(), newKey()];
  const ring = createKeyring(first);
  for (const secret of ['x', 'whsec_c2VjcmV0', 'ü 日本 🎉', 'y'.repeat(512)]) {
    const sealed = ring.seal(secret, 'ep_1');
    t.match(sealed, new RegExp(`^sealed:v1:${keyId(first)}:[A-Za-z0-9+/]+={0,2}$`));
    if (secret.length > 1) t.notMatch(sealed, secret);
    t.not(ring.seal(secret, 'ep_1'), sealed, 'another nonce each time');
    t.equal(ring.open(sealed, 'ep_1'), secret);
    t.equal(createKeyring(`${second}, ${first}`).open(sealed, 'ep_1'), secret, 'any key of the ring opens');
    t.throws(() => ring.open(sealed, 'ep_2'), /damaged, or sealed for another endpoint/);
    t.throws(() => ring.open(sealed, headersOf('ep_1')), /damaged/, 'headers cannot be passed off as a secret');
    t.throws(() => createKeyring(second).open(sealed, 'ep_1'), MissingKey);
    t.throws(() => createKeyring(undefined).open(sealed, 'ep_1'), new MissingKey(keyId(first)));
    const bytes = Buffer.from(sealed.split(':')[3]!, 'base64');
    for (let i = 0; i < bytes.length; i++) {
      const damaged = Buffer.from(bytes);
      damaged[i]! ^= 1;
      t.throws(
        () => ring.open(`sealed:v1:${keyId(first)}:${damaged.toString('base64')}`, 'ep_1'),
        /damaged/,
        `byte ${i}`,
      );
    }
    for (let length = 0; length < bytes.length; length += 7)
      t.throws(() => ring.open(`sealed:v1:${keyId(first)}:${bytes.subarray(0, length).toString('base64')}`, 'ep_1'));
  }
  t.equal(createKeyring(undefined).seal('x', 'ep_1'), 'x', 'without a key it stays plain');
  t.equal(ring.open('plain', 'ep_1'), 'plain');
  for (const bad of ['sealed:', 'sealed:v2:00000000:AAAA', `sealed:v1:${keyId(first)}:`])
    t.throws(() => ring.open(bad, 'ep_1'), /malformed/);
  for (const bad of ['', 'x', `${first},`, newKey().slice(1), randomBytes(16).toString('base64')])
    t.throws(() => createKeyring(bad), { message: 'a sealing key is 32 bytes in base64' });
});

t.test('SQL accepts a sealed secret only in its exact format', async t => {
  const { sql } = await database();
  const create = (secret: string) =>
    sql`select * from collecta.create_endpoint('https://example.com/', '{record_created}', secret => ${secret})`;
  await create(createKeyring(newKey()).seal('x', 'ep_1'));
  const [made] = await create('plain');
  for (const secret of [
    'sealed:',
    'sealed:v1:00000000:',
    'sealed:v1:xyz:AAAA',
    'sealed:plain',
    `sealed:v1:00000000:${'A'.repeat(37)}`,
  ]) {
    await t.rejects(create(secret), { code: 'CW014' });
    await t.rejects(sql`select collecta.rotate_secret(${made!.endpoint_id}, secret => ${secret})`, { code: 'CW014' });
  }
});

for (const runtime of runtimes)
  t.test(`a secret is sealed from the start, rotated and resealed, on ${runtime}`, async t => {
    const { url, sql } = await database();
    await sql.unsafe(`create table orders (id int primary key); select collecta.attach_module('orders', 'orders')`);
    const [oldKey, nextKey] = [newKey(), newKey()];
    const path = `/sealed-${runtime}`;
    const headersFile = join(t.testdir({}), 'headers.json');
    writeFileSync(headersFile, JSON.stringify({ Authorization: 'Bearer hush', 'X-Tenant': 'seven' }));
    const env = { DATABASE_URL: url, COLLECTA_SECRET_KEY: oldKey };
    const arguments_ = ['create-endpoint', receiver.origin + path, '--events', 'record_created', '--name', 'erp'];
    const made = await cli([...arguments_, '--headers-file', headersFile], env);
    t.match(made, { status: 0, stderr: '' });
    const [, id, secret] = /^endpoint_id (ep_\w+)\nsecret (whsec_\S+)\n$/.exec(made.stdout) as unknown as [
      string,
      string,
      string,
    ];
    const [stored] =
      await sql`select secret, headers #>> '{}' as headers from collecta.endpoint_secrets where endpoint_id = ${id}`;
    t.equal(createKeyring(oldKey).open(stored!.secret, id), secret);
    t.strictSame(JSON.parse(createKeyring(oldKey).open(stored!.headers, headersOf(id))), {
      Authorization: 'Bearer hush',
      'X-Tenant': 'seven',
    });
    t.strictSame((await sql`select headers from collecta.endpoints`)[0]?.headers, {
      Authorization: '***',
      'X-Tenant': 'seven',
    });

    await receiver.script(path, [200], [secret]);
    const runner = await startRunner(url, { runtime, env: { COLLECTA_SECRET_KEY: `${nextKey},${oldKey}` } });
    await sql`insert into orders values (1)`;
    const verified = { hex: true, standard: true, package: true };
    const received = async (count: number) => {
      await until('it is received', () => receiver.to(path).length === count);
      return receiver.to(path)[count - 1]!;
    };
    t.match(await received(1), {
      verified: [verified],
      headers: { authorization: 'Bearer hush', 'x-tenant': 'seven' },
    });

    const again = await cli([...arguments_, '--headers-file', headersFile], env);
    t.strictSame([again.status, again.stdout], [0, `endpoint_id ${id}\n`], 'the name keeps id and secret');
    const rotated = await cli(['rotate-secret', id, '--overlap', '1 hour'], env);
    t.match(rotated, { status: 0, stdout: /^whsec_\S+\n$/, stderr: '' });
    const fresh = rotated.stdout.trim();
    await receiver.script(path, [200], [secret, fresh]);
    await sql`insert into orders values (2)`;
    t.match((await received(2)).verified, [verified, { hex: false, standard: true, package: true }]);

    const resealed = await cli(['seal'], { DATABASE_URL: url, COLLECTA_SECRET_KEY: `${nextKey},${oldKey}` });
    t.match(resealed, {
      status: 0,
      stderr: '',
      stdout: new RegExp(`endpoint_secrets: 1 of 1 sealed by key ${keyId(nextKey)}`),
    });
    t.strictSame((await sql`select collecta.sealing_keys() as keys`)[0]?.keys, [keyId(nextKey)]);
    await sql`insert into orders values (3)`;
    t.match((await received(3)).verified, [verified, { hex: false, standard: true, package: true }]);
    t.match(await cli(['seal'], { DATABASE_URL: url, COLLECTA_SECRET_KEY: nextKey }), {
      status: 0,
      stdout: /: 0 of 1 sealed/,
    });
    const leaked = await cli(['rotate-secret', id, '--overlap', '0'], {
      DATABASE_URL: url,
      COLLECTA_SECRET_KEY: nextKey,
    });
    await receiver.script(path, [200], [leaked.stdout.trim(), secret, fresh]);
    await sql`insert into orders values (4)`;
    const none = { hex: false, standard: false, package: false };
    t.match((await received(4)).verified, [verified, none, none], 'after a leak the old ones sign nothing');
    t.match(await runner.stop(), { status: 0 });

    const everything = `${runner.output()}${await dump(sql)}`;
    for (const each of [secret, fresh, leaked.stdout.trim(), 'hush', oldKey, nextKey]) t.notMatch(everything, each);
  });

/**
 * Every row of every table and view of the schema, the generated functions, and the statements of the sessions, as
 * text.
 */
async function dump(sql: Awaited<ReturnType<typeof database>>['sql'], but: string[] = []): Promise<string> {
  const relations = await sql`
    select oid::regclass::text as name from pg_class
    where relnamespace = 'collecta'::regnamespace and relkind in ('r', 'p', 'v') and relname <> all (${but})`;
  const parts = [JSON.stringify(await sql`select prosrc from pg_proc where pronamespace = 'collecta'::regnamespace`)];
  for (const { name } of relations) parts.push(JSON.stringify(await sql.unsafe(`select * from ${name}`)));
  parts.push(
    JSON.stringify(await sql`select query from pg_stat_activity`),
    JSON.stringify(await sql`select * from pg_stats where schemaname = 'collecta'`),
  );
  return parts.join('\n');
}

t.test('the seal command seals plain secrets of both directions and reports what it cannot open', async t => {
  const { url, sql } = await database();
  await makeModule(sql);
  const key = newKey();
  const plain = await createEndpoint(sql, receiver, '/plain', { headers: { 'x-api-key': 'hush' } });
  await createEndpoint(sql, receiver, '/bare');
  const [inbound] = await sql`
    select * from collecta.create_inbound_endpoint('work-orders', '{"$.sku": "product_code"}',
      require_signature => true)`;
  await sql`select collecta.create_inbound_endpoint('work-orders', '{"$.sku": "product_code"}')`;
  await sql`select collecta.rotate_secret(${plain.id}, '1 hour')`;
  t.match(await cli(['seal'], { DATABASE_URL: url }), { status: 2, stderr: /COLLECTA_SECRET_KEY/ });
  t.match(await cli(['seal'], { DATABASE_URL: url, COLLECTA_SECRET_KEY: 'sekret' }), {
    status: 2,
    stderr: /^COLLECTA_SECRET_KEY must be(?!.*sekret)/s,
  });
  const sealed = await cli(['seal'], { DATABASE_URL: url, COLLECTA_SECRET_KEY: key });
  t.match(sealed, { status: 0, stdout: /endpoint_secrets: 2 of 2.*\n.*inbound_secrets: 1 of 2/, stderr: '' });
  const ring = createKeyring(key);
  const [row] = await sql`select *, headers #>> '{}' as sealed_headers from collecta.endpoint_secrets
      where endpoint_id = ${plain.id}`;
  t.equal(ring.open(row!.previous_secret, plain.id), plain.secret);
  t.equal(ring.open(row!.sealed_headers, headersOf(plain.id)), '{"x-api-key": "hush"}');
  const [received] =
    await sql`select secret from collecta.inbound_secrets where inbound_endpoint_id = ${inbound!.inbound_endpoint_id}`;
  t.equal(ring.open(received!.secret, inbound!.inbound_endpoint_id), inbound!.secret);
  const files = await sql`
    select pg_read_binary_file(pg_relation_filepath(c.oid)) as bytes from pg_class c
    where c.oid in ('collecta.endpoint_secrets'::regclass, 'collecta.inbound_secrets'::regclass)`;
  for (const { bytes } of files)
    for (const secret of [plain.secret, inbound!.secret, 'hush'])
      t.notOk((bytes as Buffer).includes(secret), 'no plain copy in the file');

  const rotated = await cli(['rotate-secret', inbound!.inbound_endpoint_id], {
    DATABASE_URL: url,
    COLLECTA_SECRET_KEY: key,
  });
  t.match(rotated, { status: 0, stdout: /^whsec_/ });
  t.match(await cli(['rotate-secret', 'ep_none'], { DATABASE_URL: url, COLLECTA_SECRET_KEY: key }), {
    status: 1,
    stderr: /no endpoint/,
  });
  const other = await cli(['seal'], { DATABASE_URL: url, COLLECTA_SECRET_KEY: newKey() });
  t.match(other, { status: 1, stderr: new RegExp(`${plain.id}: .*${keyId(key)}`) });
  t.equal(
    ring.open(
      (await sql`select secret from collecta.endpoint_secrets where endpoint_id = ${plain.id}`)[0]!.secret,
      plain.id,
    ).length,
    50,
  );
});

for (const runtime of runtimes)
  t.test(`without the key, or with another key, deliveries wait and do not fail, on ${runtime}`, async t => {
    const { url, sql } = await database();
    await sql.unsafe(`create table orders (id int primary key); select collecta.attach_module('orders', 'orders')`);
    const key = newKey();
    const env = { DATABASE_URL: url, COLLECTA_SECRET_KEY: key };
    const path = `/locked-${runtime}`;
    const made = await cli(['create-endpoint', receiver.origin + path, '--events', 'record_created'], env);
    const id = /^endpoint_id (\S+)/.exec(made.stdout)![1]!;
    await sql`insert into orders values (1)`;
    for (const wrong of [{}, { COLLECTA_SECRET_KEY: newKey() }]) {
      const runner = await startRunner(url, { runtime, env: wrong as Record<string, string> });
      t.match(await runner.logged('nothing is delivered: the key of sealed secrets is missing'), {
        level: 'error',
        key_ids: keyId(key),
        hint: /COLLECTA_SECRET_KEY/,
      });
      t.notOk(runner.log.some(({ event }: LogLine) => event === 'dispatching'));
      t.match(await runner.stop(), { status: 0 });
    }
    t.equal((await sql`select count(*)::int as n from collecta.outbox`)[0]!.n, 1, 'it waits');

    // The plain secret of another endpoint is replaced by one sealed with an unknown key while the runner runs.
    const plain = await createEndpoint(sql, receiver, `${path}-plain`);
    const runner = await startRunner(url, { runtime, env: { COLLECTA_SECRET_KEY: key } });
    await until('what waited is received', () => receiver.to(path).length === 1);
    const otherKey = newKey();
    await sql`select collecta.rotate_secret(${plain.id}, '0', ${createKeyring(otherKey).seal('whsec_AAAA', plain.id)})`;
    await sql`insert into orders values (2)`;
    t.match(await runner.logged('nothing is delivered: the key of sealed secrets is missing'), {
      key_ids: keyId(otherKey),
    });
    await until('it was given back', async () => {
      const [row] =
        await sql`select attempt, leased_until from collecta.delivery_queue where endpoint_id = ${plain.id}`;
      return row && row.attempt === 0 && row.leased_until === null;
    });
    await sql`select collecta.rotate_secret(${plain.id}, '0', 'mended')`;
    await until('the runner goes on by itself', () => receiver.to(`${path}-plain`).length === 1);

    // A sealed secret is copied to another endpoint by somebody who can write the table: nothing is signed with it, and
    // the history says why.
    await sql`update collecta.endpoint_secrets set secret = (select secret from collecta.endpoint_secrets
      where endpoint_id = ${id}) where endpoint_id = ${plain.id}`;
    await sql`insert into orders values (3)`;
    const [attempt] = await until('it is recorded', async () => {
      const rows = await sql`select outcome, error from collecta.webhook_deliveries
        where endpoint_id = ${plain.id} and outcome = 'failed'`;
      return rows.length > 0 && rows;
    });
    t.match(attempt, { outcome: 'failed', error: /sealed for another endpoint/ });
    t.equal(receiver.to(`${path}-plain`).length, 1, 'nothing was sent');
    await until('the other endpoint is served', () => receiver.to(path).length === 3);
    t.strictSame(
      [...(await sql`select distinct outcome from collecta.webhook_deliveries where endpoint_id = ${id}`)],
      [{ outcome: 'delivered' }],
    );
    await runner.stop();
  });

for (const runtime of runtimes)
  t.test(`deliveries in both directions leave no secret anywhere, on ${runtime}`, async t => {
    const { url, sql } = await database();
    await makeModule(sql);
    const key = newKey();
    const path = `/full-${runtime}`;
    const heard: string[] = [];
    for (const channel of ['collecta_wake', 'collecta_inbound'])
      await sql.listen(channel, payload => heard.push(payload));
    const outbound = await createEndpoint(sql, receiver, path, {
      headers: {
        Authorization: 'Bearer hush-1',
        'X-Api-Key': 'hush-2',
        'x-other': 'Basic hush-3',
        'x-tenant': 'seven',
      },
      answers: [{ status: 500, headers: { 'set-cookie': 'hush-4' }, body: 'no' }, 200],
      retry_base: '0.1 s',
    });
    const [inbound] = await sql`
      select * from collecta.create_inbound_endpoint('work-orders', '{"$.sku": "product_code"}', '{product_code}',
        require_signature => true)`;
    const [fixed] = await sql`
      select * from collecta.create_inbound_endpoint('work-orders', '{"$.sku": "product_code", "$.n": "quantity"}',
        secret => 'typed-by-hand')`;
    const runner = await startRunner(url, {
      runtime,
      command: 'run',
      env: { COLLECTA_PORT: '0', COLLECTA_SECRET_KEY: key, COLLECTA_SECRET: 'hush-5' },
    });
    const { port } = (await runner.logged('inbound listens')) as unknown as { port: number };
    const first = await post(port, inbound!.path, '{"sku": "A"}', {
      'x-webhook-signature': sign(inbound!.secret, '{"sku": "A"}'),
    });
    t.equal(first.status, 202);
    t.equal(
      (await post(port, inbound!.path, '{"sku": "A"}', { 'x-webhook-signature': sign('wrong', '{"sku": "A"}') }))
        .status,
      401,
    );
    t.equal(
      (
        await post(
          port,
          inbound!.path.replace(/.$/, (digit: string) => (digit === '0' ? '1' : '0')),
          '{}',
        )
      ).status,
      404,
    );
    t.equal(
      (
        await post(port, fixed!.path, '{"sku": "B", "n": "x"}', {
          'x-webhook-signature': sign('typed-by-hand', '{"sku": "B", "n": "x"}'),
        })
      ).status,
      422,
    );
    t.match(await cli(['seal'], { DATABASE_URL: url, COLLECTA_SECRET_KEY: key }), { status: 0 });
    const second = await post(port, inbound!.path, '{"sku": "C"}', {
      'x-webhook-signature': sign(inbound!.secret, '{"sku": "C"}'),
    });
    t.equal(second.status, 202, 'sealed, it opens');
    await until('all is delivered', () => receiver.to(path).length === 3);
    for (const request of receiver.to(path))
      t.match(request, {
        headers: { authorization: 'Bearer hush-1', 'x-other': 'Basic hush-3' },
        verified: [{ hex: true }],
      });
    await until('all is recorded', async () => (await sql`select from collecta.delivery_queue`).length === 0);
    const [attempt] =
      await sql`select request_headers, response_headers from collecta.webhook_deliveries where outcome = 'failed'`;
    t.match(attempt, {
      request_headers: { authorization: '***', 'x-api-key': '***', 'x-other': '***', 'x-tenant': 'seven' },
      response_headers: { 'set-cookie': '***' },
    });
    await sql`update collecta.inbound_requests set state = 'failed'`;
    await sql`select collecta.retry_inbound(${inbound!.inbound_endpoint_id})`;
    const locked = await startRunner(url, { runtime, command: 'receive', env: { COLLECTA_PORT: '0' } });
    const other = ((await locked.logged('inbound listens')) as unknown as { port: number }).port;
    const refused = await post(other, inbound!.path, '{"sku": "D"}', {
      'x-webhook-signature': sign(inbound!.secret, '{"sku": "D"}'),
    });
    t.equal(refused.status, 503, 'without the key nothing is taken unverified');
    t.match(await locked.logged('inbound cannot open a secret'), { inbound_endpoint_id: inbound!.inbound_endpoint_id });
    await Promise.all([runner.stop(), locked.stop()]);

    const token = (from: { path: string }) => from.path.split('/').at(-1)!;
    const secrets = [
      outbound.secret,
      inbound!.secret,
      'typed-by-hand',
      token(inbound as never),
      token(fixed as never),
      'hush',
      key,
    ];
    const everything = {
      logs: runner.output() + locked.output(),
      notifications: heard.join('\n'),
      database: await dump(sql),
      refused: refused.text,
    };
    t.ok(everything.database.includes(outbound.id) && everything.logs.includes('inbound listens'), 'it does look');
    for (const [where, text] of Object.entries(everything))
      for (const secret of secrets) t.notOk(text.includes(secret), `${where} hold no ${secret.slice(0, 9)}…`);
    t.strictSame(
      heard.filter(payload => !['', 'retry'].includes(payload)),
      [],
    );
    t.notOk(`${runner.output()}${locked.output()}`.includes('"sku"'), 'no body in the logs');
  });
