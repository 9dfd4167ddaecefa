// Turns what a receiver answered, or why it did not answer, into what the history stores.

const maxRetryAfterSeconds = 86_400;

const explained: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ETIMEDOUT: 'timeout while connecting',
  UND_ERR_CONNECT_TIMEOUT: 'timeout while connecting',
  UND_ERR_HEADERS_OVERFLOW: 'response headers too large',
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: 'the response and its content-length differ',
  ERR_ASSERTION: 'malformed HTTP response',
};

/**
 * Why an exchange failed. These messages hold header names and addresses, and never a header's value, a path or a body.
 */
export function explain(error: Error & { code?: string }): string {
  const { code = error.name, message } = error;
  if (error.name === 'HTTPParserError') return `malformed HTTP response${message.match(/ \(.*\)$/)?.[0] ?? ''}`;
  if (code === 'UND_ERR_SOCKET') return `connection closed (${message})`;
  return explained[code] ?? (code.startsWith('ERR_SSL_') ? `TLS: ${code}` : `${code}: ${message}`.slice(0, 200));
}

/** What Retry-After asks for, in seconds from 0 to a day; null if it is absent or malformed. */
export function retryAfter(value: string | undefined): number | null {
  let seconds = Number.NaN;
  if (value && /^-?\d+$/.test(value)) seconds = Number(value);
  else if (value && /^[A-Z][a-z]{2}, \d/.test(value)) seconds = Math.ceil((Date.parse(value) - Date.now()) / 1000);
  return Number.isNaN(seconds) ? null : Math.min(Math.max(seconds, 0), maxRetryAfterSeconds);
}

/** The content-length that a response announces; null if there is none, or if several disagree. */
export function announcedLength(header: string | string[] | undefined): number | null {
  if (typeof header === 'string' && /^\d{1,15}$/.test(header)) return Number(header);
  const values = new Set([header ?? []].flat().flatMap(value => value.split(',').map(each => each.trim())));
  const [value] = values;
  return values.size === 1 && /^\d{1,15}$/.test(value!) ? Number(value) : null;
}

/** The body as PostgreSQL can store it. Lines in brackets at its end say that it was cut or cleaned. */
export function responseText(chunks: Buffer[], cutAfter: number | null): string {
  const bytes = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  // In stream mode the decoder leaves out a character that the cut split.
  const decoded = cutAfter === null ? bytes.toString() : new TextDecoder().decode(bytes, { stream: true });
  const text = decoded.replaceAll('\0', '\ufffd');
  const cut = cutAfter === null ? '' : `\n[cut after ${cutAfter} bytes]`;
  return text.includes('\ufffd') ? `${text}${cut}\n[cleaned: \ufffd stands for what is no text]` : text + cut;
}
