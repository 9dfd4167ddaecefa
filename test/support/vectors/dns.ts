import type { DnsAnswer, DnsQuery, DnsRecord } from '../fake-dns.ts';

/**
 * The "public" addresses of the tests, allowed by CIDR. 127.0.0.1 and ::1 are forbidden and have listeners that count
 * requests.
 */
export const good = '127.0.0.2';
export const otherGood = '127.0.0.3';
/** This address is allowed too, but nothing listens there. */
export const dead = '127.0.0.4';
export const forbidden = '127.0.0.1';
export const lookupTimeoutMs = 1_600;

/**
 * `unsent` means blocked or failed, `either` means that or delivered. It is used where resolvers differ and every
 * result is safe.
 */
type Expected = 'delivered' | 'blocked' | 'failed' | 'unsent' | 'either';
export type Situation = {
  name: string;
  answer: (query: DnsQuery) => DnsAnswer;
  /** One delivery for each entry in turn, without caching between them. */
  expect: Expected[];
};

const a = (...addresses: string[]): DnsRecord[] => addresses.map(data => ({ type: 'A', data }));
const aaaa = (...addresses: string[]): DnsRecord[] => addresses.map(data => ({ type: 'AAAA', data }));
const only =
  (v4: DnsAnswer, v6: DnsAnswer = {}) =>
  ({ type }: DnsQuery) =>
    type === 'A' ? v4 : v6;
const alias = (name: string, target: string): DnsRecord => ({ type: 'CNAME', name, data: target });
const at = (name: string, ...addresses: string[]): DnsRecord[] => addresses.map(data => ({ type: 'A', name, data }));
const many = (count: number) => Array.from({ length: count }, (_, i) => `93.184.${(i >> 8) & 255}.${i & 255}`);

const blockedV4 = [
  forbidden,
  '0.0.0.0',
  '10.0.0.1',
  '100.64.0.1',
  '127.255.255.254',
  '168.63.129.16',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.8',
  '192.0.2.1',
  '192.168.1.1',
  '198.18.0.1',
  '224.0.0.1',
  '255.255.255.255',
];
const blockedV6 = [
  '::1',
  '::',
  '::7f00:1',
  '::ffff:127.0.0.1',
  '::ffff:10.0.0.1',
  '64:ff9b::7f00:1',
  '64:ff9b:1::7f00:1',
  '100::1',
  '2001:0:4136:e378:8000:63bf:3fff:fdd2',
  '2001:db8::1',
  '2002:7f00:1::',
  '2606:4700::5efe:7f00:1',
  '2606:4700::200:5efe:7f00:1',
  '3fff::1',
  '4000::1',
  'fc00::1',
  'fe80::1',
  'fec0::1',
  'ff02::1',
];

export const situations: Situation[] = [
  { name: 'good.test', answer: only({ records: a(good) }), expect: ['delivered', 'delivered'] },
  { name: 'first-is-dead.test', answer: only({ records: a(dead, good) }), expect: ['delivered'] },
  { name: 'dead-then-bad.test', answer: only({ records: a(dead, forbidden) }), expect: ['blocked'] },
  { name: '_under-score.test', answer: only({ records: a(good) }), expect: ['delivered'] },
  { name: 'repeated.test', answer: only({ records: a(...Array(40).fill(good)) }), expect: ['delivered'] },
  ...blockedV4.map(
    (ip, i): Situation => ({ name: `v4-${i}.test`, answer: only({ records: a(ip) }), expect: ['blocked'] }),
  ),
  ...blockedV6.map(
    (ip, i): Situation => ({ name: `v6-${i}.test`, answer: only({}, { records: aaaa(ip) }), expect: ['blocked'] }),
  ),
  ...blockedV6.map(
    (ip, i): Situation => ({
      name: `good-and-v6-${i}.test`,
      answer: only({ records: a(good) }, { records: aaaa(ip) }),
      expect: ['blocked'],
    }),
  ),
  { name: 'good-then-bad.test', answer: only({ records: a(good, forbidden) }), expect: ['blocked'] },
  { name: 'bad-then-good.test', answer: only({ records: a(forbidden, good) }), expect: ['blocked'] },
  { name: 'one-bad-of-many.test', answer: only({ records: a(...many(30), forbidden, good) }), expect: ['blocked'] },

  {
    name: 'cname-private.test',
    answer: only({ records: [alias('cname-private.test', 'in.test'), ...at('in.test', forbidden)] }),
    expect: ['blocked'],
  },
  {
    name: 'cname-chain.test',
    answer: only({
      records: [
        alias('cname-chain.test', 'one.test'),
        alias('one.test', 'two.test'),
        alias('two.test', 'three.test'),
        ...at('three.test', '10.0.0.5'),
      ],
    }),
    expect: ['blocked'],
  },
  {
    name: 'cname-v6.test',
    answer: only(
      { records: [alias('cname-v6.test', 'in6.test')] },
      { records: [alias('cname-v6.test', 'in6.test'), { type: 'AAAA', name: 'in6.test', data: '::1' }] },
    ),
    expect: ['blocked'],
  },
  {
    name: 'cname-good.test',
    answer: only({ records: [alias('cname-good.test', 'out.test'), ...at('out.test', good)] }),
    expect: ['delivered'],
  },
  {
    name: 'cname-mixed.test',
    answer: only({ records: [alias('cname-mixed.test', 'both.test'), ...at('both.test', good, forbidden)] }),
    expect: ['blocked'],
  },
  {
    name: 'cname-loop.test',
    answer: ({ name }) => ({ records: [alias(name, name === 'cname-loop.test' ? 'loop.test' : 'cname-loop.test')] }),
    expect: ['failed'],
  },
  { name: 'cname-self.test', answer: ({ name }) => ({ records: [alias(name, name)] }), expect: ['failed'] },
  { name: 'cname-nowhere.test', answer: ({ name }) => ({ records: [alias(name, 'no.test')] }), expect: ['failed'] },

  { name: 'empty.test', answer: only({}), expect: ['failed', 'failed'] },
  { name: 'nxdomain.test', answer: only({ rcode: 3 }, { rcode: 3 }), expect: ['failed'] },
  { name: 'servfail.test', answer: only({ rcode: 2 }, { rcode: 2 }), expect: ['failed'] },
  { name: 'refused.test', answer: only({ rcode: 5 }, { rcode: 5 }), expect: ['failed'] },
  { name: 'notimp.test', answer: only({ rcode: 4 }, { rcode: 4 }), expect: ['failed'] },
  { name: 'formerr.test', answer: only({ rcode: 1 }, { rcode: 1 }), expect: ['failed'] },
  { name: 'no-v6-name.test', answer: only({ records: a(good) }, { rcode: 3 }), expect: ['delivered'] },
  { name: 'v6-servfail.test', answer: only({ records: a(good) }, { rcode: 2 }), expect: ['delivered'] },
  { name: 'v4-servfail.test', answer: only({ rcode: 2 }, { records: aaaa('::1') }), expect: ['blocked'] },

  { name: 'hang.test', answer: only({ hang: true }, { hang: true }), expect: ['failed', 'failed'] },
  { name: 'hang-then-bad.test', answer: only({ hang: true }, { records: aaaa('::1') }), expect: ['blocked'] },
  { name: 'slow.test', answer: only({ records: a(good), delayMs: 100 }), expect: ['delivered'] },
  {
    name: 'too-slow.test',
    answer: only({ records: a(good), delayMs: 5_000 }, { delayMs: 5_000 }),
    expect: ['failed'],
  },
  {
    name: 'lost-packet.test',
    answer: ({ type, nth }) => (nth === 1 ? { hang: true } : only({ records: a(good) })({ type } as DnsQuery)),
    expect: ['delivered'],
  },

  { name: 'garbage.test', answer: () => ({ raw: Buffer.from('no DNS message at all') }), expect: ['failed'] },
  { name: 'nothing.test', answer: () => ({ raw: Buffer.alloc(0) }), expect: ['failed'] },
  { name: 'wrong-id.test', answer: only({ records: a(good), wrongId: true }, { wrongId: true }), expect: ['failed'] },
  {
    name: 'wrong-question.test',
    answer: only({ records: a(good), wrongQuestion: true }, { wrongQuestion: true }),
    expect: ['failed'],
  },
  { name: 'foreign-record.test', answer: only({ records: at('elsewhere.test', forbidden) }), expect: ['unsent'] },
  {
    name: 'additional-poison.test',
    answer: only({ records: a(good), additional: at('additional-poison.test', forbidden) }),
    expect: ['either'],
  },
  {
    name: 'short-record.test',
    answer: only({ records: [{ type: 'A', data: '', rdata: Buffer.from([127, 0, 0]) }] }),
    expect: ['unsent'],
  },
  {
    name: 'long-record.test',
    answer: only({ records: [{ type: 'A', data: '', rdata: Buffer.from([127, 0, 0, 1, 127, 0, 0, 2]) }] }),
    expect: ['unsent'],
  },

  { name: 'truncated-good.test', answer: only({ records: a(good), truncate: true }), expect: ['delivered'] },
  {
    name: 'truncated-bad.test',
    answer: ({ type, transport }) =>
      type === 'A' ? { records: a(transport === 'tcp' ? forbidden : good), truncate: true } : {},
    expect: ['blocked'],
  },
  {
    name: 'truncated-closed.test',
    answer: ({ transport }) => (transport === 'tcp' ? { close: true } : { truncate: true }),
    expect: ['failed'],
  },
  { name: 'sixty-five.test', answer: only({ records: a(...many(65)) }), expect: ['unsent'] },
  { name: 'four-thousand.test', answer: only({ records: a(...many(4_000), good) }), expect: ['unsent'] },
  {
    // This is more than a DNS message can hold: the header claims answers that are cut off.
    name: 'ten-thousand.test',
    answer: only({ records: a(...many(9_999), forbidden), claimed: 10_000 }),
    expect: ['unsent'],
  },

  {
    name: 'rebind-between.test',
    answer: ({ type, nth }) => (type === 'A' ? { records: a(nth === 1 ? good : forbidden) } : {}),
    expect: ['delivered', 'blocked', 'blocked'],
  },
  {
    name: 'rebind-back.test',
    answer: ({ type, nth }) => (type === 'A' ? { records: a(nth === 1 ? forbidden : good) } : {}),
    expect: ['blocked', 'delivered'],
  },
  {
    name: 'rebind-alternating.test',
    answer: ({ type, nth }) => (type === 'A' ? { records: a(nth % 2 === 1 ? good : forbidden) } : {}),
    expect: ['delivered', 'blocked', 'delivered', 'blocked', 'delivered', 'blocked'],
  },
  {
    name: 'rebind-v6.test',
    answer: ({ type, nth }) => (type === 'A' ? { records: a(good) } : nth === 1 ? {} : { records: aaaa('::1') }),
    expect: ['delivered', 'blocked'],
  },
  {
    name: 'moved.test',
    answer: ({ type, nth }) => (type === 'A' ? { records: a(nth === 1 ? good : otherGood) } : {}),
    expect: ['delivered', 'delivered'],
  },
  {
    name: 'gone.test',
    answer: ({ type, nth }) => (type === 'A' && nth === 1 ? { records: a(good) } : { rcode: 3 }),
    expect: ['delivered', 'failed'],
  },
];
