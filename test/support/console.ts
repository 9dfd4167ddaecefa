import type { Test } from 'tap';
import { readConfig } from '../../src/config.ts';
import { createConsole } from '../../src/console/server.ts';
import { createLog } from '../../src/log.ts';
import { serveOperations } from '../../src/operations/serve.ts';
import { freePort } from './server.ts';

/**
 * Serves the console of a database on its own port until the test ends. The client keeps a cookie, as a browser does.
 */
export async function openConsole(t: Test, url: string, env: Record<string, string> = {}) {
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const stop = new AbortController();
  const lines: string[] = [];
  const config = readConfig({ DATABASE_URL: url, COLLECTA_OPERATIONS_PORT: String(port), ...env });
  const log = createLog('info', line => lines.push(line));
  const served = serveOperations(config, log, stop.signal, createConsole);
  t.teardown(async () => {
    stop.abort();
    await served;
  });
  while (!(await fetch(`${origin}/livez`).catch(() => null))) await new Promise(done => setTimeout(done, 10));

  const client = (headers: Record<string, string> = {}) => {
    let cookie = '';
    const send = async (path: string, init: RequestInit = {}) => {
      const answer = await fetch(origin + path, {
        redirect: 'manual',
        ...init,
        headers: { ...headers, ...(cookie && { cookie }), ...(init.headers as Record<string, string>) },
      });
      const set = answer.headers.get('set-cookie');
      if (set) cookie = set.split(';')[0] as string;
      return answer;
    };
    const post = (path: string, form: Record<string, string>, given: Record<string, string> = {}) =>
      send(path, {
        method: 'POST',
        body: new URLSearchParams(form).toString(),
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          'sec-fetch-site': 'same-origin',
          origin,
          ...given,
        },
      });
    const login = (name: string, password: string) => post('/console/login', { name, password });
    const text = async (path: string) => await (await send(path)).text();
    return { send, post, login, text };
  };
  return { origin, port, lines, client };
}

/** The values of a form's hidden fields, unescaped. */
export function hiddenFields(page: string): Record<string, string> {
  const form = page.split('class="confirm"')[1] ?? '';
  return Object.fromEntries(
    [...form.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)].map(([, name, value]) => [
      name as string,
      unescaped(value as string),
    ]),
  );
}

export const unescaped = (text: string) =>
  text
    .replaceAll('&#39;', "'")
    .replaceAll('&quot;', '"')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&');
