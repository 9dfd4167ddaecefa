import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Config } from '../config.ts';
import { connect } from '../database/connect.ts';
import { openSessions } from '../database/pool.ts';
import type { Rest } from '../database/rest.ts';
import { waitUntilInstalled } from '../install/wait.ts';
import type { Log } from '../log.ts';
import { countInbound } from '../metrics.ts';
import { createInbound } from './handler.ts';
import { createReceiver } from './receive.ts';
import { type Answer, createInboundServer } from './server.ts';

const maintainEveryMs = 10_000;
/** The same for a database that may be idle for a long time. */
const idleUpkeepMs = 600_000;
const connections = 10;

/** The settings that inbound uses. */
export type ReceiveConfig = Pick<
  Config,
  'databaseUrl' | 'listenUrl' | 'host' | 'port' | 'trustedProxies' | 'pollIntervalMs' | 'stopTimeoutMs'
> & { secretKey?: string | undefined; publicUrl?: string | undefined };

export type InboundOptions = { rest?: Rest | undefined; idle?: boolean; listens?: boolean };

/** Inbound of one database. */
export type Inbound = {
  answer: Answer;
  /** Says that the database has changed. Endpoints are read again, and requests that wait for a retry are run. */
  changed(): void;
  close(): Promise<void>;
};

/**
 * Opens inbound for a database in which collecta is installed. With `idle`, the database may be idle for a long time,
 * so it keeps no session open, and checks every ten minutes for changes of which it was not notified. With
 * `listens: false` the caller listens and calls `changed`. With `rest` it is idle and does not listen, and checks when
 * the longest rest has passed and when it is told that there is work.
 */
export function openInbound(
  config: Pick<
    ReceiveConfig,
    'databaseUrl' | 'listenUrl' | 'trustedProxies' | 'pollIntervalMs' | 'secretKey' | 'publicUrl'
  >,
  log: Log,
  { rest, idle = rest !== undefined, listens = rest === undefined }: InboundOptions = {},
): Inbound {
  const closing = new AbortController();
  const { signal } = closing;
  const sql = openSessions(config.databaseUrl, {
    connect_timeout: 5,
    purpose: 'receive',
    ...(idle && { idle_timeout: 3 }),
  });
  const receiver = createReceiver({ sql, log, connections, secretKey: config.secretKey });
  let wake = () => {};
  const changed = () => {
    receiver.forget();
    wake();
  };
  const listener = listens
    ? connect(config.listenUrl, { max: 1, idle_timeout: 0, purpose: 'receive listen' })
    : undefined;
  // The listener reconnects by itself. Until then, and behind a pooler, changes are seen when the cache expires.
  listener?.listen('collecta_inbound', changed, changed).catch(error => {
    log.warn('inbound hears no notifications', { code: (error as { code?: string }).code });
  });

  rest?.onWake(changed, signal);

  async function keepUp(): Promise<void> {
    const lookEveryMs = rest?.longestMs ?? (idle ? idleUpkeepMs : Math.max(config.pollIntervalMs, 1000));
    for (let maintained = 0; !signal.aborted; ) {
      try {
        await receiver.runRetries(signal);
        if (Date.now() - maintained >= maintainEveryMs) {
          await receiver.maintain();
          maintained = Date.now();
        }
      } catch (error) {
        log.warn('inbound upkeep failed', { code: (error as { code?: string }).code });
      }
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, lookEveryMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
        if (signal.aborted) wake();
      });
    }
  }
  const keepingUp = keepUp();

  const answer = createInbound({
    receiver,
    log,
    trustedProxies: config.trustedProxies,
    publicUrl: config.publicUrl,
  });
  return {
    answer: !rest
      ? answer
      : async request => {
          const answered = await answer(request);
          // The written rows may cause deliveries.
          if (answered.status < 300) rest.noteWork();
          return answered;
        },
    changed,
    async close() {
      closing.abort();
      wake();
      await keepingUp;
      await receiver.maintain().catch(() => {});
      await Promise.allSettled([sql.end({ timeout: 5 }), listener?.end({ timeout: 1 })]);
    },
  };
}

/**
 * Serves `answer` on the host and port until `signal` aborts. Then it accepts no more connections, finishes the
 * requests under way within `stopTimeoutMs`, and resolves. `onListening` gets the port. Throws if the port cannot be
 * opened.
 */
export async function serveInbound(
  { host, port: wanted, stopTimeoutMs }: Pick<ReceiveConfig, 'host' | 'port' | 'stopTimeoutMs'>,
  answer: Answer,
  log: Log,
  signal: AbortSignal,
  onListening: (port: number) => void = () => {},
  onAnswer: (status: number) => void = countInbound,
): Promise<void> {
  if (signal.aborted) return;
  const server = createInboundServer(answer, log, onAnswer);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(wanted, host, resolve);
    });
    const { port } = server.address() as AddressInfo;
    log.info('inbound listens', { host, port });
    onListening(port);
    if (!signal.aborted) await once(signal, 'abort');
    await stop(server, stopTimeoutMs);
  } finally {
    server.close();
    log.info('inbound stopped');
  }
}

/**
 * Serves inbound of one database until `signal` aborts. It waits until collecta is installed. Throws if the port cannot
 * be opened.
 */
export async function receive(
  config: ReceiveConfig,
  log: Log,
  signal: AbortSignal,
  {
    onListening = () => {},
    onAnswer = countInbound,
    rest,
  }: { onListening?: (port: number) => void; onAnswer?: (status: number) => void; rest?: Rest | undefined } = {},
): Promise<void> {
  await waitUntilInstalled(config.databaseUrl, log, signal);
  if (signal.aborted) return;
  const inbound = openInbound(config, log, { rest });
  try {
    await serveInbound(config, inbound.answer, log, signal, onListening, onAnswer);
  } finally {
    await inbound.close();
  }
}

async function stop(server: Server, timeoutMs: number): Promise<void> {
  const closed = new Promise(resolve => server.close(resolve));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), timeoutMs);
  await closed;
  clearTimeout(timer);
}
