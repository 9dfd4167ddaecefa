import { execFile } from 'node:child_process';
import http from 'node:http';
import type net from 'node:net';
import { promisify } from 'node:util';
import ipaddr from 'ipaddr.js';
import t from 'tap';
import { isPublicAddress, specialRanges } from '../../src/network/address.ts';
import { createGuard } from '../../src/outbound/destination.ts';
import { type DnsAnswer, startFakeDns } from '../support/fake-dns.ts';
import { hostilities, startHostileReceiver } from '../support/hostile-receiver.ts';
import { dead, forbidden, good, otherGood, situations } from '../support/vectors/dns.ts';
import { type Plan, type Report, runVectors } from '../support/vectors/run.ts';
import { allowedUrls, blockedUrls } from '../support/vectors/urls.ts';

const guardFor = (allowDestinations: string[] = [], more: Partial<Parameters<typeof createGuard>[0]> = {}) =>
  createGuard({ allowHttp: false, allowDestinations, dnsServers: [], ...more });
const reason = async (url: string, guard = guardFor()) => {
  const verdict = await guard.check(url);
  return verdict.allowed ? null : verdict.reason;
};

t.test('each blocked range is needed: without it, one of its addresses is allowed', async t => {
  for (const range of specialRanges) {
    const [network, bits] = ipaddr.parseCIDR(range.cidr);
    const bytes = network.toByteArray();
    const size = bytes.length * 8;
    const inRange = (fill: number) => {
      const copy = bytes.map((byte, i) => {
        const fixed = Math.min(8, Math.max(0, bits - i * 8));
        return (byte & (0xff << (8 - fixed))) | (fill & (0xff >> fixed));
      });
      // An interface id is only part of an address, so it is searched for under a global prefix.
      if (range.name === 'ISATAP') copy.splice(0, 8, 0x26, 0x06, 0x47, 0, 0, 0, 0, 0);
      return ipaddr.fromByteArray(copy).toString();
    };
    const without = specialRanges.filter(other => other !== range);
    const members = bits === size ? [inRange(0)] : [0x01, 0x7e, 0xff].map(inRange);
    for (const address of members) t.notOk(isPublicAddress(address), `${address} is in ${range.cidr}`);
    t.ok(
      members.some(address => isPublicAddress(address, without)),
      `only ${range.cidr} (${range.name}) refuses it`,
    );
  }
});

t.test('every address that ipaddr.js classifies as special is refused too', async t => {
  let compared = 0;
  for (const kind of ['IPv4', 'IPv6'] as const)
    for (const ranges of Object.values(
      (ipaddr[kind].prototype as unknown as { SpecialRanges: Record<string, unknown[]> }).SpecialRanges,
    ))
      for (const [network, bits] of (Array.isArray(ranges[0]) ? ranges : [ranges]) as [ipaddr.IPv6, number][]) {
        // An IPv4-mapped address is judged by its IPv4 address.
        if (network.toString() === '::ffff:0:0') continue;
        const last = network.toByteArray().map((byte, i) => byte | (0xff >> Math.min(8, Math.max(0, bits - i * 8))));
        for (const address of [network, ipaddr.fromByteArray(last)]) {
          t.notOk(isPublicAddress(address.toString()), address.toString());
          compared++;
        }
      }
  t.ok(compared > 60);
  let [publicV4, publicV6] = [0, 0];
  let state = 12_345;
  const random = () => {
    state = (state * 48_271) % 2_147_483_647;
    return state & 0xff;
  };
  for (let i = 0; i < 5_000; i++) {
    const v4 = ipaddr.fromByteArray(Array.from({ length: 4 }, () => random() ^ (random() >> 3)));
    if (isPublicAddress(v4.toString()) && v4.range() !== 'unicast') t.fail(v4.toString());
    publicV4 += Number(isPublicAddress(v4.toString()));
    const v6 = ipaddr.fromByteArray(Array.from({ length: 16 }, (_, j) => (j === 0 && i % 2 ? 0x20 : random())));
    if (isPublicAddress(v6.toString()) && v6.range() !== 'unicast') t.fail(v6.toString());
    publicV6 += Number(isPublicAddress(v6.toString()));
  }
  t.ok(publicV4 > 3_000 && publicV6 > 1_500, 'and most ordinary addresses pass');
  for (const wrong of ['', 'localhost', '010.0.0.1', '8.8.8', '8.8.8.8/32', 'fe80::1%lo', '2606:4700::1%eth0', '[::1]'])
    t.notOk(isPublicAddress(wrong), `${wrong} is no address`);
});

t.test('only https is allowed, unless http is enabled', async t => {
  t.equal(await reason('http://1.1.1.1/'), 'only https is allowed');
  t.equal(await reason('https://1.1.1.1/'), null);
  t.equal(await reason('http://1.1.1.1/', guardFor([], { allowHttp: true })), null);
});

t.test('the ports that fetch blocks are refused', async t => {
  const { badPorts } = (await import('undici/lib/web/fetch/constants.js' as string)).default;
  t.ok(badPorts.length > 80);
  for (const port of badPorts) t.equal(await reason(`https://1.1.1.1:${port}/`), `port ${port} is blocked`);
  for (const port of [443, 444, 8080, 8443, 65_535]) t.equal(await reason(`https://1.1.1.1:${port}/`), null);
});

t.test('an allow-list exempts exactly the destinations that it names', async t => {
  const guard = guardFor(['10.1.0.0/16', '192.168.7.7', 'fd00:1::/32', 'Localhost', 'host.example']);
  for (const url of ['https://10.1.2.3/', 'https://[::ffff:10.1.2.3]/', 'https://192.168.7.7/', 'https://[fd00:1::5]/'])
    t.equal(await reason(url, guard), null, url);
  t.equal(await reason('https://localhost/', guard), null);
  t.equal(await reason('https://LOCALHOST/', guard), null);
  for (const url of ['https://10.2.0.1/', 'https://192.168.7.8/', 'https://[fd00:2::5]/', 'https://127.0.0.1/'])
    t.match(await reason(url, guard), / is (private|unique local|loopback)/, url);
  t.match(await reason('https://localhost/'), /is loopback/);
  t.equal(await reason('http://10.1.2.3/', guard), 'only https is allowed', 'an exemption from the address rule alone');
  for (const wrong of [
    '10.0.0.0/33',
    '10.0.0/8',
    'a b',
    'https://a',
    '*.example',
    'a/b',
    '',
    '::1%lo',
    '10.0.0.0/8/8',
    '010.0.0.0/8',
    '10.0.0',
    '10.0.0.0.0',
  ])
    t.throws(() => guardFor([wrong]), /neither an address, a CIDR nor a host name/, wrong);
});

t.test('a NAT64 address is judged by its IPv4 address, even if the prefix is allowed', async t => {
  // Each prefix length of RFC 6052, section 2.4: the same IPv4 address 192.0.2.33 under 2001:db8::.
  const written: [prefix: string, write: (v4: number[]) => string][] = [
    ['64:ff9b::/96', v4 => `64:ff9b::${v4.join('.')}`],
    ['2001:db8::/32', v4 => `2001:db8:${word(v4, 0)}:${word(v4, 2)}::`],
    ['2001:db8:100::/40', v4 => `2001:db8:1${byte(v4[0]!)}:${word(v4, 1)}:${byte(v4[3]!)}::`],
    ['2001:db8:122::/48', v4 => `2001:db8:122:${word(v4, 0)}:${byte(v4[2]!)}:${byte(v4[3]!)}00::`],
    ['2001:db8:122:300::/56', v4 => `2001:db8:122:3${byte(v4[0]!)}:${byte(v4[1]!)}:${word(v4, 2)}::`],
    ['2001:db8:122:344::/64', v4 => `2001:db8:122:344:${byte(v4[0]!)}:${word(v4, 1)}:${byte(v4[3]!)}00::`],
    ['2001:db8:122:344::/96', v4 => `2001:db8:122:344::${v4.join('.')}`],
    ['64:ff9b:1::/96', v4 => `64:ff9b:1::${v4.join('.')}`],
  ];
  const byte = (value: number) => value.toString(16).padStart(2, '0');
  const word = (v4: number[], at: number) => `${byte(v4[at]!)}${byte(v4[at + 1]!)}`;
  for (const [prefix, write] of written) {
    const nat64Prefixes = prefix === '64:ff9b::/96' ? [] : [prefix];
    const guard = guardFor([], { nat64Prefixes });
    const opened = guardFor([prefix], { nat64Prefixes });
    const inside = (v4: string) => `https://[${write(v4.split('.').map(Number))}]/`;
    for (const each of [guard, opened]) {
      t.equal(await reason(inside('93.184.216.34'), each), null, `${prefix}: a public address is allowed`);
      for (const v4 of ['169.254.169.254', '10.0.0.1', '127.0.0.1', '192.168.1.1', '0.0.0.0', '168.63.129.16'])
        t.match(await reason(inside(v4), each), `is NAT64 for ${v4}, which is `, `${prefix}: ${v4} is refused`);
    }
    const local = guardFor(['10.1.0.0/16'], { nat64Prefixes });
    t.equal(
      await reason(inside('10.1.2.3'), local),
      null,
      `${prefix}: an IPv4 entry of the allow-list counts inside too`,
    );
    t.match(await reason(inside('10.2.0.1'), local), /is private/);
  }
  t.match(await reason('https://[64:ff9b:1::808:808]/'), /::\/8/, 'a prefix that nobody named is refused');
  for (const wrong of ['64:ff9b::', '64:ff9b::/95', '10.0.0.0/32', 'x/96', '::1%lo/96', '64:ff9b::/96/96'])
    t.throws(() => guardFor([], { nat64Prefixes: [wrong] }), /not a NAT64 prefix/, wrong);
});

t.test('look-ups are shared and cached, and never repeated while one for the host hangs', async t => {
  let hanging = true;
  const slow = { records: [{ type: 'A' as const, data: good }], delayMs: 30 };
  const dns = await startFakeDns(({ name, type }): DnsAnswer => {
    if (name === 'hang.test') return hanging ? { hang: true } : { records: [{ type: 'A', data: good }] };
    return type === 'A' ? slow : {};
  });
  t.teardown(dns.close);
  const options = { dnsServers: [dns.address], lookupTimeoutMs: 400, cacheMs: 150 };
  const guard = guardFor([good], options);
  const all = await Promise.all(
    Array.from({ length: 200 }, (_, i) => guard.check(`https://shared.test/${i % 3 ? 'a' : i}`)),
  );
  t.ok(all.every(verdict => verdict.allowed && verdict.lookupMs > 0));
  t.equal(dns.asked('shared.test'), 2, 'one A and one AAAA for 200 deliveries');
  const again = await guard.check('https://shared.test/a');
  t.ok(again.allowed && again.lookupMs === 0, 'nothing was waited for');
  t.equal(dns.asked('shared.test'), 2);
  await new Promise(resolve => setTimeout(resolve, 170));
  await guard.check('https://shared.test/a');
  t.equal(dns.asked('shared.test'), 4, 'it is looked up again when the answer has expired');

  const others = Array.from({ length: 50 }, (_, i) => guard.check(`https://hang.test/${i}`));
  const started = performance.now();
  t.ok((await guard.check('https://quick.test/')).allowed);
  t.ok(performance.now() - started < 300, 'fifty that hang do not hold up another');
  for (const verdict of await Promise.all(others)) {
    t.equal(verdict.allowed, false);
    t.match(verdict, { reason: /look-up (timed out|failed: ETIMEOUT)/ });
  }
  t.ok(dns.asked('hang.test') <= 4, 'two tries of A and AAAA for fifty deliveries');
  hanging = false;
  await new Promise(resolve => setTimeout(resolve, 500));
  t.ok((await guard.check('https://hang.test/')).allowed, 'and is asked again later');
});

/** Listeners on one port of the forbidden and the allowed addresses, which count what reaches them. */
async function startListeners() {
  const counts: Record<string, { connections: number; requests: number }> = {};
  const servers: http.Server[] = [];
  let port = 0;
  for (const address of [forbidden, good, otherGood, '::1']) {
    const count = { connections: 0, requests: 0 };
    const server = http.createServer((request, response) => {
      count.requests++;
      request.resume().on('end', () => {
        if (request.url === '/close') response.setHeader('connection', 'close');
        response.end('ok');
      });
    });
    server.on('connection', () => count.connections++);
    const listening = await new Promise<boolean>(resolve => {
      server.once('error', () => resolve(false));
      server.listen(port, address, () => resolve(true));
    });
    if (!listening && address !== '::1') throw new Error(`cannot listen on ${address}`);
    if (!listening) continue;
    port ||= (server.address() as net.AddressInfo).port;
    counts[address] = count;
    servers.push(server);
  }
  const close = () => {
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  };
  return { port, counts, close };
}

t.test('no URL of the test vectors reaches a forbidden address', async t => {
  t.ok(blockedUrls.length + allowedUrls.length >= 150, `${blockedUrls.length + allowedUrls.length} URLs`);
  t.ok(situations.length >= 40, `${situations.length} DNS situations`);
  const runDeno = async (plan: Plan): Promise<Report> => {
    const net = ['127.0.0.1', good, otherGood, dead, '[::1]', '[::]', '0.0.0.0', 'rebind-pinned.test'].concat(
      situations.map(({ name }) => name),
    );
    const { stdout } = await promisify(execFile)(
      'npx',
      [
        'deno',
        'run',
        '--no-prompt',
        `--allow-net=${net}`,
        '--allow-env',
        '--allow-sys=networkInterfaces',
        '--allow-read=.',
        'test/support/vectors/run.ts',
        JSON.stringify(plan),
      ],
      { maxBuffer: 64_000_000, timeout: 120_000 },
    );
    return JSON.parse(stdout);
  };
  for (const [runtime, run] of [
    ['Node', runVectors],
    ['Deno', runDeno],
  ] as const)
    await t.test(`on ${runtime}`, async t => {
      const listeners = await startListeners();
      const answers = new Map(situations.map(({ name, answer }) => [name, answer]));
      const dns = await startFakeDns(query => {
        if (query.name === 'rebind-pinned.test' && query.type === 'A')
          return { records: [{ type: 'A', data: query.nth === 1 ? good : forbidden }] };
        if (query.name === 'localhost') return query.type === 'A' ? { records: [{ type: 'A', data: forbidden }] } : {};
        return answers.get(query.name)?.(query) ?? { rcode: query.name === 'rebind-pinned.test' ? 0 : 3 };
      });
      const hostile = await startHostileReceiver(good);
      t.teardown(async () => {
        listeners.close();
        await Promise.all([dns.close(), hostile.close()]);
      });
      const report = await run({ dns: dns.address, port: listeners.port, hostile: hostile.origin });

      for (const { url, allowed, reason } of report.urls) {
        t.equal(allowed, allowedUrls.includes(url), `${allowed ? 'allowed' : 'blocked'} ${url}`);
        t.equal(reason === null, allowed, 'with a reason where it is blocked');
      }
      const seen = new Map<string, string[]>();
      for (const { name, result } of report.deliveries) {
        seen.set(name, [...(seen.get(name) ?? []), result.outcome]);
        if (result.outcome === 'blocked') t.match(result.error, /^blocked: ./, result.error ?? '');
      }
      // A name without an address is a failure, not a refusal.
      const nameless = new Set(blockedUrls.filter(url => /^http:\/\/(unknown|a{64}|\*|a\..*)\.test:PORT\/$/.test(url)));
      t.equal(nameless.size, 5);
      for (const url of blockedUrls) t.same(seen.get(url), [nameless.has(url) ? 'failed' : 'blocked'], url);
      for (const { name, expect } of situations) {
        const outcomes = seen.get(name)!;
        t.same(
          outcomes,
          expect.map((outcome, i) => {
            if (outcome === 'unsent') return outcomes[i] === 'failed' ? 'failed' : 'blocked';
            return outcome === 'either' ? outcomes[i] : outcome;
          }),
          name,
        );
      }
      t.same(
        report.pinned.map(result => result.outcome),
        ['delivered', 'delivered', 'delivered'],
      );

      const deliveries = report.deliveries.filter(({ result }) => result.outcome === 'delivered');
      t.equal(listeners.counts[forbidden]!.connections, 0, 'nobody connected to 127.0.0.1');
      t.equal(listeners.counts['::1']?.connections ?? 0, 0, 'nor to ::1');
      t.equal(listeners.counts[otherGood]!.requests, 1, 'a host that moved is not met over its old connection');
      t.equal(listeners.counts[good]!.requests, deliveries.length - 1 + 3, 'and the good ones arrived');

      for (const { name, expect } of hostilities) {
        const result = report.hostile.find(answer => answer.name === name)?.result;
        t.match(result, { outcome: expect.outcome, status: expect.status, error: expect.error }, name);
        if (expect.body !== undefined) t.match(result?.responseBody, expect.body, `${name}: body`);
      }
    });
});
