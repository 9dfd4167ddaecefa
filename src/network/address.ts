import net from 'node:net';
import ipaddr from 'ipaddr.js';

/** A block of addresses, with the name that error messages give it. */
export type Range = { name: string; cidr: string };

/**
 * All addresses that are not plain global unicast. These are the ranges of IANA's IPv4 and IPv6 special-purpose
 * registries, and every block of the IPv6 address space registry except 2000::/3, so that IPv6 is denied by default. No
 * range lies within another.
 */
export const specialRanges: readonly Range[] = Object.entries({
  'this network': '0.0.0.0/8',
  private: '10.0.0.0/8 172.16.0.0/12 192.168.0.0/16',
  'carrier-grade NAT': '100.64.0.0/10',
  loopback: '127.0.0.0/8',
  'the Azure platform': '168.63.129.16/32',
  'link-local (cloud metadata)': '169.254.0.0/16 fe80::/10',
  'IETF protocol assignments (Teredo, ORCHID)': '192.0.0.0/24 2001::/23',
  documentation: '192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/16',
  AS112: '192.31.196.0/24 192.175.48.0/24 2620:4f:8000::/48',
  AMT: '192.52.193.0/24',
  '6to4': '192.88.99.0/24 2002::/16',
  benchmarking: '198.18.0.0/15',
  multicast: '224.0.0.0/4 ff00::/8',
  'reserved or broadcast': '240.0.0.0/4',
  'loopback, unspecified, IPv4-compatible or NAT64': '::/8',
  'discard-only or unassigned': '100::/8',
  unassigned:
    '200::/7 400::/6 800::/5 1000::/4 4000::/3 6000::/3 8000::/3 a000::/3 c000::/3 e000::/4 f000::/5 f800::/6 fe00::/9',
  '6bone': '3ffe::/16',
  'unique local': 'fc00::/7',
  'site-local': 'fec0::/10',
  // ISATAP marks the interface id under any prefix, so `within` compares these two with the last 64 bits only.
  ISATAP: '::5efe:0:0/96 ::200:5efe:0:0/96',
}).flatMap(([name, cidrs]) => cidrs.split(' ').map(cidr => ({ name, cidr })));

/** The well-known prefix of NAT64 (RFC 6052). An address in it is judged by the IPv4 address that it contains. */
const wellKnownNat64 = '64:ff9b::/96';
const nat64Lengths = [32, 40, 48, 56, 64, 96];

export type Address = ipaddr.IPv4 | ipaddr.IPv6;
export type Network = Range & { network: [Address, number] };
export const parseRange = (range: Range): Network => ({ ...range, network: ipaddr.parseCIDR(range.cidr) });
export const specialNetworks = specialRanges.map(parseRange);

// net.isIP is asked first, because ipaddr.js reads 010.0.0.1 as 8.0.0.1. An IPv4-mapped address becomes the IPv4 one.
export const parseAddress = (text: string): Address | null =>
  net.isIP(text) === 0 || text.includes('%') ? null : ipaddr.process(text);

/** Whether an address lies in a network. An IPv4 address never lies in an IPv6 network, and vice versa. */
export function within(address: Address, { name, network }: Network): boolean {
  if (address.kind() !== network[0].kind()) return false;
  const parts = name === 'ISATAP' ? [0, 0, 0, 0, ...(address as ipaddr.IPv6).parts.slice(4)] : null;
  return ((parts ? new ipaddr.IPv6(parts) : address) as ipaddr.IPv6).match(network as [ipaddr.IPv6, number]);
}

/** Parses NAT64 prefixes (CIDRs) and adds the well-known one. Throws if RFC 6052 does not allow a prefix. */
export function parseNat64(prefixes: readonly string[]): Network[] {
  return [wellKnownNat64, ...prefixes].map(cidr => {
    const [address = '', bits] = cidr.split('/');
    if (
      !net.isIPv6(address) ||
      address.includes('%') ||
      !nat64Lengths.includes(Number(bits)) ||
      !ipaddr.isValidCIDR(cidr)
    )
      throw new Error(`not a NAT64 prefix, which is an IPv6 network of ${nat64Lengths.join(', ')} bits: ${cidr}`);
    return parseRange({ name: 'NAT64', cidr });
  });
}

/** Whether `parseNat64` accepts the text. */
export function isNat64Prefix(text: string): boolean {
  try {
    return parseNat64([text]).length > 0;
  } catch {
    return false;
  }
}

/**
 * The IPv4 address that a NAT64 gateway translates `address` to, or `address` itself if it is in none of the prefixes.
 */
export function throughNat64(address: Address, prefixes: readonly Network[]): Address {
  const prefix = prefixes.find(network => within(address, network));
  if (prefix === undefined) return address;
  // RFC 6052, section 2.2: the four bytes of the IPv4 address follow the prefix, and skip the ninth byte of the
  // address.
  const bytes = address.toByteArray().filter((_, index) => prefix.network[1] === 96 || index !== 8);
  const start = prefix.network[1] / 8;
  return ipaddr.fromByteArray(bytes.slice(start, start + 4));
}

const wellKnownPrefixes = parseNat64([]);

/**
 * Whether a text is an address of plain global unicast, which means that it lies in none of `ranges`. IPv4-mapped and
 * NAT64 addresses are judged by the IPv4 address inside. False for a host name and for an address with a zone id.
 */
export function isPublicAddress(address: string, ranges: readonly Range[] = specialRanges): boolean {
  const given = parseAddress(address);
  const parsed = given && throughNat64(given, wellKnownPrefixes);
  const networks = ranges === specialRanges ? specialNetworks : ranges.map(parseRange);
  return parsed !== null && !networks.some(network => within(parsed, network));
}
