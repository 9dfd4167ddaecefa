import { createHmac } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import t from 'tap';
import { parseSecret, signatureHeaders, verifySignature } from '../../src/secrets/sign.ts';

const generated = `whsec_${Buffer.from('0123456789abcdef01234567').toString('base64')}`;
const now = () => Math.floor(Date.now() / 1000);
const hex = (secret: string, body: string | Uint8Array) =>
  signatureHeaders([parseSecret(secret)], 'id', 1, body)['x-webhook-signature'];

// The cases of RFC 4231 whose key is text that a secret can hold (case 2), or a run of one byte below 0x80 (case 1).
t.test('the vectors of RFC 4231 verify', async t => {
  t.equal(
    hex('Jefe', 'what do ya want for nothing?'),
    'sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  );
  t.equal(
    hex('\x0b'.repeat(20), 'Hi There'),
    'sha256=b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
  );
  const binary: [string, string, string][] = [
    ['aa'.repeat(20), 'dd'.repeat(50), '773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe'],
    [
      '0102030405060708090a0b0c0d0e0f10111213141516171819',
      'cd'.repeat(50),
      '82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b',
    ],
    [
      'aa'.repeat(131),
      Buffer.from('Test Using Larger Than Block-Size Key - Hash Key First').toString('hex'),
      '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
    ],
  ];
  for (const [keyHex, dataHex, expected] of binary) {
    // A binary key can only be given as base64, which signs `id.timestamp.body`. For no vector does the data have the
    // form "id.1." + rest, so the key is checked against RFC 4231 through node:crypto, and our signature against that
    // key.
    const key = Buffer.from(keyHex, 'hex');
    const data = Buffer.from(dataHex, 'hex');
    t.equal(createHmac('sha256', key).update(data).digest('hex'), expected);
    const ours = signatureHeaders([parseSecret(`whsec_${key.toString('base64')}`)], 'id', 1, data)['webhook-signature'];
    const signed = Buffer.concat([Buffer.from('id.1.'), data]);
    t.equal(ours, `v1,${createHmac('sha256', key).update(signed).digest('base64')}`);
  }
});

t.test("GitHub's documented example gives the documented signature", async t => {
  const expected = 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17';
  const keys = [parseSecret("It's a Secret to Everybody")];
  t.equal(hex("It's a Secret to Everybody", 'Hello, World!'), expected);
  for (const name of ['x-hub-signature-256', 'x-webhook-signature'])
    t.same(verifySignature(keys, { [name]: expected }, Buffer.from('Hello, World!')), { ok: true, reason: null });
});

t.test('the standardwebhooks package accepts our signatures and we accept its', async t => {
  for (const body of ['{"event":"record_created","n":1.10}', '{"name":"Zoë 🚀"}']) {
    const ours = signatureHeaders([parseSecret(generated)], 'evt_1', now(), body);
    t.same(new Webhook(generated).verify(body, ours), JSON.parse(body));
    const theirs = {
      'webhook-id': 'evt_2',
      'webhook-timestamp': String(now()),
      'webhook-signature': new Webhook(generated).sign('evt_2', new Date(now() * 1000), body),
    };
    t.ok(verifySignature([parseSecret(generated)], theirs, Buffer.from(body)).ok);
    t.throws(() => new Webhook(generated).verify(`${body} `, ours));
    t.notOk(verifySignature([parseSecret(generated)], theirs, `${body} `).ok, 'raw bytes, not the parsed value');
  }
});

t.test('one header signs with the whole secret string, the other with its decoded base64', async t => {
  const body = '{}';
  const headers = signatureHeaders([parseSecret(generated)], 'evt_1', 1, body);
  t.equal(headers['x-webhook-signature'], `sha256=${createHmac('sha256', generated).update(body).digest('hex')}`);
  const decoded = Buffer.from(generated.slice(6), 'base64');
  t.equal(headers['webhook-signature'], `v1,${createHmac('sha256', decoded).update('evt_1.1.{}').digest('base64')}`);
  t.equal(
    signatureHeaders([parseSecret('plain ü')], 'evt_1', 1, body)['webhook-signature'],
    `v1,${createHmac('sha256', 'plain ü').update('evt_1.1.{}').digest('base64')}`,
  );
  t.same(Object.keys(headers).sort(), ['webhook-id', 'webhook-signature', 'webhook-timestamp', 'x-webhook-signature']);
  t.same(signatureHeaders([parseSecret(generated)], 'evt_1', 1, Buffer.from(body)), headers, 'text or bytes');
  for (const bad of ['', 'whsec_', 'whsec_%%%', 'whsec_abcde', 'whsec_ab=c', 'whsec_YWJj\n', 'whsec_YW-_'])
    t.throws(() => parseSecret(bad), JSON.stringify(bad));
  try {
    parseSecret('whsec_not base64!');
  } catch (error) {
    t.notMatch(String(error), /not base64!/, 'the refusal does not quote the secret');
  }
});

t.test('in a rotation either secret verifies, and x-webhook-signature uses the old one', async t => {
  const [old, next] = [parseSecret('old secret'), parseSecret(generated)];
  const headers = signatureHeaders([old, next], 'evt_1', now(), '{}');
  t.equal(headers['webhook-signature']!.split(' ').length, 2);
  t.equal(headers['x-webhook-signature'], hex('old secret', '{}'));
  for (const keys of [[old], [next], [next, old]]) t.ok(verifySignature(keys, headers, '{}').ok);
  t.notOk(verifySignature([parseSecret('third')], headers, '{}').ok);
  t.doesNotThrow(() => new Webhook(generated).verify('{}', headers));
});

t.test('a failed verification returns a reason instead of throwing', async t => {
  const keys = [parseSecret('key')];
  const good = hex('key', '{}')!.slice(7);
  const refused = (headers: Record<string, string | string[]>, body = '{}', at = now()) => {
    const answer = verifySignature(keys, headers, body, at);
    t.notOk(answer.ok, JSON.stringify(headers));
    t.ok(answer.reason);
  };
  t.ok(verifySignature(keys, { 'x-webhook-signature': `sha256=${good}` }, '{}').ok);
  refused({});
  for (const value of [
    '',
    good,
    `sha256=${good}zz`,
    `sha256=${good.slice(1)}`,
    `sha256=${good} `,
    ` sha256=${good}`,
    `sha256=${good}\n`,
    `sha256=${good.toUpperCase()}`,
    `SHA256=${good}`,
    `sha1=${good}`,
    `sha256=${Buffer.from(good, 'hex').toString('base64')}`,
    `sha256=${good}, sha256=${good}`,
    `sha256=${'0'.repeat(64)}`,
    hex('another', '{}')!,
  ])
    for (const name of ['x-webhook-signature', 'x-hub-signature-256']) refused({ [name]: value });
  refused({ 'x-webhook-signature': [`sha256=${good}`, `sha256=${good}`] });
  refused({ 'x-webhook-signature': `sha256=${good}` }, '{} ');
  refused({ 'x-webhook-signature': `sha256=${good.toUpperCase()}`, 'x-hub-signature-256': `sha256=${good}` });

  const at = now();
  const { 'x-webhook-signature': _, ...standard } = signatureHeaders(keys, 'evt_1', at, '{}');
  const signature = standard['webhook-signature']!;
  for (const seconds of [at - 300, at, at + 300]) t.ok(verifySignature(keys, standard, '{}', seconds).ok);
  for (const seconds of [at - 301, at + 301]) refused(standard, '{}', seconds);
  for (const wrong of [
    '',
    ' ',
    'v1',
    'v1,',
    signature.slice(3),
    signature.slice(0, -1),
    `${signature}=`,
    `v2${signature.slice(2)}`,
  ])
    refused({ ...standard, 'webhook-signature': wrong });
  for (const wrong of ['', 'NaN', '-1', '1e10', `${at}.0`, ` ${at}`, '99999999999999', String(at + 1)])
    refused({ ...standard, 'webhook-timestamp': wrong });
  refused({ ...standard, 'webhook-id': 'evt_2' });
  refused({ 'webhook-signature': signature });
  t.ok(verifySignature(keys, { ...standard, 'webhook-signature': `v1a,x v1,AAAA ${signature} v9,?` }, '{}').ok);
  const forged = { ...standard, 'webhook-id': 'evt_2', 'x-webhook-signature': `sha256=${good}` };
  refused(forged, '{}');
});
