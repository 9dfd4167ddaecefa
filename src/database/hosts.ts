import { connect as connectTcp, type Socket } from 'node:net';
import type postgres from 'postgres';
import { type DatabaseUrl, type Host, isSocket } from './url.ts';

/** Where a session goes: `path` for a Unix socket. */
export const addressOf = ({ host, port }: Host) =>
  isSocket(host) ? { path: `${host}/.s.PGSQL.${port}` } : { host, port };

/** An error with a code, as the driver's own are. */
const failure = (code: string, message: string) => Object.assign(new Error(message), { code });

/** A socket to one host. Its errors are those of node:net, or CONNECT_TIMEOUT. */
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

/** Whether the host's server is what target_session_attrs asks for: asked over a session of its own. */
async function serves(host: Host, target: DatabaseUrl, open: (host: Host) => postgres.Sql): Promise<boolean> {
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
 * The first host that answers and is what target_session_attrs asks for. Asked anew for each session, so that a session opened
 * after a failover goes to where the primary is then. Neither driver can do this: `postgres` takes a standby of 14 and later
 * for read-write, and connects in a loop without a pause while no host fits; `pg` knows one host only.
 */
export async function chooseHost(target: DatabaseUrl, open: (host: Host) => postgres.Sql): Promise<Host> {
  const { hosts, targetSessionAttributes: wanted } = target;
  let last: unknown;
  let answered: Host | undefined;
  for (const host of hosts) {
    try {
      if (wanted === undefined) (await openSocket(host, target.connectTimeoutSeconds * 1000)).destroy();
      else if (!(await serves(host, target, open))) {
        answered ??= host;
        continue;
      }
      return host;
    } catch (error) {
      last = error;
    }
  }
  if (answered && wanted === 'prefer-standby') return answered;
  if (!answered) throw last;
  throw failure('HOST_NOT_SUITED', `no host is ${wanted}: the server at ${answered.host}:${answered.port} is not`);
}
