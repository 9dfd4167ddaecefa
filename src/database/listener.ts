import { setTimeout as pause } from 'node:timers/promises';
import pgListen, { type Subscriber } from 'pg-listen';
import { whyUnreachable } from './errors.ts';
import { listenerConfig } from './listen.ts';

export type Listener = {
  /** Ends the connection. Waits at most 2.5 seconds for it to end. */
  close(): Promise<void>;
};

/** Callbacks for the code that created the listener. */
export type ListenerEvents = {
  /** The session listens on all channels. Connections are numbered from 1. */
  connected(connection: number): void;
  /** The connection ended, or could not be opened. The next one is tried after `retryInMs`. */
  lost(reason: string, retryInMs: number): void;
};

const retryAfter = (failures: number) => Math.min(100 * 2 ** failures, 5_000);
const isReadOnly = (message: string) => /recovery|standby/.test(message);

/**
 * Listens on `channels` until it is closed, and calls the channel's function for each notification.
 *
 * pg-listen could reconnect by itself, but only to the same host, and it gives up for good if the server then refuses
 * LISTEN, as a standby does. So it is told not to reconnect. Each connection gets a new subscriber here, for a host
 * that is chosen again, and a refused LISTEN is tried again like any other failure.
 */
export function createListener(
  url: string,
  channels: Readonly<Record<string, () => void>>,
  { connected, lost }: ListenerEvents,
): Listener {
  const closing = new AbortController();
  const { signal } = closing;
  const closed = new Promise<void>(done => signal.addEventListener('abort', () => done(), { once: true }));

  /**
   * Opens one connection, and returns when the listener is closed. Throws the reason if the connection ends earlier or
   * cannot be opened.
   */
  async function listen(connection: number, onOpen: () => void): Promise<void> {
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
      for (const [channel, onNotification] of Object.entries(channels)) notifications.on(channel, onNotification);
      const opened = subscriber;
      const start = async () => {
        await opened.connect();
        for (const channel of Object.keys(channels)) await opened.listenTo(channel);
        onOpen();
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
        // Nothing announces that a standby was promoted, so a standby is asked again soon.
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
