import { createInterface } from 'node:readline';
import { createGuard, type Guard } from '../outbound/destination.ts';

const atOnce = 16;

/** Reads URLs, one per line, and skips blank lines. */
export async function* readUrls(input: NodeJS.ReadableStream): AsyncGenerator<string> {
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY }))
    if (line.trim() !== '') yield line.trim();
}

/**
 * Checks URLs by the runner's rules, and connects to nothing but a DNS server. Writes one line for each URL, in the
 * same order: `allowed`, `blocked`, or `failed` if its host has no address now; the URL; its addresses (`-` if none is
 * known); and the reason if it is not allowed. Returns the exit status: 1 if a URL is not allowed.
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
      const outcome = verdict.allowed ? 'allowed' : verdict.unresolved ? 'failed' : 'blocked';
      const line = [outcome, shown, verdict.addresses.join(',') || '-'];
      write((verdict.allowed ? line : [...line, verdict.reason]).join(' '));
    });
    if (pending >= atOnce) await written;
  }
  await written;
  return status;
}

/** Does what `checkUrls` does, with a guard for the configuration. Throws if the configuration is malformed. */
export function checkUrl(
  config: { allowHttp: boolean; allowDestinations: readonly string[]; dnsServers: readonly string[] },
  urls: Iterable<string> | AsyncIterable<string>,
  write: (line: string) => void,
): Promise<number> {
  return checkUrls(urls, createGuard(config), write);
}
