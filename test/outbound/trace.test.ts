import { copyFile, cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { SpanKind, trace } from '@opentelemetry/api';
import t from 'tap';
import { notSent } from '../../src/outbound/exchange.ts';
import { startSpan, traceparentOf } from '../../src/outbound/trace.ts';
import { useServer } from '../support/database.ts';
import { createEndpoint, runtimes, startReceiver, startRunner, until } from '../support/runner.ts';

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

t.test('the traceparent is read from the context, never from the record', async t => {
  t.equal(traceparentOf(`{"record":{},"context":{"traceparent":"${traceparent}"}}`), traceparent);
  for (const body of [
    '{"record":{}}',
    `{"record":{"traceparent":"${traceparent}"}}`,
    `{"record":{"context":{"traceparent":"${traceparent}"}},"context":{"user":7}}`,
    `{"context":"traceparent"}`,
    `{"context":{"traceparent":"00-xyz"}}`,
    `{"context":{"traceparent":"${traceparent}\\r\\nx-evil: 1"}}`,
    `{"context":{"traceparent":7}}`,
    'no JSON with "traceparent"',
  ])
    t.equal(traceparentOf(body), undefined, body);
});

t.test('with an SDK each attempt has a root span that is linked to the writer’s span', async t => {
  const spans: {
    name: string;
    options: Record<string, unknown>;
    attributes: Record<string, unknown>;
    status?: { code: number; message?: string };
    ended: boolean;
  }[] = [];
  const provider = {
    getTracer: () => ({
      startSpan(name: string, options: Record<string, unknown>) {
        const span = {
          name,
          options,
          attributes: { ...(options.attributes as object) } as Record<string, unknown>,
          ended: false,
        } as (typeof spans)[number];
        spans.push(span);
        return {
          isRecording: () => true,
          setAttribute: (key: string, value: unknown) => {
            span.attributes[key] = value;
          },
          setStatus: (status: { code: number }) => {
            span.status = status;
          },
          end: () => {
            span.ended = true;
          },
        };
      },
      startActiveSpan() {},
    }),
  };
  trace.setGlobalTracerProvider(provider as never);
  t.teardown(() => trace.disable());
  const url = 'https://hooks.example.com/secret-token?key=secret';
  startSpan({ endpointId: 'ep_1', eventId: 'evt_1', url, traceparent })({
    ...notSent('connection refused'),
    outcome: 'failed',
  });
  startSpan({ endpointId: 'ep_1', eventId: 'evt_2', url, traceparent: undefined })({
    ...notSent('x'),
    outcome: 'delivered',
    status: 200,
  });
  t.match(spans[0], {
    name: 'deliver webhook',
    ended: true,
    options: {
      root: true,
      links: [{ context: { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' } }],
    },
    attributes: { 'collecta.endpoint_id': 'ep_1', 'server.address': 'hooks.example.com', 'collecta.outcome': 'failed' },
    status: { message: 'connection refused' },
  });
  t.strictSame(spans[1]?.options.links, []);
  t.equal(spans[1]?.attributes['http.response.status_code'], 200);
  t.notMatch(JSON.stringify(spans), /secret/, 'no path and no query');
});

t.test('the traceparent of the writing transaction arrives in the header of the POST', async t => {
  const server = await useServer();
  for (const runtime of runtimes) {
    const { sql, url } = await server.database();
    const receiver = await startReceiver();
    await sql.unsafe(`create table orders (id int primary key); select collecta.attach_module('orders', 'orders')`);
    await createEndpoint(sql, receiver, '/in');
    const write = (id: number, settings: Record<string, string>) =>
      sql.begin(async inner => {
        for (const [name, value] of Object.entries(settings)) await inner`select set_config(${name}, ${value}, true)`;
        await inner`insert into orders values (${id})`;
      });
    await write(1, { 'collecta.traceparent': traceparent });
    await write(2, { 'collecta.context': `{"user": 7, "traceparent": "${traceparent}"}` });
    await write(3, { 'collecta.context': '{"user": 7}', 'collecta.traceparent': traceparent });
    await write(4, { 'collecta.context': 'maria', 'collecta.traceparent': traceparent });
    await write(5, { 'collecta.context': '{}', 'collecta.traceparent': traceparent });
    await write(6, { 'collecta.context': '{"user": 7}', 'collecta.traceparent': 'nonsense' });
    await write(7, {});
    await write(8, { 'collecta.traceparent': `00-${'0'.repeat(32)}-00f067aa0ba902b7-01` });
    const runner = await startRunner(url, { runtime });
    await until('all came', () => receiver.to('/in').length >= 8);
    const found = new Map(
      receiver.to('/in').map(({ headers, body }) => {
        const { record, context } = JSON.parse(body);
        return [record.id as number, { header: headers.traceparent, context }];
      }),
    );
    t.strictSame(
      [1, 2, 3, 4, 5, 6, 7, 8].map(id => found.get(id)),
      [
        { header: traceparent, context: { traceparent } },
        { header: traceparent, context: { user: 7, traceparent } },
        { header: traceparent, context: { traceparent, user: 7 } },
        { header: traceparent, context: { traceparent, context: 'maria' } },
        { header: traceparent, context: { traceparent } },
        { header: undefined, context: { user: 7 } },
        { header: undefined, context: undefined },
        { header: undefined, context: undefined },
      ],
      runtime,
    );
    const kept = () => sql`
      select record_id, request_headers ->> 'traceparent' as header, request_headers ->> 'content-type' as type
      from collecta.webhook_deliveries order by record_id::int`;
    await until('all are recorded', async () => (await kept()).length >= 8);
    t.strictSame(
      [...(await kept())].map(row => [Number(row.record_id), row.header, row.type]),
      [1, 2, 3, 4, 5, 6, 7, 8].map(id => [id, id <= 5 ? traceparent : null, 'application/json']),
      'the history has the header that was sent',
    );
    t.equal((await runner.stop()).status, 0);
  }
});

t.test('a runner that is started with OpenTelemetry’s SDK exports a span for each attempt', async t => {
  const server = await useServer();
  const folder = await mkdtemp(join(tmpdir(), 'collecta-tracing-'));
  t.teardown(() => rm(folder, { recursive: true }));
  // The application's SDK is installed elsewhere, with another copy of @opentelemetry/api than ours.
  await mkdir(join(folder, 'node_modules/@opentelemetry'), { recursive: true });
  for (const name of ['api', 'core', 'resources', 'sdk-trace', 'sdk-trace-base', 'semantic-conventions'])
    await cp(resolve('node_modules/@opentelemetry', name), join(folder, 'node_modules/@opentelemetry', name), {
      recursive: true,
    });
  await copyFile('test/support/tracing.js', join(folder, 'tracing.mjs'));
  for (const file of [resolve('test/support/tracing.js'), join(folder, 'tracing.mjs')]) {
    const { sql, url } = await server.database();
    const receiver = await startReceiver();
    await sql.unsafe(`create table orders (id int primary key); select collecta.attach_module('orders', 'orders')`);
    const { id: endpointId } = await createEndpoint(sql, receiver, '/in');
    await sql.begin(async inner => {
      await inner`select set_config('collecta.traceparent', ${traceparent}, true)`;
      await inner`insert into orders values (1)`;
    });
    const runner = await startRunner(url, { env: { NODE_OPTIONS: `--import=${pathToFileURL(file)}` } });
    await until('the span is exported', () => runner.output().includes('"span"'));
    t.equal((await runner.stop()).status, 0);
    const [line = ''] = runner.output().match(/^\{"span".*$/m) ?? [];
    const { span } = JSON.parse(line);
    t.match(span, {
      name: 'deliver webhook',
      kind: SpanKind.PRODUCER,
      links: [{ context: { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' } }],
      attributes: { 'collecta.endpoint_id': endpointId, 'http.response.status_code': 200 },
    });
    t.equal(span.parentSpanContext, undefined, 'linked, not parented');
  }
});

t.test('our version of @opentelemetry/api works with the SDKs that exist', async t => {
  // An SDK registers itself under the version of its own copy, and an older minor version than ours would be ignored.
  const { version } = JSON.parse(await readFile('node_modules/@opentelemetry/api/package.json', 'utf8'));
  const { peerDependencies } = JSON.parse(
    await readFile('node_modules/@opentelemetry/sdk-trace-base/package.json', 'utf8'),
  );
  const [, most] = /<1\.(\d+)\.0/.exec(peerDependencies['@opentelemetry/api']) ?? [];
  t.ok(Number(version.split('.')[1]) < Number(most), version);
});
