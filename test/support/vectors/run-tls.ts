import { createDeliverer } from '../../../src/outbound/deliver.ts';
import { createGuard } from '../../../src/outbound/destination.ts';
import { good } from './dns.ts';

/** Delivers to each URL in turn, with the resolver in the first argument, and prints the results. */
const [dns, ...urls] = process.argv.slice(2);
const guard = createGuard({ allowHttp: false, allowDestinations: [good], dnsServers: [dns!] });
const deliverer = createDeliverer({ guard, userAgent: 'tls', deadlineMs: 5_000 });
const results = [];
for (const url of urls) {
  results.push(await deliverer.deliver({ url, headers: {}, body: '{}' }));
  // A connection can be reused one turn of the event loop after its response.
  await new Promise(done => setTimeout(done, 20));
}
await deliverer.close();
console.log(JSON.stringify(results));
