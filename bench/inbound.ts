import { type ChildProcess, spawn } from 'node:child_process';
import { Agent, request } from 'undici';
import { pause, progress, root, save, startBenchServer, stop, Table } from './support.ts';

const mapping = JSON.stringify({
  '$.payload.sku': 'product_code',
  '$.payload.qty': 'quantity',
  '$.payload.station': 'work_center',
});

/** A process that answers POSTs; its port comes on a line of its output. */
async function serve(command: string[], url: string): Promise<{ child: ChildProcess; port: number }> {
  const [program, ...args] = command;
  const child = spawn(program!, args, {
    cwd: root,
    env: { ...process.env, DATABASE_URL: url, COLLECTA_PORT: '0', COLLECTA_LOG_LEVEL: 'info' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  const port = await new Promise<number>((done, fail) => {
    child.once('exit', code => fail(new Error(`ended with ${code}: ${text}`)));
    for (const stream of [child.stdout, child.stderr])
      stream!.on('data', data => {
        text = (text + data).slice(-10_000);
        const found = /"port":(\d+)/.exec(text)?.[1];
        if (found) done(Number(found));
      });
  });
  return { child, port };
}

/** `clients` senders, each with one request under way, for `seconds`; requests a second and the latencies' p50 and p99. */
async function load(port: number, paths: string[], clients: number, seconds: number) {
  const agent = new Agent({ connections: clients, pipelining: 1 });
  const latencies: number[] = [];
  const refused: Record<number, number> = {};
  let sent = 0;
  const end = performance.now() + seconds * 1000;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (performance.now() < end) {
        const n = sent++;
        const body = `{"payload": {"sku": "A-${n}", "qty": ${n % 100}, "station": "assembly"}, "sent": "2026-11-24T15:04:05Z", "note": "a note of some length, as people write them"}`;
        const before = performance.now();
        const response = await request(`http://127.0.0.1:${port}${paths[n % paths.length]}`, {
          method: 'POST',
          body,
          headers: { 'content-type': 'application/json', 'idempotency-key': `k-${process.pid}-${started}-${n}` },
          dispatcher: agent,
        });
        await response.body.dump();
        if (response.statusCode === 202) latencies.push(performance.now() - before);
        else refused[response.statusCode] = (refused[response.statusCode] ?? 0) + 1;
      }
    }),
  );
  const elapsed = (performance.now() - started) / 1000;
  await agent.close();
  if (Object.keys(refused).length > 0) throw new Error(`refused: ${JSON.stringify(refused)}`);
  latencies.sort((a, b) => a - b);
  const at = (q: number) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * q))] ?? Number.NaN;
  return { rate: latencies.length / elapsed, p50: at(0.5), p99: at(0.99) };
}

/**
 * Accepted requests against the floor: the same server and driver, a handler that parses the JSON and does one INSERT.
 * What the product does besides: token, rate budget, idempotency key, raw request, mapping, cast, change captured.
 */
export async function inbound({ repetitions = 3, seconds = 8 } = {}): Promise<void> {
  const server = await startBenchServer();
  const rates = new Map<number, Table>();
  const p99s = new Map<number, Table>();
  const note = (clients: number, name: string, result: Awaited<ReturnType<typeof load>>) => {
    for (const [tables, title, unit, value] of [
      [rates, 'accepted, as many as it takes', 'requests/s', result.rate],
      [p99s, 'p99', 'ms', result.p99],
    ] as const) {
      const found = tables.get(clients) ?? new Table(`${clients} senders: ${title}`, unit, 'bare INSERT');
      tables.set(clients, found);
      found.add(name, value);
    }
    progress(
      `${clients} senders, ${name}: ${Math.round(result.rate)}/s, p50 ${result.p50.toFixed(1)} ms, p99 ${result.p99.toFixed(1)} ms`,
    );
  };
  const node = (module: string) => [process.execPath, '--import', 'tsx', `${root}bench/${module}`];
  const product: Record<string, string[]> = {
    'collecta, node': [process.execPath, `${root}dist/cli.js`, 'receive'],
    'collecta, deno': [
      `${root}node_modules/.bin/deno`,
      'run',
      '--allow-net',
      '--allow-env',
      '--allow-read',
      '--allow-sys',
      '--no-prompt',
      `${root}src/cli.ts`,
      'receive',
    ],
  };
  for (let i = 0; i < repetitions; i++) {
    for (const name of ['bare INSERT', ...Object.keys(product)]) {
      const { url, sql } = await server.database(name !== 'bare INSERT');
      await sql.unsafe(
        `create table work_orders (id text primary key default gen_random_uuid()::text, product_code text, quantity int, work_center text)`,
      );
      const paths: string[] = [];
      if (name === 'bare INSERT') paths.push('/');
      else {
        await sql`select collecta.attach_module('work_orders', 'work-orders')`;
        for (let n = 0; n < 4; n++) {
          const [made] = await sql`
            select path from collecta.create_inbound_endpoint('work-orders', ${mapping}::text::jsonb, rate_limit_per_minute => 60000)`;
          paths.push(made!.path);
        }
      }
      await sql`vacuum analyze`;
      const { child, port } = await serve(product[name] ?? node('inbound-floor.ts'), url);
      await load(port, paths, 16, 2);
      for (const clients of [1, 16]) {
        await pause(500);
        note(clients, name, await load(port, paths, clients, seconds));
      }
      await stop(child);
      await sql.end();
    }
  }
  await server.stop();
  save(
    'inbound',
    [...rates.values(), ...p99s.values()],
    [
      'Ratios of p99 are worse above 1.',
      'Each request has an idempotency key of its own and makes a record; four endpoints with a budget of 60,000 a minute each.',
    ],
  );
}
