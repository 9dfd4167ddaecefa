import { setTimeout as pause } from 'node:timers/promises';
import pgListen, { type Subscriber } from 'pg-listen';
import { whyUnreachable } from './errors.ts';
import { listenerConfig } from './listen.ts';

export type Listener = {
  /** Waits for what is under way, two seconds at most. */
  close(): Promise<void>;
};

/** What the owner is told. Each connection has a number: `lost` follows `connected` of the same one. */
export type ListenerEvents = {
  connected(connection: number): void;
  /** The connection ended, or could not be made; another one is tried after `retryInMs`. */
  lost(reason: string, retryInMs: number): void;
};

const retryAfter = (failures: number) => Math.min(100 * 2 ** failures, 5_000);
const isReadOnly = (message: string) => /recovery|standby/.test(message);

/**
 * Hears notifications on `channels`, for as long as the process runs. pg-listen reconnects by itself, to where it was before, and
 * gives up for good when LISTEN is refused after that, as a standby does. So it is told not to, and each connection gets a new
 * subscriber here: the host is chosen anew, and no refusal is the last word.
 */
export function createListener(
  url: string,
  channels: Readonly<Record<string, () => void>>,
  { connected, lost }: ListenerEvents,
): Listener {
  const closing = new AbortController();
  const { signal } = closing;
  const closed = new Promise<void>(done => signal.addEventListener('abort', () => done(), { once: true }));

  /** One connection, until it ends. Returns whether it had been made, and throws why it ended. */
  async function listen(connection: number, made: () => void): Promise<void> {
    let subscriber: Subscriber<Record<string, string>> | undefined;
    try {
      const target = await listenerConfig(url);
      if (signal.aborted) return;
      subscriber = pgListen.default<Record<string, string>>(target, {
        parse: text => text,
        retryLimit: 1,
        paranoidChecking: 60_000,
      });
      const { events, notifications } = subscriber;
      const broken = new Promise<never>((_, reject) => events.on('error', reject));
      broken.catch(() => {});
      for (const [channel, heard] of Object.entries(channels)) notifications.on(channel, heard);
      const opened = subscriber;
      const start = async () => {
        await opened.connect();
        for (const channel of Object.keys(channels)) await opened.listenTo(channel);
        made();
        connected(connection);
      };
      await Promise.race([Promise.all([start(), broken]), closed]);
    } finally {
      const ended = subscriber?.close();
      await Promise.race([ended?.catch(() => {}), pause(2_000, undefined, { ref: false })]);
    }
  }

  async function listenAlways(): Promise<void> {
    for (let connection = 1, failures = 0; !signal.aborted; connection++) {
      try {
        await listen(connection, () => {
          failures = 0;
        });
      } catch (error) {
        const { message } = error as Error;
        // A standby becomes a primary at a moment that nothing announces.
        const retryInMs = isReadOnly(message) ? 500 : retryAfter(failures++);
        lost(whyUnreachable(error) ?? message, retryInMs);
        await pause(retryInMs, undefined, { signal }).catch(() => {});
      }
    }
  }

  const listening = listenAlways();
  return {
    async close() {
      closing.abort();
      await Promise.race([listening, pause(2_500, undefined, { ref: false })]);
    },
  };
}
