import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { BrowserContextOptions, Page } from 'playwright-core';
import t from 'tap';
import { chromiumPath, openBrowser } from '../support/browser.ts';
import { openConsole } from '../support/console.ts';
import { useServer } from '../support/database.ts';
import { consoleExample } from '../support/history.ts';

// CI installs Debian's chromium. Where it is missing these tests are skipped, so that the rest of the suite can still
// be run.
if (chromiumPath === undefined && !process.env.CI)
  t.plan(0, 'chromium is not installed: apt-get install chromium, or name one in TEST_CHROMIUM');
else {
  const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
  const server = await useServer();
  const { sql, url } = await server.database();
  const example = await consoleExample(sql);
  const browser = await openBrowser();
  t.teardown(() => browser.close());
  const [{ request_id: request } = {}] =
    await sql`select request_id from collecta.inbound_requests where state = 'failed' limit 1`;
  const views = [
    '',
    '?span=hour',
    'endpoints',
    `endpoints/${example.endpointId}`,
    'deliveries',
    'deliveries?outcome=blocked',
    `deliveries/${example.deliveryId}`,
    'tail',
    'modules',
    'inbound',
    `inbound/${request}`,
    'unrouted',
    'actions',
    `act/replay-given-up?endpoint=${example.endpointId}`,
    `act/pause?endpoint=${example.endpointId}`,
    'deliveries?contains={',
    'nothing',
  ];

  /** A page of a logged-in user, and the errors that the browser reported meanwhile. */
  async function enter(origin: string, options: BrowserContextOptions = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    const complaints: string[] = [];
    page.on('console', message => {
      // Pages with status 404 or 422 are expected here.
      if (['error', 'warning'].includes(message.type()) && !/status of 4\d\d/.test(message.text()))
        complaints.push(message.text());
    });
    page.on('pageerror', error => complaints.push(error.message));
    page.on('dialog', dialog => {
      complaints.push(`dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    await page.goto(`${origin}/console/login`);
    await page.fill('[name=name]', 'ada');
    await page.fill('[name=password]', 'ada');
    await page.click('button.go');
    await page.waitForURL('**/console/');
    return { page, complaints, close: () => context.close() };
  }

  async function violations(page: Page): Promise<string[]> {
    // The page's content security policy allows only its own scripts. The debugger can insert this one.
    await page.evaluate(axe);
    const found = (await page.evaluate('axe.run(document)')) as {
      violations: { id: string; nodes: { html: string }[] }[];
    };
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`);
  }

  t.test('axe finds no violation, and no page is wider than the screen', async t => {
    const { origin } = await openConsole(t, url);
    for (const colorScheme of ['light', 'dark'] as const)
      for (const width of [1280, 360]) {
        const { page, complaints, close } = await enter(origin, { colorScheme, viewport: { width, height: 740 } });
        for (const view of views) {
          await page.goto(`${origin}/console/${view}`);
          if (await page.$('[data-plot]'))
            await page.locator('.picture:not([data-drawn=""])').first().waitFor({ state: 'detached' });
          const where = `${view || 'overview'}, ${colorScheme}, ${width} px`;
          t.strictSame(await violations(page), [], where);
          const [wide, screen] = (await page.evaluate(
            '[document.documentElement.scrollWidth, document.documentElement.clientWidth]',
          )) as [number, number];
          t.ok(wide <= screen, `${where}: ${wide} of ${screen}`);
        }
        await page.goto(`${origin}/console/login`);
        t.strictSame(await violations(page), [], `login, ${colorScheme}, ${width} px`);
        t.strictSame(complaints, [], 'the browser refused nothing of ours');
        await close();
      }
  });

  t.test('every page and every action works without JavaScript', async t => {
    const { origin } = await openConsole(t, url);
    const { page, close } = await enter(origin, { javaScriptEnabled: false });
    for (const view of views) {
      await page.goto(`${origin}/console/${view}`);
      t.ok(await page.isVisible('h1'), view);
    }
    await page.goto(`${origin}/console/`);
    t.ok(await page.isVisible('.picture svg'), 'plots are pictures');
    await page.goto(`${origin}/console/deliveries`);
    await page.selectOption('[name=outcome]', 'exhausted');
    await page.click('.filters button');
    t.match(page.url(), /outcome=exhausted/);
    t.match(await page.textContent('tbody'), /exhausted/);
    t.notMatch(await page.textContent('tbody'), /delivered/);
    await page.goto(`${origin}/console/act/test?endpoint=${example.endpointId}`);
    await page.click('button.go');
    t.match(await page.textContent('main'), /Done\./);
    await close();
  });

  t.test('hostile payloads, headers, names and errors are never executed', async t => {
    const evil = `<img src=x onerror="window.hit=1"><script>window.hit=1</script><svg onload="window.hit=1">"'>`;
    const other = await server.database();
    const hostile = await consoleExample(other.sql);
    await other.sql`update collecta.endpoints set name = ${evil} || endpoint_id`;
    await other.sql`update collecta.delivery_attempts set error = ${evil}, response_body = ${evil},
      response_headers = json_build_object(${evil}::text, ${evil}::text),
      request_headers = json_build_object('x', ${evil}::text)`;
    await other.sql`update collecta.events set record_id = ${evil},
      body = json_build_object('record', json_build_object(${evil}::text, ${evil}::text),
      'previous', json_build_object(${evil}::text, ${evil}::text))::text`;
    const { origin } = await openConsole(t, other.url);
    const { page, complaints, close } = await enter(origin);
    for (const view of [
      '',
      'endpoints',
      `endpoints/${hostile.endpointId}`,
      'deliveries',
      `deliveries/${hostile.deliveryId}`,
      'unrouted',
    ]) {
      await page.goto(`${origin}/console/${view}`);
      await page.waitForTimeout(100);
      t.equal(await page.evaluate('window.hit'), undefined, view);
    }
    await page.goto(`${origin}/console/tail`);
    await page.locator('#tail-state', { hasText: /^Connected/ }).waitFor();
    await hostile.happen();
    await page.waitForSelector('[data-tail] tbody tr');
    t.match(await page.textContent('[data-tail] tbody'), '<img src=x', 'it is text');
    t.equal(await page.evaluate('window.hit'), undefined, 'in the live tail too');
    t.strictSame(complaints, []);
    await close();
  });

  t.test('a list does not jump: new rows wait behind a button', async t => {
    const { origin } = await openConsole(t, url);
    const { page, close } = await enter(origin);
    await page.goto(`${origin}/console/deliveries?outcome=delivered`);
    const first = await page.getAttribute('tbody tr [data-key]', 'data-key');
    await example.happen();
    await page.waitForSelector('button.fresh', { timeout: 15_000 });
    t.equal(await page.textContent('button.fresh'), '3 new');
    t.equal(await page.getAttribute('tbody tr [data-key]', 'data-key'), first, 'the rows stand still');
    await page.click('button.fresh');
    t.not(await page.getAttribute('tbody tr [data-key]', 'data-key'), first);
    t.equal(await page.$('button.fresh'), null);
    await close();
  });

  t.test('plots can be drawn and zoomed with scripts from this server only', async t => {
    const { origin } = await openConsole(t, url);
    const { page, close } = await enter(origin);
    const elsewhere: string[] = [];
    page.on('request', request => {
      if (!request.url().startsWith(origin) && !request.url().startsWith('data:')) elsewhere.push(request.url());
    });
    await page.goto(`${origin}/console/`);
    await page.waitForSelector('.picture[data-drawn] canvas');
    t.equal((await page.$$('.picture canvas')).length, 3);
    const box = (await (await page.$('.picture .u-over'))!.boundingBox())!;
    await page.mouse.move(box.x + box.width * 0.3, box.y + 40);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, box.y + 40, { steps: 5 });
    await page.mouse.up();
    t.equal(await page.evaluate('document.querySelectorAll(".picture .u-select").length > 0'), true);
    t.strictSame(elsewhere, []);
    await close();
  });

  t.test('the console can be used with the keyboard alone: skip link, focus, login', async t => {
    const { origin } = await openConsole(t, url);
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${origin}/console/login`);
    await page.keyboard.type('ada');
    await page.keyboard.press('Tab');
    await page.keyboard.type('ada');
    await page.keyboard.press('Enter');
    await page.waitForURL('**/console/');
    await page.keyboard.press('Tab');
    t.equal(await page.evaluate('document.activeElement.className'), 'skip');
    await page.keyboard.press('Enter');
    t.equal(await page.evaluate('document.activeElement.id'), 'main');
    await context.close();
  });
}
