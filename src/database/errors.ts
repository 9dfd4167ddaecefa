const unreachable = new Set(
  `EACCES EAI_AGAIN ECONNREFUSED ECONNRESET EHOSTUNREACH ENETUNREACH ENOENT ENOTFOUND EPIPE ETIMEDOUT
  CONNECT_TIMEOUT CONNECTION_CLOSED CONNECTION_DESTROYED HOST_NOT_SUITED`.split(/\s+/),
);
/** Refused at the door: cannot connect now, too many connections, shutting down, wrong user or password, no such database. */
const refused = /^(08...|28...|3D000|53300|57P0[123])$/;
const untrusted = /^(CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|ERR_TLS_|ERR_SSL_)/;

/** What a write meets at a standby, or where default_transaction_read_only is on. */
const readOnly = '25006';

/**
 * Why the database could not be reached, in one line; undefined for an error that says something else. A server that takes no
 * writes counts as unreachable: the one that does may be found at the next connection, or under the same address later.
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
