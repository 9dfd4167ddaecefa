import { connect as connectTcp, type Socket } from 'node:net';
import type postgres from 'postgres';
import { type DatabaseUrl, type Host, isSocket } from './url.ts';

/** The address of a host for node:net: `path` for a Unix socket, else `host` and `port`. */
export const addressOf = ({ host, port }: Host) =>
  isSocket(host) ? { path: `${host}/.s.PGSQL.${port}` } : { host, port };

/** An Error with a `code`, as the errors of node:net and of the driver have. */
const failure = (code: string, message: string) => Object.assign(new Error(message), { code });

/** Connects a socket to one host. Rejects with an error of node:net, or with CONNECT_TIMEOUT after `timeoutMs`. */
export function openSocket(host: Host, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp(addressOf(host));
    const timer = setTimeout(
      () => socket.destroy(failure('CONNECT_TIMEOUT', `no answer from ${host.host}`)),
      timeoutMs,
    );
    const fail = (error: Error) => {
      clearTimeout(timer);
      reject(error);
    };
    socket.once('error', fail);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.removeListener('error', fail);
      resolve(socket);
    });
  });
}

/** Asks the host's server, in a session of its own, whether it satisfies target_session_attrs. */
async function isSuited(host: Host, target: DatabaseUrl, open: (host: Host) => postgres.Sql): Promise<boolean> {
  const sql = open(host);
  try {
    const [row] = await sql`
      select pg_catalog.pg_is_in_recovery() as standby,
        pg_catalog.current_setting('transaction_read_only') operator(pg_catalog.=) 'on' as read_only`;
    if (target.targetSessionAttributes === 'read-write') return !row!.read_only;
    if (target.targetSessionAttributes === 'read-only') return row!.read_only;
    return (target.targetSessionAttributes === 'primary') !== row!.standby;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/**
 * The first host that answers and satisfies target_session_attrs. It is chosen again for each session, so that a
 * session opened after a failover goes to the new primary. Rejects with the last connection error if no host answers,
 * and with HOST_NOT_SUITED if none of those that answer is suited.
 *
 * The drivers cannot do this. `postgres` takes a standby of PostgreSQL 14 or later for read-write, and connects in a
 * loop without a pause while no host is suited. `pg` supports only one host.
 */
export async function chooseHost(target: DatabaseUrl, open: (host: Host) => postgres.Sql): Promise<Host> {
  const { hosts, targetSessionAttributes: wanted } = target;
  let lastError: unknown;
  let unsuited: Host | undefined; // the first host that answered and is not suited
  for (const host of hosts) {
    try {
      if (wanted === undefined) (await openSocket(host, target.connectTimeoutSeconds * 1000)).destroy();
      else if (!(await isSuited(host, target, open))) {
        unsuited ??= host;
        continue;
      }
      return host;
    } catch (error) {
      lastError = error;
    }
  }
  if (unsuited && wanted === 'prefer-standby') return unsuited;
  if (!unsuited) throw lastError;
  throw failure('HOST_NOT_SUITED', `no host is ${wanted}: the server at ${unsuited.host}:${unsuited.port} is not`);
}
