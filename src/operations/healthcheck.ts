import { request } from 'node:http';
import type { Settings } from '../config.ts';

/**
 * Requests /readyz from the operations port of this machine, or with `live` /livez. It serves as a container's
 * HEALTHCHECK without shell and curl. Resolves to the exit status: 0 if the answer is 200, else 1 after printing why.
 */
export function healthcheck(settings: Settings, live: boolean, say: (line: string) => void): Promise<number> {
  const { operationsHost, operationsPort } = settings;
  if (operationsPort === undefined) {
    say('COLLECTA_OPERATIONS_PORT is not set: there is nothing to ask');
    return Promise.resolve(1);
  }
  // A server that listens on all addresses is requested on the loopback interface.
  const host = operationsHost === '0.0.0.0' ? '127.0.0.1' : operationsHost === '::' ? '::1' : operationsHost;
  const path = live ? '/livez' : '/readyz';
  return new Promise(resolve => {
    const ended = (status: number, line: string) => {
      say(line);
      resolve(status);
    };
    const probe = request({ host, port: operationsPort, path, timeout: 5_000 }, answer => {
      let text = '';
      answer.setEncoding('utf8').on('data', chunk => {
        text += chunk;
      });
      answer.on('end', () => ended(answer.statusCode === 200 ? 0 : 1, text.trim()));
      answer.on('error', error => ended(1, error.message));
    });
    probe.on('timeout', () => probe.destroy(new Error('no answer within 5 s')));
    probe.on('error', error => ended(1, `${path}: ${error.message}`));
    probe.end();
  });
}
