import type { ClientConfig } from 'pg';
import { currentHost, pinnedFor } from './connect.ts';
import { openSocket } from './hosts.ts';
import { type Host, parseDatabaseUrl } from './url.ts';

/**
 * The configuration of `pg` (pg-listen's driver) that reaches the same server in the same way as `connect(url)`, as things are
 * now: of several hosts the one that fits is chosen here, and the server is asked whether it has TLS, which `pg` cannot prefer.
 */
export async function listenerConfig(url: string): Promise<ClientConfig> {
  const target = parseDatabaseUrl(url);
  const { tls, connectTimeoutSeconds: timeout } = target;
  const host = await currentHost(target);
  const pinned = Object.entries(await pinnedFor(url, target, host));
  const options = [target.options ?? '', ...pinned.map(([name, value]) => `-c ${name}=${value.replace(/ /g, '\\ ')}`)];
  const ssl = tls === 'prefer' ? (await offersTls(host, timeout * 1000)) && { rejectUnauthorized: false } : tls;
  return {
    ...host,
    user: target.user,
    ...(target.password !== undefined && { password: target.password }),
    database: target.database,
    ssl,
    ...(target.sslNegotiation && { sslnegotiation: target.sslNegotiation }),
    ...(options.length > 1 || target.options ? { options: options.join(' ').trim() } : {}),
    application_name: `${target.applicationName} listen`,
    connectionTimeoutMillis: timeout * 1000,
    // pg-listen asks now and then whether the session still answers; without this it would wait for ever.
    query_timeout: 15_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  };
}

/** Sends PostgreSQL's SSLRequest: the server answers S or N. */
async function offersTls(host: Host, timeoutMs: number): Promise<boolean> {
  const socket = await openSocket(host, timeoutMs);
  try {
    return await new Promise((resolve, reject) => {
      const failure = (message: string, code: string) => Object.assign(new Error(message), { code });
      socket.setTimeout(timeoutMs, () => reject(failure('connection timed out', 'CONNECT_TIMEOUT')));
      socket.once('error', reject);
      socket.once('close', () => reject(failure('connection closed', 'CONNECTION_CLOSED')));
      socket.once('data', data => resolve(data[0] === 0x53));
      socket.write(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]));
    });
  } finally {
    socket.destroy();
  }
}
