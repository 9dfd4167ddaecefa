// npm run screenshots             takes the pictures of the console that README.md shows, into docs/images/
// npm run screenshots -- FOLDER   takes a picture of every view, light and dark, 1280 and 360 px wide, into FOLDER
//
// It starts its own PostgreSQL with invented deliveries. It needs Debian's package chromium.
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import postgres from 'postgres';
import { readConfig } from '../src/config.ts';
import { createConsole } from '../src/console/server.ts';
import { migrate } from '../src/install/migrate.ts';
import { createLog } from '../src/log.ts';
import { serveOperations } from '../src/operations/serve.ts';
import { openBrowser } from '../test/support/browser.ts';
import { consoleExample } from '../test/support/history.ts';
import { freePort, startServer } from '../test/support/server.ts';

const folder = process.argv[2] ?? 'docs/images';
const readme = readFileSync('README.md', 'utf8');
const isWanted = (file: string) => process.argv[2] !== undefined || readme.includes(`docs/images/${file}`);
mkdirSync(folder, { recursive: true });
const server = await startServer(['-c', 'track_functions=pl']);
const stop = new AbortController();
try {
  const admin = postgres(server.url(), { onnotice: () => {} });
  await admin.unsafe('create database example');
  await migrate(server.url('example'));
  const sql = postgres(server.url('example'), { onnotice: () => {}, max: 1 });
  const example = await consoleExample(sql);
  const port = await freePort();
  const config = readConfig({ DATABASE_URL: server.url('example'), COLLECTA_OPERATIONS_PORT: String(port) });
  const served = serveOperations(config, createLog('error'), stop.signal, createConsole);
  const browser = await openBrowser();
  const views: Record<string, string> = {
    overview: '/console/',
    endpoints: '/console/endpoints',
    endpoint: `/console/endpoints/${example.endpointId}`,
    deliveries: '/console/deliveries',
    delivery: `/console/deliveries/${example.deliveryId}`,
    tail: '/console/tail',
    modules: '/console/modules',
    inbound: '/console/inbound',
    unrouted: '/console/unrouted',
    actions: '/console/actions',
    action: `/console/act/replay-given-up?endpoint=${example.endpointId}`,
    login: '/console/login',
  };
  for (const colorScheme of ['light', 'dark'] as const)
    for (const width of [1280, 360]) {
      const context = await browser.newContext({ colorScheme, viewport: { width, height: width === 360 ? 740 : 800 } });
      const page = await context.newPage();
      const origin = `http://127.0.0.1:${port}`;
      await page.goto(`${origin}/console/login`);
      await page.fill('[name=name]', 'ada');
      await page.fill('[name=password]', 'ada');
      await page.click('button.go');
      await page.waitForURL('**/console/');
      for (const [name, path] of Object.entries(views)) {
        const file = `${name}-${colorScheme}-${width}.png`;
        if (!isWanted(file)) continue;
        await page.goto(origin + path);
        if (name === 'tail') {
          await page.waitForFunction("document.getElementById('tail-state')?.textContent?.startsWith('Connected')");
          await example.happen();
          await page.waitForSelector('[data-tail] tbody tr');
        } else await page.waitForTimeout(400); // until the charts are drawn
        await page.screenshot({
          path: join(folder, file),
          fullPage: width === 360 || name !== 'deliveries',
        });
      }
      await context.close();
    }
  await browser.close();
  stop.abort();
  await served;
  await sql.end();
  await admin.end();
  console.log(`${readdirSync(folder).filter(name => name.endsWith('.png')).length} pictures in ${folder}`);
} finally {
  stop.abort();
  await server.stop();
}
