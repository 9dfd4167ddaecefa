import { createHmac } from 'node:crypto';
import { connect as connectTcp } from 'node:net';
import { Agent, request } from 'undici';
import { receive } from '../../src/inbound/service.ts';
import { createLog } from '../../src/log.ts';
import type { Database, Sql } from './database.ts';

export const seedMapping = {
  '$.payload.sku': 'product_code',
  '$.payload.qty': 'quantity',
  '$.payload.station': 'work_center',
};

/** The sample module work_orders, with every kind of column that inbound may meet. */
export async function makeModule(sql: Sql): Promise<void> {
  await sql.unsafe(`
    create type priority as enum ('low', 'high');
    create domain positive as integer check (value > 0);
    create domain code as varchar(5) not null;
    create table work_orders (
      id text primary key default collecta.new_id('rec'), product_code text, quantity integer, work_center text,
      status text not null default 'open', custom_data jsonb, raw json, amount numeric, price numeric(10,2), big bigint,
      ratio double precision,
      due timestamptz, day date, flag boolean, level priority, tags text[], numbers int[], ref uuid, plus positive,
      short varchar(5),
      tenant_id text not null default 'none', created_by text default current_user,
      created_at timestamptz default now(),
      twice integer generated always as (quantity * 2) stored, serial integer generated always as identity,
      constraint quantity_is_sane check (quantity < 1000000));
    select collecta.attach_module('work_orders', 'work-orders', 'status', 'custom_data', 'tenant_id');`);
}

export type Made = { id: string; path: string; secret: string | null };

export async function makeEndpoint(
  sql: Sql,
  mapping: object = seedMapping,
  options: Record<string, unknown> = {},
): Promise<Made> {
  const entries = Object.entries({ module: 'work-orders', mapping: JSON.stringify(mapping), ...options });
  const named = entries.map(([name], i) => `${name} => $${i + 1}${name === 'mapping' ? '::text::jsonb' : ''}`);
  const [row] = await sql.unsafe(
    `select * from collecta.create_inbound_endpoint(${named.join(', ')})`,
    entries.map(([, value]) => value) as string[],
  );
  return { id: row!.inbound_endpoint_id, path: row!.path, secret: row!.secret };
}

export type Receiving = { port: number; lines: string[]; stop(): Promise<void> };

/** The server of a receiving process, in this process, as `collecta-webhooks receive` runs it. */
export async function startReceiving(database: Database, overrides: Record<string, unknown> = {}): Promise<Receiving> {
  const stopping = new AbortController();
  const lines: string[] = [];
  const config = {
    databaseUrl: database.url,
    listenUrl: database.url,
    host: '127.0.0.1',
    port: 0,
    trustedProxies: 0,
    pollIntervalMs: 1000,
    stopTimeoutMs: 2000,
    ...overrides,
  };
  let ended: Promise<void> = Promise.resolve();
  const port = await new Promise<number>((onListening, reject) => {
    ended = receive(
      config,
      createLog('debug', line => lines.push(line)),
      stopping.signal,
      { onListening },
    );
    ended.catch(reject);
  });
  return {
    port,
    lines,
    async stop() {
      stopping.abort();
      await ended;
    },
  };
}

export const sign = (secret: string, body: string | Uint8Array) =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;

export type Reply = {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  json: Record<string, unknown>;
};

const agent = new Agent({ connections: 100, headersTimeout: 60_000, bodyTimeout: 60_000 });
export const closeAgent = () => agent.destroy();

/** One POST of `body` (JSON, unless it is text or bytes). */
export async function post(
  port: number,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
  method = 'POST',
): Promise<Reply> {
  const raw = typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body);
  const response = await request(`http://127.0.0.1:${port}${path}`, {
    method: method as 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: raw,
    dispatcher: agent,
  });
  const text = await response.body.text();
  let json = {};
  try {
    json = JSON.parse(text);
  } catch {}
  return { status: response.statusCode, headers: response.headers, text, json };
}

/**
 * The answer of a server to exactly these bytes. It ends when the server closes the connection, after a whole answer,
 * or after `waitMs`.
 */
export function raw(port: number, chunks: (string | Uint8Array)[], { waitMs = 3000, everyMs = 0, half = false } = {}) {
  return new Promise<{ status: number; text: string; closed: boolean; ms: number }>(done => {
    const socket = connectTcp(port, '127.0.0.1');
    const started = Date.now();
    let text = '';
    let closed = false;
    let feeding: NodeJS.Timeout | undefined;
    const finish = () => {
      clearTimeout(timer);
      clearInterval(feeding);
      socket.destroy();
      done({ status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? 0), text, closed, ms: Date.now() - started });
    };
    const timer = setTimeout(finish, waitMs);
    socket.on('data', data => {
      text += data.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      closed = true;
      finish();
    });
    socket.on('connect', () => {
      if (everyMs > 0) {
        let next = 0;
        feeding = setInterval(() => socket.write(chunks[next++ % chunks.length]!), everyMs);
        return;
      }
      for (const chunk of chunks) socket.write(chunk);
      if (half) socket.end();
    });
  });
}
