import { Readable } from 'node:stream';
import t from 'tap';
import { checkUrl, checkUrls, readUrls } from '../../src/operations/check-url.ts';
import { createGuard } from '../../src/outbound/destination.ts';
import { startFakeDns } from '../support/fake-dns.ts';
import { blockedUrls } from '../support/vectors/urls.ts';

t.test('check-url prints a line for each URL in the given order and sets the exit status', async t => {
  const asked: string[] = [];
  const dns = await startFakeDns(({ name, type }) => {
    asked.push(name);
    if (name === 'slow.test') return { delayMs: 150, records: type === 'A' ? [{ type, data: '93.184.216.34' }] : [] };
    if (name === 'mixed.test' && type === 'A')
      return { records: ['1.1.1.1', '10.0.0.1'].map(data => ({ type, data })) };
    return { rcode: 3 };
  });
  t.teardown(dns.close);
  const config = { allowHttp: false, allowDestinations: ['192.168.1.0/24'], dnsServers: [dns.address] };
  const check = async (urls: Iterable<string> | AsyncIterable<string>) => {
    const lines: string[] = [];
    return { status: await checkUrl(config, urls, line => lines.push(line)), lines };
  };
  const urls = [
    'https://slow.test/a',
    'https://mixed.test/',
    'https://1.1.1.1/',
    'https://nowhere.test/',
    'https://192.168.1.7/',
  ];
  t.same(await check(urls), {
    status: 1,
    lines: [
      'allowed https://slow.test/a 93.184.216.34',
      'blocked https://mixed.test/ 1.1.1.1,10.0.0.1 10.0.0.1 is private (10.0.0.0/8)',
      'allowed https://1.1.1.1/ 1.1.1.1',
      'failed https://nowhere.test/ - look-up failed: ENOTFOUND',
      'allowed https://192.168.1.7/ 192.168.1.7',
    ],
  });
  t.same(await check(['https://1.1.1.1/', 'https://slow.test/']), {
    status: 0,
    lines: ['allowed https://1.1.1.1/ 1.1.1.1', 'allowed https://slow.test/ 93.184.216.34'],
  });
  t.same(await check(['http://1.1.1.1/', '']), {
    status: 1,
    lines: ['blocked http://1.1.1.1/ - only https is allowed', 'blocked  - not an http or https URL'],
  });
  t.same(await check([]), { status: 0, lines: [] });
  const before = asked.length;
  const input = Readable.from(['https://1.1.1.1/\r\n\n  https://[::1]/  \nhttps://8.8.', '8.8/']);
  t.same(await check(readUrls(input)), {
    status: 1,
    lines: [
      'allowed https://1.1.1.1/ 1.1.1.1',
      'blocked https://[::1]/ ::1 ::1 is loopback, unspecified, IPv4-compatible or NAT64 (::/8)',
      'allowed https://8.8.8.8/ 8.8.8.8',
    ],
  });
  t.equal(asked.length, before, 'a literal address needs no look-up');
});

t.test('an argument cannot forge an output line, and hundreds of URLs keep their order', async t => {
  const lines: string[] = [];
  const guard = createGuard({
    allowHttp: true,
    allowDestinations: [],
    dnsServers: ['127.0.0.1:9'],
    lookupTimeoutMs: 200,
  });
  t.equal(await checkUrls(blockedUrls, guard, line => lines.push(line)), 1);
  t.equal(lines.length, blockedUrls.length);
  lines.forEach((line, i) => {
    t.ok(line.startsWith(`blocked ${blockedUrls[i]!.slice(0, 6).trim()}`) || line.startsWith('blocked %20'), line);
    t.notMatch(line, /[\x00-\x1f\x7f]/);
  });
});
