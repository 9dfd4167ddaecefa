const unreachable = new Set(
  `EACCES EAI_AGAIN ECONNREFUSED ECONNRESET EHOSTUNREACH ENETUNREACH ENOENT ENOTFOUND EPIPE ETIMEDOUT
  CONNECT_TIMEOUT CONNECTION_CLOSED CONNECTION_DESTROYED HOST_NOT_SUITED`.split(/\s+/),
);
/**
 * SQLSTATEs of a refused or ended connection: connection exceptions (08), wrong user or password (28), no such
 * database, too many connections, and a server that shuts down, crashed or is starting.
 */
const refused = /^(08...|28...|3D000|53300|57P0[123])$/;
const untrusted = /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_|ERR_SSL_)/;

/** The SQLSTATE of a write on a standby, or while default_transaction_read_only is on. */
const readOnly = '25006';

/**
 * Why the database could not be reached, in one line; undefined for any other kind of error. A read-only server counts
 * as unreachable, because the next connection may find the primary, or the same address may belong to it later.
 */
export function whyUnreachable(error: unknown): string | undefined {
  const { code, message } = error as { code?: string; message?: string };
  if (message?.includes('before secure TLS connection') || message?.includes('does not support SSL'))
    return 'the server does not offer TLS, which sslmode in the URL asks for';
  if (code === readOnly) return `${readOnlyServer} (${message})`;
  if (!code || !(unreachable.has(code) || refused.test(code) || untrusted.test(code))) return undefined;
  return message?.includes(code) ? message : `${message} (${code})`.trimStart();
}

export const readOnlyServer = 'the server is read-only: a standby, or default_transaction_read_only is on';

/**
 * Whether an SQLSTATE is the fault of the database or its operators and not of a row: connections, conflicts, locks, a
 * full disk, a query that was cancelled, a shutdown.
 */
export const isOutage = (code: string): boolean => /^(08|25|40|53|55|57|58)/.test(code);
