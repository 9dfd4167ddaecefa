import { createInterface } from 'node:readline';
import { createGuard, type Guard } from '../outbound/destination.ts';

const atOnce = 16;

/** One URL a line, blank lines left out: what `check-url` reads from standard input. */
export async function* readUrls(input: NodeJS.ReadableStream): AsyncGenerator<string> {
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY }))
    if (line.trim() !== '') yield line.trim();
}

/**
 * Judges URLs as the runner would, without connecting to anything but a DNS server. Writes one line for each, in the
 * order given: `allowed` or `blocked`, the URL, its addresses (`-` where none is known), the reason. Returns the exit
 * status: 1 if any is blocked.
 */
export async function checkUrls(
  urls: Iterable<string> | AsyncIterable<string>,
  guard: Guard,
  write: (line: string) => void,
): Promise<number> {
  let status = 0;
  let pending = 0;
  let written = Promise.resolve();
  for await (const url of urls) {
    const checked = guard.check(url);
    pending++;
    written = written.then(async () => {
      const verdict = await checked;
      pending--;
      if (!verdict.allowed) status = 1;
      const shown = url.replace(/[\x00-\x20\x7f-\x9f]/g, encodeURIComponent);
      const line = [verdict.allowed ? 'allowed' : 'blocked', shown, verdict.addresses.join(',') || '-'];
      write((verdict.allowed ? line : [...line, verdict.reason]).join(' '));
    });
    if (pending >= atOnce) await written;
  }
  await written;
  return status;
}

/** `collecta-webhooks check-url`: the same over a guard made from the configuration. Throws for a malformed one. */
export function checkUrl(
  config: { allowHttp: boolean; allowDestinations: readonly string[]; dnsServers: readonly string[] },
  urls: Iterable<string> | AsyncIterable<string>,
  write: (line: string) => void,
): Promise<number> {
  return checkUrls(urls, createGuard(config), write);
}
