import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { table } from '../../scripts/inbound-senders.ts';
import { parseSecret, signatureHeaders } from '../../src/secrets/sign.ts';
import { useServer } from '../support/database.ts';
import { closeAgent, makeEndpoint, post, startReceiving } from '../support/inbound.ts';

const { database } = await useServer();
const db = await database();
const { sql } = db;
await sql.unsafe(`
  create table received (id bigint generated always as identity primary key, what text);
  select collecta.attach_module('received', 'received');`);
const receiving = await startReceiving(db, { publicUrl: 'https://hooks.example.com' });
t.teardown(async () => {
  await receiving.stop();
  await closeAgent();
});

const secret = 'a secret of the sender';
const hmac = (key: string | Buffer, data: string, encoding: 'hex' | 'base64' = 'hex', hash = 'sha256') =>
  createHmac(hash, key).update(data).digest(encoding);
const now = () => String(Math.floor(Date.now() / 1000));
const whsec = `whsec_${Buffer.from('0123456789abcdef0123456789abcdef').toString('base64')}`;
const standard = (body: string, prefix: string) => {
  const [id, time] = ['msg_1', now()];
  const key = Buffer.from('0123456789abcdef0123456789abcdef');
  return {
    [`${prefix}-id`]: id,
    [`${prefix}-timestamp`]: time,
    [`${prefix}-signature`]: `v1,AAAA v1,${hmac(key, `${id}.${time}.${body}`, 'base64')}`,
  };
};

type Sent = { body: string; headers: Record<string, string>; query?: string };
type Case = {
  /** The page of the sender's documentation that describes its requests. */
  documentation: string;
  name?: string;
  sender: string;
  secret?: string;
  path: string;
  /** A genuine request, made as the documentation says, with `what` in its body. */
  request(what: string, path: string): Sent;
  /**
   * A request that differs by one byte, for senders where changing the last but one byte of the body is not suitable.
   */
  spoil?(sent: Sent): Sent;
  /** A request that according to the documentation is only answered, and its answer. */
  handshake?: {
    method: 'GET' | 'POST';
    query?: (path: string) => string;
    body?: string;
    answer: string;
    signed?: boolean;
  };
  unsigned?: true;
};
const json = { 'content-type': 'application/json' };
const form = { 'content-type': 'application/x-www-form-urlencoded' };

const cases: Case[] = [
  ...['webhook', 'svix'].map(prefix => ({
    documentation: 'https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md',
    name: `standard-webhooks, ${prefix}`,
    sender: 'standard-webhooks',
    secret: whsec,
    path: '$.data',
    request: (what: string) => {
      const body = JSON.stringify({ type: 'x', data: what });
      return { body, headers: { ...json, ...standard(body, prefix) } };
    },
  })),
  {
    documentation: 'https://docs.stripe.com/webhooks/signature',
    sender: 'stripe',
    secret: 'whsec_test_secret_that_is_no_base64',
    path: '$.data.object.id',
    request: what => {
      const body = JSON.stringify({ id: `evt_${what}`, type: 'invoice.paid', data: { object: { id: what } } });
      const t = now();
      const v1 = hmac('whsec_test_secret_that_is_no_base64', `${t}.${body}`);
      return { body, headers: { ...json, 'stripe-signature': `t=${t},v1=${v1},v0=6ffbb59b2300aae63f272406069a9788` } };
    },
  },
  {
    documentation: 'https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries',
    name: 'github, json',
    sender: 'github',
    path: '$.action',
    request: what => {
      const body = JSON.stringify({ action: what });
      const headers = {
        'x-github-event': 'issues',
        'x-github-delivery': what,
        'x-hub-signature-256': `sha256=${hmac(secret, body)}`,
      };
      return { body, headers: { ...json, ...headers } };
    },
  },
  {
    documentation: 'https://docs.github.com/en/webhooks/webhook-events-and-payloads',
    name: 'github, form',
    sender: 'github',
    path: '$.action',
    request: what => {
      const body = `payload=${encodeURIComponent(JSON.stringify({ action: what }))}`;
      const headers = {
        'x-github-event': 'issues',
        'x-github-delivery': what,
        'x-hub-signature-256': `sha256=${hmac(secret, body)}`,
      };
      return { body, headers: { ...form, ...headers } };
    },
  },
  {
    documentation: 'https://docs.gitlab.com/user/project/integrations/webhooks/ (secret token)',
    name: 'gitlab, secret token',
    sender: 'gitlab',
    path: '$.object_kind',
    request: what => ({
      body: JSON.stringify({ object_kind: what }),
      headers: { ...json, 'x-gitlab-token': secret, 'x-gitlab-event': 'Push Hook', 'idempotency-key': what },
    }),
    spoil: sent => ({ ...sent, headers: { ...sent.headers, 'x-gitlab-token': `${secret.slice(0, -1)}s` } }),
  },
  {
    documentation: 'https://gitlab.com/gitlab-org/gitlab/-/merge_requests/230944 (signing token)',
    name: 'gitlab, signing token',
    sender: 'gitlab',
    secret: whsec,
    path: '$.object_kind',
    request: what => {
      const body = JSON.stringify({ object_kind: what });
      return { body, headers: { ...json, 'x-gitlab-event': 'Push Hook', ...standard(body, 'webhook') } };
    },
  },
  ...['gitea', 'forgejo'].map(name => ({
    documentation: 'https://forgejo.org/docs/latest/user/webhooks/',
    name,
    sender: 'gitea',
    path: '$.ref',
    request: (what: string) => {
      const body = JSON.stringify({ ref: what });
      const headers = {
        [`x-${name}-signature`]: hmac(secret, body),
        [`x-${name}-delivery`]: what,
        'x-gitea-event': 'push',
      };
      return { body, headers: { ...json, ...headers } };
    },
  })),
  {
    documentation: 'https://shopify.dev/docs/apps/build/webhooks/verify-deliveries',
    sender: 'shopify',
    path: '$.name',
    request: what => {
      const body = JSON.stringify({ name: what });
      const headers = {
        'x-shopify-hmac-sha256': hmac(secret, body, 'base64'),
        'x-shopify-webhook-id': what,
        'x-shopify-topic': 'orders/create',
      };
      return { body, headers: { ...json, ...headers } };
    },
  },
  {
    documentation: 'https://api.slack.com/docs/verifying-requests-from-slack',
    sender: 'slack',
    path: '$.event.text',
    request: what => {
      const body = JSON.stringify({
        type: 'event_callback',
        event_id: `Ev${what}`,
        event: { type: 'message', text: what },
      });
      const time = now();
      const headers = {
        'x-slack-request-timestamp': time,
        'x-slack-signature': `v0=${hmac(secret, `v0:${time}:${body}`)}`,
      };
      return { body, headers: { ...json, ...headers } };
    },
    handshake: {
      method: 'POST',
      body: '{"type":"url_verification","token":"x","challenge":"3eZbrw1aB"}',
      answer: '3eZbrw1aB',
      signed: true,
    },
  },
  {
    documentation: 'https://www.twilio.com/docs/usage/webhooks/webhooks-security',
    sender: 'twilio',
    path: '$.Body',
    request: (what, path) => {
      const body = new URLSearchParams({ To: '+18005551212', Body: what, From: '+12349013030' }).toString();
      const signed = `https://hooks.example.com${path}?foo=1Body${what}From+12349013030To+18005551212`;
      const headers = {
        'x-twilio-signature': hmac(secret, signed, 'base64', 'sha1'),
        'i-twilio-idempotency-token': what,
      };
      return { body, headers: { ...form, ...headers }, query: '?foo=1' };
    },
  },
  {
    documentation: 'https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks',
    sender: 'mailgun',
    path: "$['event-data'].id",
    request: what => {
      const [timestamp, token] = [now(), `token-of-${what}`];
      const signature = { token, timestamp, signature: hmac(secret, timestamp + token) };
      return { body: JSON.stringify({ signature, 'event-data': { event: 'delivered', id: what } }), headers: json };
    },
    spoil: sent => ({ ...sent, body: sent.body.replace('token-of-', 'token-oF-') }),
  },
  {
    documentation: 'https://developer.pagerduty.com/docs/verifying-webhook-signatures',
    sender: 'pagerduty',
    path: '$.event.data.title',
    request: what => {
      const body = JSON.stringify({
        event: { id: `01${what}`, event_type: 'incident.triggered', data: { title: what } },
      });
      return {
        body,
        headers: { ...json, 'x-pagerduty-signature': `v1=${hmac('another', body)},v1=${hmac(secret, body)}` },
      };
    },
  },
  {
    documentation: 'https://developer.atlassian.com/cloud/jira/platform/webhooks/',
    sender: 'jira',
    path: '$.issue.key',
    request: what => {
      const body = JSON.stringify({ webhookEvent: 'jira:issue_created', issue: { key: what } });
      return {
        body,
        headers: { ...json, 'x-hub-signature': `sha256=${hmac(secret, body)}`, 'x-atlassian-webhook-identifier': what },
      };
    },
  },
  {
    documentation: 'https://www.typeform.com/developers/webhooks/secure-your-webhooks/',
    sender: 'typeform',
    path: '$.form_response.token',
    request: what => {
      const body = JSON.stringify({ event_id: what, event_type: 'form_response', form_response: { token: what } });
      return { body, headers: { ...json, 'typeform-signature': `sha256=${hmac(secret, body, 'base64')}` } };
    },
  },
  {
    documentation: 'https://meta.discourse.org/t/49045',
    sender: 'discourse',
    path: '$.post.raw',
    request: what => {
      const body = JSON.stringify({ post: { raw: what } });
      const headers = {
        'x-discourse-event-signature': `sha256=${hmac(secret, body)}`,
        'x-discourse-event-id': what,
        'x-discourse-event': 'post_created',
      };
      return { body, headers: { ...json, ...headers } };
    },
  },
  {
    documentation: 'https://developers.facebook.com/docs/graph-api/webhooks/getting-started',
    sender: 'meta',
    path: '$.id',
    request: what => {
      const body = JSON.stringify({ object: 'page', entry: [{ id: what, time: 1, changes: [] }] });
      return { body, headers: { ...json, 'x-hub-signature-256': `sha256=${hmac(secret, body)}` } };
    },
    handshake: {
      method: 'GET',
      query: path => `?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=${path.split('/').at(-1)}`,
      answer: '1158201444',
    },
  },
  {
    documentation: 'https://learn.microsoft.com/en-us/graph/change-notifications-delivery-webhooks',
    sender: 'microsoft-graph',
    path: '$.resource',
    request: what => ({
      body: JSON.stringify({
        value: [{ subscriptionId: 's', clientState: secret, changeType: 'created', resource: what }],
      }),
      headers: json,
    }),
    spoil: sent => ({ ...sent, body: sent.body.replace(secret, `${secret.slice(0, -1)}s`) }),
    handshake: {
      method: 'POST',
      query: () => '?validationToken=Validation%3A+Testing+client',
      answer: 'Validation: Testing client',
    },
  },
  {
    documentation: 'https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html',
    sender: 'amazon-sns',
    path: '$.Message',
    unsigned: true,
    request: what => ({
      body: JSON.stringify({ Type: 'Notification', MessageId: what, Message: what }),
      headers: {
        'content-type': 'text/plain; charset=UTF-8',
        'x-amz-sns-message-type': 'Notification',
        'x-amz-sns-message-id': what,
      },
    }),
  },
  {
    documentation: 'https://help.zapier.com/hc/en-us/articles/8496326446989',
    sender: 'zapier',
    path: '$.what',
    unsigned: true,
    request: what => ({ body: JSON.stringify({ what }), headers: { ...json, 'idempotency-key': what } }),
  },
];

t.test('each sender’s genuine, altered and repeated requests and its handshake are handled', async t => {
  const swept = new Set(['collecta']);
  for (const [n, { name, sender, path: at, request, spoil, handshake, unsigned, ...given }] of cases.entries()) {
    await t.test(name ?? sender, async t => {
      swept.add(sender);
      const made = await makeEndpoint(
        sql,
        { what: { path: at, required: true } },
        {
          module: 'received',
          sender,
          ...(!unsigned && { secret: given.secret ?? secret }),
        },
      );
      const what = `what-${n}`;
      const rows = async () => (await sql`select id from received where what = ${what}`).length;
      const { body, headers, query = '' } = request(what, made.path);
      const send = (sent: Sent) => post(receiving.port, made.path + (sent.query ?? query), sent.body, sent.headers);
      if (!unsigned) {
        const last = body.length - 3;
        const spoilt = spoil?.({ body, headers }) ?? {
          body: `${body.slice(0, last)}${body[last] === 'x' ? 'y' : 'x'}${body.slice(last + 1)}`,
          headers,
        };
        t.match(await send(spoilt), { status: 401 }, 'one byte changed');
        t.match(
          await send({ body, headers: { 'content-type': headers['content-type']! } }),
          spoil && sender !== 'gitlab' ? {} : { status: 401 },
          'unsigned',
        );
      }
      const before = await rows();
      const first = await send({ body, headers });
      t.equal(first.status, 202, first.text);
      t.equal(await rows(), Math.max(before, 1), 'the record');
      const again = await send({ body, headers });
      t.strictSame([again.status, again.text], [202, first.text], 'repeated: the same answer');
      t.equal(await rows(), 1, 'one row');
      if (handshake) {
        const greet = handshake.body ?? '';
        const time = now();
        const signed = {
          'x-slack-request-timestamp': time,
          'x-slack-signature': `v0=${hmac(secret, `v0:${time}:${greet}`)}`,
        };
        const target = made.path + (handshake.query?.(made.path) ?? '');
        const answer = await post(
          receiving.port,
          target,
          handshake.method === 'GET' ? '' : greet,
          handshake.signed ? signed : {},
          handshake.method,
        );
        t.strictSame(
          [answer.status, answer.text, answer.headers['content-type']],
          [200, handshake.answer, 'text/plain; charset=utf-8'],
        );
        if (handshake.signed) t.equal((await post(receiving.port, target, greet)).status, 401, 'not for strangers');
        if (handshake.method === 'GET') {
          t.equal((await post(receiving.port, target.slice(0, -1), '', {}, 'GET')).status, 405, 'a wrong verify token');
          t.equal((await post(receiving.port, made.path, '', {}, 'GET')).status, 405);
        }
      }
    });
  }
  const known = (await sql`select sender from collecta.inbound_senders`).map(row => row.sender);
  t.strictSame(
    known.filter(sender => !swept.has(sender)),
    [],
    'every row was tried',
  );
});

t.test('timestamps out of range, upper-case hex and a rotated secret are handled', async t => {
  const made = await makeEndpoint(
    sql,
    { '$.what': 'what' },
    { module: 'received', sender: 'stripe', secret: 'whsec_x_y' },
  );
  const send = (age: number, key = 'whsec_x_y', upper = false) => {
    const body = '{"what":"aged"}';
    const time = Math.floor(Date.now() / 1000) - age;
    const mac = hmac(key, `${time}.${body}`);
    return post(receiving.port, made.path, body, {
      'stripe-signature': `t=${time},v1=${upper ? mac.toUpperCase() : mac}`,
    });
  };
  t.equal((await send(295)).status, 202);
  t.match(await send(305), { status: 401, json: { detail: /over 300 s off/ } });
  t.match(await send(-305), { status: 401 });
  t.equal((await send(0, 'whsec_x_y', true)).status, 202);
  await sql`select collecta.rotate_inbound_secret(${made.id}, '1 day', 'whsec_new_one')`;
  const until = Date.now() + 5000;
  while ((await send(0, 'whsec_new_one')).status !== 202 && Date.now() < until);
  t.equal((await send(0, 'whsec_new_one')).status, 202);
  t.equal((await send(0)).status, 202, 'the old one is accepted meanwhile');
});

t.test('the named events become records; others are answered and kept as ignored', async t => {
  const made = await makeEndpoint(
    sql,
    { '$.action': 'what' },
    { module: 'received', sender: 'github', secret, events: ['issues'] },
  );
  const send = (event: string) => {
    const body = JSON.stringify({ action: `event ${event}` });
    return post(receiving.port, made.path, body, {
      'x-github-event': event,
      'x-hub-signature-256': `sha256=${hmac(secret, body)}`,
    });
  };
  t.match(await send('issues'), { status: 202, json: { recordId: String } });
  for (const event of ['push', 'ping'])
    t.match(await send(event), { status: 202, json: { recordId: null, ignored: true } });
  t.strictSame(
    (
      await sql`select state from collecta.inbound_requests where inbound_endpoint_id = ${made.id} order by received_at`
    ).map(row => row.state),
    ['accepted', 'ignored', 'ignored'],
  );
  t.equal((await sql`select from received where what like 'event %'`).length, 1);
});

t.test('a captured request cannot be replayed under another idempotency key', async t => {
  const made = await makeEndpoint(sql, { '$.what': 'what' }, { module: 'received', require_signature: true });
  const body = '{"what":"captured"}';
  const signed = { 'x-webhook-signature': `sha256=${hmac(made.secret!, body)}` };
  const first = await post(receiving.port, made.path, body, { ...signed, 'idempotency-key': 'one' });
  const again = await post(receiving.port, made.path, body, { ...signed, 'idempotency-key': 'two' });
  t.strictSame([again.status, again.text], [202, first.text]);
  t.equal((await sql`select from received where what = 'captured'`).length, 1);
  await sql`update collecta.inbound_requests set received_at = received_at - interval '25 hours'
    where inbound_endpoint_id = ${made.id}`;
  t.equal((await post(receiving.port, made.path, body, signed)).status, 202);
  t.equal(
    (await sql`select from received where what = 'captured'`).length,
    2,
    'a day later the same content is a new request',
  );
  // If headers of another scheme are present too, the signature that the endpoint knows is enough.
  t.equal((await post(receiving.port, made.path, body, { ...signed, 'webhook-signature': 'v1,xxxx' })).status, 202);
  const strict = await makeEndpoint(sql, { '$.what': 'what' }, { module: 'received', require_signature: 'standard' });
  const only = { 'x-webhook-signature': `sha256=${hmac(strict.secret!, body)}` };
  t.equal((await post(receiving.port, strict.path, body, only)).status, 401, 'standard asks for id and time');
});

t.test('a captured request creates no second record when its headers are reduced or respelled', async t => {
  const rows = async (what: string) => (await sql`select from received where what = ${what}`).length;
  const both = await makeEndpoint(sql, { '$.what': 'what' }, { module: 'received', require_signature: true });
  const standard = (body: string, id: string) =>
    signatureHeaders([parseSecret(both.secret!)], id, Math.floor(Date.now() / 1000), body);
  const body = '{"what":"downgraded"}';
  const first = await post(receiving.port, both.path, body, standard(body, 'msg_1'));
  t.equal(first.status, 202, first.text);
  const weak = { 'x-webhook-signature': `sha256=${hmac(both.secret!, body)}` };
  for (const extra of [{}, { 'webhook-id': 'msg_9' }, { 'idempotency-key': 'other' }])
    t.equal((await post(receiving.port, both.path, body, { ...weak, ...extra })).text, first.text);
  t.equal(await rows('downgraded'), 1, 'the headers that cover id and time were left out');
  t.equal((await post(receiving.port, both.path, body, standard(body, 'msg_2'))).status, 202);
  t.equal(await rows('downgraded'), 2, 'the sender itself may send the same body again');

  const twilio = await makeEndpoint(sql, { '$.Body': 'what' }, { module: 'received', sender: 'twilio', secret });
  const url = `https://hooks.example.com${twilio.path}`;
  const signed = { ...form, 'x-twilio-signature': hmac(secret, `${url}Bodyre spelt`, 'base64', 'sha1') };
  for (const [token, spelling] of ['Body=re+spelt', 'Body=re%20spelt', '%42ody=re+spelt', 'Body=re+spelt&'].entries())
    t.equal(
      (await post(receiving.port, twilio.path, spelling, { ...signed, 'i-twilio-idempotency-token': `t${token}` }))
        .status,
      202,
    );
  t.equal(await rows('re spelt'), 1, 'the signature holds for every spelling');

  await sql`insert into collecta.inbound_senders (sender, signatures) values ('timed',
    '[{"in": "header:x-signature", "signed": "{timestamp}.{body}", "timestamp": "header:x-time"}]')`;
  const timed = await makeEndpoint(sql, { '$.what': 'what' }, { module: 'received', sender: 'timed', secret });
  const at = (time: number, key: string) =>
    post(receiving.port, timed.path, '{"what":"timed"}', {
      'x-time': String(time),
      'x-signature': hmac(secret, `${time}.{"what":"timed"}`),
      'idempotency-key': key,
    });
  const time = Math.floor(Date.now() / 1000);
  for (const key of ['a', 'b']) t.equal((await at(time, key)).status, 202);
  t.equal(await rows('timed'), 1, 'replayed while its time is fresh');
  t.equal((await at(time - 1, 'c')).status, 202);
  t.equal(await rows('timed'), 2, 'the same body at another time is another request');
});

t.test('a repeated id or key gets the first answer; Idempotency-Key compares the JSON', async t => {
  const made = await makeEndpoint(sql, { '$.what': 'what' }, { module: 'received' });
  const send = (body: string, headers: Record<string, string>) => post(receiving.port, made.path, body, headers);
  const first = await send('{"what":"id","attempt":1}', { 'webhook-id': 'm1' });
  t.strictSame((await send('{"attempt":2,"what":"id"}', { 'webhook-id': 'm1' })).text, first.text);
  const keyed = await send('{"what":"key","n":1.0}', { 'idempotency-key': 'k1' });
  t.equal((await send('{ "n": 1.00, "what": "key" }', { 'idempotency-key': 'k1' })).text, keyed.text);
  t.equal((await send('{"what":"key","n":2}', { 'idempotency-key': 'k1' })).status, 422);
});

t.test('a trailing slash and an absolute URL reach the endpoint; a form becomes an object', async t => {
  const made = await makeEndpoint(sql, { '$.what': 'what' }, { module: 'received' });
  t.equal((await post(receiving.port, `${made.path}/`, '{"what":"slash"}')).status, 202);
  t.equal((await post(receiving.port, made.path, 'what=a+form&what2=x', form)).status, 202);
  t.equal((await sql`select from received where what = 'a form'`).length, 1);
});

t.test('a DBA’s own sender is used at once, survives upgrades, and is refused if invalid', async t => {
  await sql`
    insert into collecta.inbound_senders (sender, signatures, ids)
    values ('acme', '[{"in": "header:x-acme", "signed": "{timestamp}|{body}", "timestamp": "header:x-time",
      "hash": "sha512"}]', '{$.n}')`;
  const made = await makeEndpoint(sql, { '$.what': 'what' }, { module: 'received', sender: 'acme', secret });
  const body = '{"what":"acme","n":1}';
  const time = now();
  const headers = { 'x-acme': hmac(secret, `${time}|${body}`, 'hex', 'sha512'), 'x-time': time };
  t.equal((await post(receiving.port, made.path, body, headers)).status, 202);
  for (const [signatures, ids] of [
    ['[{"in": "x-acme", "signed": "{body}"}]', '{}'],
    ['[{"in": "header:x", "signed": "nothing"}]', '{}'],
    ['[{"in": "header:x", "signed": "{body}", "hash": "md5"}]', '{}'],
    ['[{"in": "header:x", "signed": "{body}", "surprise": 1}]', '{}'],
    ['{}', '{}'],
    ['[]', '{$..id}'],
  ])
    await t.rejects(
      sql`insert into collecta.inbound_senders (sender, signatures, ids)
        values ('bad', ${signatures!}::text::jsonb, ${ids!})`,
      { code: 'CW057' },
    );
  const presets = readFileSync('sql/fixtures/inbound/internal/save_sender_presets.sql', 'utf8');
  await sql`update collecta.inbound_senders set shipped = false, about = 'mine' where sender = 'github'`;
  await sql.unsafe(presets);
  t.match(
    [...(await sql`select sender, about from collecta.inbound_senders where sender in ('acme', 'github') order by 1`)],
    [{ sender: 'acme' }, { sender: 'github', about: 'mine' }],
  );
  await sql.unsafe(`update collecta.inbound_senders set shipped = true where sender = 'github'; ${presets}`);
});

t.test('the table in docs/inbound.md is generated from the rows', async t => {
  const rows = await sql`select * from collecta.inbound_senders where shipped order by sender`;
  t.ok(readFileSync('docs/inbound.md', 'utf8').includes(table(rows)), 'npx tsx scripts/inbound-senders.ts writes it');
});
