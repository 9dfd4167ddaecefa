import { request } from 'node:http';
import type { Settings } from '../config.ts';

/**
 * Asks the operations port of this machine whether it is ready, or with `live` whether it runs: for a container's HEALTHCHECK,
 * which has no shell and no curl. Resolves to 0, or 1 with the reason.
 */
export function healthcheck(settings: Settings, live: boolean, say: (line: string) => void): Promise<number> {
  const { operationsHost, operationsPort } = settings;
  if (operationsPort === undefined) {
    say('COLLECTA_OPERATIONS_PORT is not set: there is nothing to ask');
    return Promise.resolve(1);
  }
  // What listens everywhere is asked on the loopback interface.
  const host = operationsHost === '0.0.0.0' ? '127.0.0.1' : operationsHost === '::' ? '::1' : operationsHost;
  const path = live ? '/livez' : '/readyz';
  return new Promise(resolve => {
    const ended = (status: number, line: string) => {
      say(line);
      resolve(status);
    };
    const asked = request({ host, port: operationsPort, path, timeout: 5_000 }, answer => {
      let text = '';
      answer.setEncoding('utf8').on('data', chunk => {
        text += chunk;
      });
      answer.on('end', () => ended(answer.statusCode === 200 ? 0 : 1, text.trim()));
      answer.on('error', error => ended(1, error.message));
    });
    asked.on('timeout', () => asked.destroy(new Error('no answer within 5 s')));
    asked.on('error', error => ended(1, `${path}: ${error.message}`));
    asked.end();
  });
}
