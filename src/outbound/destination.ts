import dns from 'node:dns';
import net from 'node:net';
import ipaddr from 'ipaddr.js';
import {
  type Network,
  parseAddress,
  parseNat64,
  parseRange,
  specialNetworks,
  throughNat64,
  within,
} from '../network/address.ts';

export type Allowed = {
  allowed: true;
  url: URL;
  origin: string;
  path: string;
  addresses: string[];
  lookupMs: number;
};
/** `unresolved`: the host has no address now. This is a failure of the network, and no refusal of the destination. */
export type Refused = { allowed: false; reason: string; addresses: string[]; unresolved?: true };
export type Verdict = Allowed | Refused;
export type Guard = { check(url: string): Promise<Verdict> };

// The list of https://fetch.spec.whatwg.org/#port-blocking. collecta.check_endpoint has it too, so that such a URL is
// refused when it is saved. Tests compare both with the list that undici has for fetch.
const blockedPorts = new Set(
  `0 1 7 9 11 13 15 17 19 20 21 22 23 25 37 42 43 53 69 77 79 87 95 101 102 103 104 109 110 111 113 115 117 119 123 135
  137 139 143 161 179 389 427 465 512 513 514 515 526 530 531 532 540 548 554 556 563 587 601 636 989 990 993 995 1719
  1720 1723 2049 3659 4045 4190 5060 5061 6000 6566 6665 6666 6667 6668 6669 6679 6697 10080`.split(/\s+/),
);
const maxAddresses = 64;
const maxCached = 10_000;
const longestLookupMs = 60_000;

function parseUrl(text: string, allowHttp: boolean): URL | string {
  const authority = /^https?:\/\/([^/?#]+)/i.exec(text)?.[1];
  if (authority === undefined || !URL.canParse(text)) return 'not an http or https URL';
  if (/[\s\\\x00-\x1f\x7f]/.test(text)) return 'white space, a control character or a backslash in the URL';
  if (authority.includes('@')) return 'user information in the URL';
  if (authority.includes('%')) return 'a zone id or percent-encoding in the host';
  if (text.includes('#')) return 'a fragment in the URL';
  const url = new URL(text);
  if (url.protocol === 'http:' && !allowHttp) return 'only https is allowed';
  return blockedPorts.has(url.port) ? `port ${url.port} is blocked` : url;
}

/**
 * The destination guard. `check` never throws. It returns the URL and the only addresses that may be connected to, or
 * the reason of the refusal. It refuses a host whose look-up fails, a host without an address or with more than 64, and
 * a host with a special-purpose address, also if its other addresses are public. `allowDestinations` (CIDRs, addresses,
 * host names) exempts exactly these from the rule about addresses; a malformed entry throws.
 *
 * Look-ups are shared and kept for `cacheMs`. One host has one look-up in flight at a time, because `dns.lookup` has
 * four threads for the whole process; `dnsServers` (`host:port`) are asked without a thread. `lookupMs` is 0 if the
 * look-up was already there.
 */
export function createGuard(options: {
  allowHttp: boolean;
  allowDestinations: readonly string[];
  dnsServers: readonly string[];
  nat64Prefixes?: readonly string[];
  lookupTimeoutMs?: number;
  cacheMs?: number;
}): Guard {
  const { allowHttp, dnsServers, lookupTimeoutMs = 5_000, cacheMs = 5_000 } = options;
  const nat64Networks = parseNat64(options.nat64Prefixes ?? []);
  const allowedNetworks: Network[] = [];
  const allowedHosts = new Set<string>();
  for (const entry of options.allowDestinations) {
    const [address, bits = net.isIPv6(entry) ? 128 : 32, more] = entry.split('/');
    const cidr = `${address}/${bits}`;
    if (more === undefined && parseAddress(address!) !== null && ipaddr.isValidCIDR(cidr))
      allowedNetworks.push(parseRange({ name: 'allowed', cidr }));
    else if (/^[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?$/i.test(entry) && !/(^|\.)\d+$/.test(entry))
      allowedHosts.add(entry.toLowerCase());
    else throw new Error(`neither an address, a CIDR nor a host name: ${entry}`);
  }
  // Both tries end before our own limit does, on Node and on Deno.
  const resolver = new dns.promises.Resolver({ timeout: Math.ceil(lookupTimeoutMs / 4), tries: 2 });
  if (dnsServers.length > 0) resolver.setServers(dnsServers);

  async function resolve(host: string): Promise<string[]> {
    if (dnsServers.length === 0) return (await dns.promises.lookup(host, { all: true })).map(({ address }) => address);
    const [v4, v6] = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)]);
    if (v4.status === 'rejected' && v6.status === 'rejected')
      throw v4.reason.code === 'ENODATA' ? v6.reason : v4.reason;
    return [v4, v6].flatMap(answer => (answer.status === 'fulfilled' ? answer.value : []));
  }

  type Lookup = { until: number; answer: Promise<{ addresses: string[]; reason: string | null; ms: number }> };
  const lookups = new Map<string, Lookup>();
  const verdicts = new Map<string, { lookup: Lookup | null; verdict: Promise<Verdict> }>();
  const remember = <T>(cache: Map<string, T>, key: string, value: T): T => {
    if (cache.size >= maxCached) cache.delete(cache.keys().next().value as string);
    cache.set(key, value);
    return value;
  };

  function lookUp(host: string): Lookup {
    const cached = lookups.get(host);
    const started = performance.now();
    if (cached !== undefined && cached.until > started) return cached;
    const failed = (reason: string) => ({ addresses: [], reason, ms: performance.now() - started });
    const lookup = { until: started + longestLookupMs } as Lookup;
    lookup.answer = new Promise(done => {
      const limit = setTimeout(() => done(failed(`look-up timed out after ${lookupTimeoutMs} ms`)), lookupTimeoutMs);
      resolve(host)
        .then(
          found => done({ addresses: [...new Set(found)], reason: null, ms: performance.now() - started }),
          error => done(failed(`look-up failed: ${error?.code ?? error?.name}`)),
        )
        .finally(() => {
          clearTimeout(limit);
          const now = performance.now();
          lookup.until = now - started < lookupTimeoutMs ? now + cacheMs : now;
        });
    });
    return remember(lookups, host, lookup);
  }

  function refusal(address: string): string | null {
    const given = parseAddress(address);
    if (given === null) return `${address} is not a plain address`;
    // The gateway connects to the IPv4 address inside, so that one is judged. An allow-list entry for the prefix opens
    // nothing.
    const parsed = throughNat64(given, nat64Networks);
    const special = specialNetworks.find(range => within(parsed, range));
    if (special === undefined || allowedNetworks.some(network => within(parsed, network))) return null;
    const inside = parsed === given ? '' : `NAT64 for ${parsed}, which is `;
    return `${address} is ${inside}${special.name} (${special.cidr})`;
  }

  async function judge(url: URL, host: string, lookup: Lookup | null): Promise<Verdict> {
    const { addresses, reason, ms } =
      lookup === null ? { addresses: [host], reason: null, ms: 0 } : await lookup.answer;
    const missing = reason ?? (addresses.length === 0 ? 'the host has no address' : null);
    if (missing !== null) return { allowed: false, reason: missing, addresses, unresolved: true };
    let why: string | null = null;
    if (addresses.length > maxAddresses) why = `the host has ${addresses.length} addresses`;
    else if (!allowedHosts.has(host.replace(/\.$/, '')))
      why = addresses.map(refusal).find(refused => refused !== null) ?? null;
    if (why !== null) return { allowed: false, reason: why, addresses: addresses.slice(0, maxAddresses) };
    return { allowed: true, url, origin: url.origin, path: url.pathname + url.search, addresses, lookupMs: ms };
  }

  function check(text: string): Promise<Verdict> {
    const cached = verdicts.get(text);
    if (cached !== undefined && (cached.lookup === null || cached.lookup.until > performance.now()))
      return cached.verdict;
    const url = parseUrl(text, allowHttp);
    if (typeof url === 'string') return Promise.resolve({ allowed: false, reason: url, addresses: [] });
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const lookup = net.isIP(host) ? null : lookUp(host);
    const entry = remember(verdicts, text, { lookup, verdict: judge(url, host, lookup) });
    entry.verdict.then(verdict => {
      entry.verdict = Promise.resolve(verdict.allowed ? { ...verdict, lookupMs: 0 } : verdict);
    });
    return entry.verdict;
  }
  return { check };
}
