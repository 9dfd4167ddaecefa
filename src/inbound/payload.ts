import { JSONPath } from 'jsonpath-plus';
import { isLosslessNumber, type LosslessNumber, parse } from 'lossless-json';

/** A parsed JSON document whose numbers keep their text. */
export type Json = null | boolean | string | LosslessNumber | Json[] | { [key: string]: Json };

const maxDepth = 64;
const maxDigits = 1000;
/**
 * The largest exponent. It is above that of a double (e-324), and far below what makes PostgreSQL print 131,072 digits.
 */
const maxExponent = 350;
const maxKeyLength = 1024;

/** A path as jsonpath-plus takes it. */
export type Path = { text: string; tokens: readonly string[]; steps: readonly { name: string; isIndex: boolean }[] };

/**
 * Parses a path: `$` and then `.name`, `['name']` or `[n]`, at most 16 steps and 512 characters. This is the grammar of
 * `collecta.inbound_path_steps`. Each step gets the escaping backtick of jsonpath-plus, so that it is not read as a
 * wildcard, union, filter or type. Throws for any other text.
 */
export function parsePath(text: string): Path {
  const written = /^\$((?:\.[A-Za-z_][A-Za-z0-9_-]*|\['[^'\\^`\p{Cc}]+'\]|\[(?:0|[1-9][0-9]{0,5})\]){0,16})$/u.exec(
    text,
  )?.[1];
  if (written === undefined || text.length > 512)
    throw new Error("this is no path of the form $.name, $['name'], $[0] …");
  const steps = [...written.matchAll(/\.([\w-]+)|\['([^']+)'\]|\[(\d+)\]/gu)].map(([, dotted, quoted, index]) => ({
    name: (dotted ?? quoted ?? index)!,
    isIndex: index !== undefined,
  }));
  return { text, tokens: ['$', ...steps.map(({ name }) => `\`${name}`)], steps };
}

/** The value at a path; undefined if there is none. It finds only own members of objects and elements of arrays. */
export function lookUp(document: Json, { text, tokens, steps }: Path): Json | undefined {
  if (tokens.length === 1) return document;
  if (!isContainer(document)) return undefined;
  // The library does not parse tokens. Its cache is never emptied, and with tokens it contains only one path.
  JSONPath.cache = { [text]: tokens };
  const results: { value: Json; parent: Json; hasArrExpr?: boolean }[] = JSONPath({
    path: text,
    json: document,
    eval: false,
    resultType: 'all',
  });
  const [found] = results;
  // The library takes a missing name with a comma for a union, and finds members of strings and numbers too.
  if (results.length !== 1 || !found || found.hasArrExpr || !isContainer(found.parent)) return undefined;
  // An index is no name, and a name such as 'length' is no index.
  let container = document as { [step: string]: Json };
  for (const { name, isIndex } of steps) {
    if (Array.isArray(container) !== isIndex) return undefined;
    container = container[name] as { [step: string]: Json };
  }
  return found.value;
}

/** A scalar as text; undefined for null, objects and arrays. */
export function textOf(value: Json | undefined): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return String(value);
  return value !== undefined && isLosslessNumber(value) ? value.value : undefined;
}

const isContainer = (value: Json | undefined): value is Json[] | { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !isLosslessNumber(value);

/** The payload cannot be read. `text` is empty if the body is not JSON (400). */
export type Payload = { text: string } & (
  | { ok: true; document: Json }
  | { ok: false; status: 400 | 422; reason: string }
);

/**
 * The fields of a form as JSON: an object, with an array for a repeated name. If the field `only` exists, it is JSON.
 */
export function formToJson(bytes: Uint8Array, only: string | null): Uint8Array {
  const form = new URLSearchParams(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  const payload = only === null ? null : form.get(only);
  if (payload !== null) return Buffer.from(payload);
  const fields = [...new Set(form.keys())].map(name => {
    const values = form.getAll(name);
    return `${JSON.stringify(name)}:${JSON.stringify(values.length === 1 ? values[0] : values)}`;
  });
  return Buffer.from(`{${fields.join(',')}}`);
}

/**
 * Parses a body. It must be UTF-8 without a byte order mark, and JSON (RFC 8259) with at most 64 levels and no key
 * twice with different values (otherwise 400). It must not contain anything that PostgreSQL's jsonb cannot store, or
 * would make very large (otherwise 422).
 */
export function readPayload(bytes: Uint8Array): Payload {
  const refuse = (reason: string): Payload => ({ ok: false, status: 400, reason, text: '' });
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf)
    return refuse('the body begins with a byte order mark');
  if (isDeeperThan(bytes, maxDepth)) return refuse(`the body is nested deeper than ${maxDepth} levels`);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse('the body is not UTF-8');
  }
  let document: Json;
  try {
    document = parse(text) as Json;
  } catch (error) {
    // The parser's messages quote the body, so they are not passed on.
    const { message } = error as Error;
    const position = /position (\d+)/.exec(message)?.[1];
    const reason = message.startsWith('Duplicate key') ? 'has a key twice with different values' : 'is not JSON';
    return refuse(`the body ${reason}${position ? `, at character ${position}` : ''}`);
  }
  const reason = whyUnstorable(document, '$');
  return reason ? { ok: false, status: 422, reason, text } : { ok: true, document, text };
}

/** Counts brackets outside strings, before any parser recurses into them. */
function isDeeperThan(bytes: Uint8Array, limit: number): boolean {
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (quoted) {
      if (byte === 0x5c) i++;
      else if (byte === 0x22) quoted = false;
    } else if (byte === 0x22) quoted = true;
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > limit) return true;
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
  return false;
}

function whyUnstorable(value: Json, path: string): string | undefined {
  if (typeof value === 'string') return whyBadText(value, path);
  if (isLosslessNumber(value)) {
    const [digits = '', exponent = '0'] = value.value.split(/e/i);
    if (digits.length > maxDigits) return `${path} is a number of more than ${maxDigits} digits`;
    if (Math.abs(Number(exponent)) > maxExponent) return `${path} is a number with an exponent beyond ${maxExponent}`;
    return undefined;
  }
  if (!isContainer(value)) return undefined;
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      const reason = whyUnstorable(item, `${path}[${index}]`);
      if (reason) return reason;
    }
    return undefined;
  }
  for (const key of Object.keys(value)) {
    // Only a plain name is included in the answer to the sender.
    const at = `${path}${/^[A-Za-z_][\w-]{0,63}$/.test(key) ? `.${key}` : '[…]'}`;
    if (key.length > maxKeyLength) return `${path} has a key of more than ${maxKeyLength} characters`;
    const reason = whyBadText(key, `a key of ${path}`) ?? whyUnstorable(value[key]!, at);
    if (reason) return reason;
  }
  return undefined;
}

function whyBadText(text: string, at: string): string | undefined {
  if (text.includes('\0')) return `${at} holds the character \\u0000`;
  return /\p{Surrogate}/u.test(text) ? `${at} holds half of a surrogate pair` : undefined;
}
