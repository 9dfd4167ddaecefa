import { createDeliverer, type DeliveryResult } from '../../../src/outbound/deliver.ts';
import { createGuard } from '../../../src/outbound/destination.ts';
import { hostilities } from '../hostile-receiver.ts';
import { dead, good, lookupTimeoutMs, otherGood, situations } from './dns.ts';
import { allowedUrls, blockedUrls } from './urls.ts';

export type Plan = { dns: string; port: number; hostile: string };
export type Report = {
  urls: { url: string; allowed: boolean; reason: string | null }[];
  deliveries: { name: string; nth: number; result: DeliveryResult }[];
  hostile: { name: string; result: DeliveryResult }[];
  pinned: DeliveryResult[];
};

/**
 * Runs every vector through the real guard and delivery path, with the same code on Node and on Deno, and prints the
 * report.
 */
export async function runVectors({ dns, port, hostile }: Plan): Promise<Report> {
  const guardOptions = {
    allowHttp: true,
    allowDestinations: [`${good}/32`, otherGood, dead],
    dnsServers: [dns],
    lookupTimeoutMs,
  };
  const fresh = createGuard({ ...guardOptions, cacheMs: 0 });
  const deliverer = createDeliverer({ guard: fresh, userAgent: 'vectors', deadlineMs: 4_000 });
  const post = (url: string, by = deliverer) =>
    by.deliver({ url, headers: { 'content-type': 'application/json' }, body: '{"event":"test"}' });

  const urls = await Promise.all(
    [...allowedUrls, ...blockedUrls].map(async pattern => {
      const url = pattern.replaceAll('PORT', String(port));
      const verdict = await fresh.check(url);
      return { url: pattern, allowed: verdict.allowed, reason: verdict.allowed ? null : verdict.reason };
    }),
  );
  const deliveries: Report['deliveries'] = [];
  for (const url of blockedUrls)
    deliveries.push({ name: url, nth: 0, result: await post(url.replaceAll('PORT', String(port))) });
  const inTurn = async <T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>) => {
    const waiting = [...items];
    const worker = async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await work(next);
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  };
  // Only a few run at a time, because a resolver that has to wait for this process asks twice.
  await inTurn(situations, 10, async ({ name, expect }) => {
    for (const nth of expect.keys()) deliveries.push({ name, nth, result: await post(`http://${name}:${port}/`) });
  });
  // While the answer is cached, a name that now resolves to a forbidden address still leads to the address that was
  // checked.
  const keeping = createDeliverer({ guard: createGuard(guardOptions), userAgent: 'vectors', connections: 1 });
  const pinned = [];
  for (let i = 0; i < 3; i++) pinned.push(await post(`http://rebind-pinned.test:${port}/close`, keeping));
  const hostileResults: Report['hostile'] = [];
  await inTurn(hostilities, 6, async ({ name }) => {
    hostileResults.push({ name, result: await post(`${hostile}/${name}`) });
  });
  await Promise.all([deliverer.close(), keeping.close()]);
  return { urls, deliveries, hostile: hostileResults, pinned };
}

const [plan] = process.argv.slice(2);
if (plan?.startsWith('{')) console.log(JSON.stringify(await runVectors(JSON.parse(plan))));
