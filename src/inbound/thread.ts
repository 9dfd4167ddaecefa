import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type { Config } from '../config.ts';
import { createLog, type Log } from '../log.ts';
import { countInbound } from '../metrics.ts';
import { type ReceiveConfig, receive } from './service.ts';

const flushEveryMs = 1000;
type Start = { collectaInbound: ReceiveConfig; logLevel: Config['logLevel'] };
type Message = { listening: number } | { answered: [status: number, times: number][] } | { done: true };

/**
 * Does what `receive` does, in its own thread, so that reading and parsing large bodies does not delay deliveries in
 * the same process. Resolves when `signal` has aborted and everything under way is done. Throws the error that ended
 * the thread.
 */
export async function receiveInThread(
  { logLevel, ...config }: ReceiveConfig & Pick<Config, 'logLevel'>,
  _log: Log,
  signal: AbortSignal,
  { onListening = () => {} }: { onListening?: (port: number) => void } = {},
): Promise<void> {
  if (signal.aborted) return;
  const start: Start = { collectaInbound: config, logLevel };
  const worker = new Worker(new URL(import.meta.url), { workerData: start, name: 'inbound' });
  const stop = () => worker.postMessage('stop');
  signal.addEventListener('abort', stop, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      worker.on('message', (message: Message) => {
        if ('done' in message) resolve();
        else if ('listening' in message) onListening(message.listening);
        else for (const [status, times] of message.answered) for (let i = 0; i < times; i++) countInbound(status);
      });
      worker.once('error', reject);
      worker.once('exit', code => reject(new Error(`inbound's thread ended with ${code} by itself`)));
    });
  } finally {
    signal.removeEventListener('abort', stop);
    await worker.terminate();
  }
}

async function serveInThread({ collectaInbound: config, logLevel }: Start, port: NonNullable<typeof parentPort>) {
  const stopping = new AbortController();
  const answered = new Map<number, number>();
  const send = (message: Message) => port.postMessage(message);
  const flush = () => {
    if (answered.size > 0) send({ answered: [...answered] });
    answered.clear();
  };
  port.on('message', () => stopping.abort());
  const flushing = setInterval(flush, flushEveryMs);
  try {
    await receive(config, createLog(logLevel), stopping.signal, {
      onListening: listening => send({ listening }),
      onAnswer: status => answered.set(status, (answered.get(status) ?? 0) + 1),
    });
  } finally {
    clearInterval(flushing);
    flush();
  }
  // This message comes last, because the parent ends the thread at once.
  send({ done: true });
}

const start = workerData as Partial<Start> | null;
if (!isMainThread && parentPort && start?.collectaInbound) await serveInThread(start as Start, parentPort);
