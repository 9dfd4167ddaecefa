import type { ClientConfig } from 'pg';
import { currentHost, pinnedFor } from './connect.ts';
import { openSocket } from './hosts.ts';
import { type Host, parseDatabaseUrl } from './url.ts';

/**
 * A configuration of `pg`, which pg-listen uses, that connects to the same server in the same way as `connect(url)`.
 * It is valid for one connection: the host is chosen here, and for `sslmode=prefer` the server is asked here whether it
 * offers TLS, because `pg` supports neither several hosts nor `prefer`.
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
    // pg-listen checks now and then whether the session still answers. Without a timeout that check could wait forever.
    query_timeout: 15_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  };
}

/** Whether the server offers TLS. Sends PostgreSQL's SSLRequest, which the server answers with the byte S or N. */
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
