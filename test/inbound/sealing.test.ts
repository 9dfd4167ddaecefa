import { createHmac, randomBytes } from 'node:crypto';
import t from 'tap';
import { readConfig } from '../../src/config.ts';
import { doctor } from '../../src/operations/doctor.ts';
import { createKeyring } from '../../src/secrets/keyring.ts';
import { rotateSecret, seal } from '../../src/secrets/seal.ts';
import { useServer } from '../support/database.ts';
import { closeAgent, makeEndpoint, makeModule, post, startReceiving } from '../support/inbound.ts';

// The secrets of senders are sealed and rotated like those of outbound endpoints.
const { database } = await useServer();
t.teardown(closeAgent);

const newKey = () => randomBytes(32).toString('base64');
const keyId = (key: string) => createKeyring(key).sealsBy!;
const quiet = () => {};

let made = 0;
/** A request as the sender would make it, different each time. */
const senders = {
  github: (secret: string) => {
    const body = JSON.stringify({ payload: { sku: 'A', qty: ++made } });
    const mac = createHmac('sha256', secret).update(body).digest('hex');
    return { body, headers: { 'x-hub-signature-256': `sha256=${mac}`, 'x-github-delivery': `d-${made}` } };
  },
  stripe: (secret: string) => {
    const body = JSON.stringify({ id: `evt_${++made}`, payload: { sku: 'A', qty: 1 } });
    const time = Math.floor(Date.now() / 1000);
    const mac = createHmac('sha256', secret).update(`${time}.${body}`).digest('hex');
    return { body, headers: { 'stripe-signature': `t=${time},v1=${mac}` } };
  },
  gitlab: (secret: string) => ({
    body: JSON.stringify({ payload: { sku: 'A', qty: ++made } }),
    headers: { 'x-gitlab-token': secret, 'idempotency-key': `k-${made}` },
  }),
};

for (const [sender, request] of Object.entries(senders))
  t.test(`${sender}: the secret is sealed, rotated, and resealed with another key`, async t => {
    const db = await database();
    const { sql, url: databaseUrl } = db;
    await makeModule(sql);
    // Stripe's secrets look like those of Standard Webhooks but are not base64; GitLab's are sent in a header.
    const first = sender === 'gitlab' ? 'first of the sender' : 'whsec_first of the sender';
    const [second, third] = ['second of the sender', 'third of the sender'];
    const { id, path } = await makeEndpoint(sql, undefined, { sender, secret: first });
    const key = newKey();
    const receivers: Awaited<ReturnType<typeof startReceiving>>[] = [];
    const open = async (secretKey: string | undefined) => {
      const receiving = await startReceiving(db, { secretKey });
      receivers.push(receiving);
      return receiving;
    };
    const answers = async (port: number, secret: string) => {
      const { body, headers } = request(secret);
      return (await post(port, path, body, headers)).status;
    };
    const stored = async () => {
      const [row] = await sql`select * from collecta.inbound_secrets where inbound_endpoint_id = ${id}`;
      return row as unknown as { secret: string; previous_secret: string | null };
    };

    t.equal(await seal({ databaseUrl, secretKey: key }, quiet, quiet), 0);
    const atRest = await stored();
    t.match(atRest.secret, new RegExp(`^sealed:v1:${keyId(key)}:`), 'sealed at rest');
    t.equal(createKeyring(key).open(atRest.secret, id), first);
    t.notOk(JSON.stringify([...(await sql`select * from collecta.inbound_endpoints`)]).includes('of the sender'));
    const { port } = await open(key);
    t.equal(await answers(port, first), 202, 'sealed, it opens');
    t.equal(await answers(port, second), 401);

    // A secret that the sender generated is given to us, and the database holds it sealed.
    t.equal(await rotateSecret({ databaseUrl, secretKey: key }, id, '1 hour', second), second);
    const rotated = await stored();
    t.equal(createKeyring(key).open(rotated.secret, id), second);
    t.equal(createKeyring(key).open(rotated.previous_secret!, id), first);
    const until = async (secret: string, status: number) => {
      // The notification arrives asynchronously; a few tries are enough.
      for (let tries = 0; tries < 100; tries++) {
        if ((await answers(port, secret)) === status) return true;
        await new Promise(done => setTimeout(done, 50));
      }
      return false;
    };
    t.ok(await until(second, 202), 'the new one is taken');
    t.equal(await answers(port, first), 202, 'and the old one, in the overlap');

    await sql`update collecta.inbound_secrets set previous_secret_until = now() - interval '1 s'`;
    await sql`select pg_notify('collecta_inbound', '')`;
    t.ok(await until(first, 401), 'the overlap is over');
    t.equal(await answers(port, second), 202);
    const one = await sql`select collecta.sealing_keys() as keys`;
    t.strictSame([...one[0]!.keys], [keyId(key)], 'what has expired needs no key');

    // Without a key, the next secret is stored plain. The seal command then seals it and the previous one with a new
    // key.
    t.equal(await rotateSecret({ databaseUrl, secretKey: undefined }, id, '1 hour', third), third);
    t.equal((await stored()).secret, third);
    const newer = newKey();
    t.equal(await seal({ databaseUrl, secretKey: `${newer},${key}` }, quiet, quiet), 0);
    const resealed = await stored();
    for (const value of [resealed.secret, resealed.previous_secret])
      t.match(value, new RegExp(`^sealed:v1:${keyId(newer)}:`));
    const withNewer = await open(newer);
    t.equal(await answers(withNewer.port, third), 202);
    t.equal(await answers(withNewer.port, second), 202);

    // A process that cannot open the secret accepts nothing unverified and says why; doctor reports it beforehand.
    const locked = await open(key);
    t.equal(await answers(locked.port, third), 503);
    t.match(
      locked.lines.map(line => JSON.parse(line)).find(({ event }) => event === 'inbound cannot open a secret'),
      { level: 'error', inbound_endpoint_id: id },
    );
    const lines: string[] = [];
    const config = (secretKey: string) => readConfig({ DATABASE_URL: databaseUrl, COLLECTA_SECRET_KEY: secretKey });
    t.equal(await doctor(config(key), line => lines.push(line)), 1);
    t.match(lines.join('\n'), new RegExp(`FAIL {2}the key of sealed secrets is missing: ${keyId(newer)}`));
    lines.length = 0;
    await doctor(config(newer), line => lines.push(line));
    t.notMatch(lines.join('\n'), /key of sealed secrets/);
    for (const { lines: log } of receivers)
      for (const secret of [first, second, third]) t.notOk(log.join('').includes(secret), 'no secret in the log');
    await Promise.all(receivers.map(each => each.stop()));
  });
