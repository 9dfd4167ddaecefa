import { JSONPath } from 'jsonpath-plus';
import { isLosslessNumber, type LosslessNumber, parse, stringify } from 'lossless-json';
import { z } from 'zod';

/** A JSON document whose numbers are kept as they were written. */
export type Json = null | boolean | string | LosslessNumber | Json[] | { [key: string]: Json };

/** One column of a mapping: a path (with a default or required), or a constant. */
export type Field = {
  column: string;
  path: string | null;
  required: boolean;
  hasFallback: boolean;
  fallback: Json;
  constant: Json;
};

export type Mapping = readonly (Field & { tokens: readonly (string | number)[] | null })[];

const maxDepth = 64;
const maxDigits = 1000;
/** Above what a double can have (e-324), far below what makes PostgreSQL print 131,072 digits. */
const maxExponent = 350;
const maxKeyLength = 1024;

const fieldRow = z.object({
  column: z.string(),
  path: z.string().nullable(),
  required: z.boolean(),
  hasFallback: z.boolean(),
  fallback: z.unknown(),
  constant: z.unknown(),
});

/**
 * Reads a mapping as `collecta.inbound_fields` gives it, and checks every path again. Throws for a path that is not of
 * the grammar: the database refuses to save one.
 */
export function compileMapping(fields: string): Mapping {
  return z
    .array(fieldRow)
    .parse(parse(fields))
    .map(row => {
      const field = row as Field;
      return { ...field, tokens: field.path === null ? null : pathTokens(field.path) };
    });
}

/**
 * `$` and then `.name`, `['name']` or `[n]`, at most 16 steps and 512 characters: the grammar of
 * `collecta.inbound_path_steps`. As jsonpath-plus takes them, every name behind its escaping backtick, so that none is
 * a wildcard, union, filter or type to it. Throws for anything else.
 */
export function pathTokens(path: string): (string | number)[] {
  const steps = /^\$((?:\.[A-Za-z_][A-Za-z0-9_-]*|\['[^'\\^`\p{Cc}]+'\]|\[(?:0|[1-9][0-9]{0,5})\]){0,16})$/u.exec(
    path,
  )?.[1];
  if (steps === undefined || path.length > 512)
    throw new Error("this is no path of the form $.name, $['name'], $[0] …");
  const tokens = [...steps.matchAll(/\.([\w-]+)|\['([^']+)'\]|\[(\d+)\]/gu)];
  return [
    '$',
    ...tokens.map(([, dotted, quoted, index]) => (index === undefined ? `\`${dotted ?? quoted}` : Number(index))),
  ];
}

/** The value at a path, or undefined where there is none. Own members only; of an array only its elements. */
export function lookUp(document: Json, path: string, tokens: readonly (string | number)[]): Json | undefined {
  if (tokens.length === 1) return document;
  if (!isContainer(document)) return undefined;
  // Given the tokens, the library parses nothing, and its cache, which it never empties, holds one path.
  JSONPath.cache = { [path]: tokens };
  const results: { value: Json; parent: Json; parentProperty: string | number; hasArrExpr?: boolean }[] = JSONPath({
    path,
    json: document,
    eval: false,
    resultType: 'all',
  });
  const [found] = results;
  // A name that is not there and holds a comma is taken for a union after all; a string and a number have members too.
  if (results.length !== 1 || !found || found.hasArrExpr || !isContainer(found.parent)) return undefined;
  if (Array.isArray(found.parent) && !/^\d+$/.test(String(found.parentProperty))) return undefined;
  return found.value;
}

const isContainer = (value: Json): value is Json[] | { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !isLosslessNumber(value);

/** `text` is empty where the body is no JSON (400). */
export type Payload = { text: string } & (
  | { ok: true; document: Json }
  | { ok: false; status: 400 | 422; reason: string }
);

/**
 * Reads a body: UTF-8 without a byte order mark, JSON (RFC 8259) of at most 64 levels, no key twice with different
 * values (400 otherwise), and nothing in it that PostgreSQL's jsonb cannot hold or would blow up (422 otherwise).
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
    // The parser's messages quote the body.
    const { message } = error as Error;
    const position = /position (\d+)/.exec(message)?.[1];
    return refuse(
      `the body ${message.startsWith('Duplicate key') ? 'has a key twice with different values' : 'is not JSON'}${position ? `, at character ${position}` : ''}`,
    );
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
    // Only a plain name is repeated to the sender.
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

/** The mapped values as a JSON object, digit for digit; or what keeps them from being mapped. */
export type Mapped =
  | { values: string; problem: null; column: null }
  | { values: string; problem: string; column: string | null };

/** Evaluates a mapping: a missing path takes its default, else leaves its column out; an explicit null is null. */
export function mapPayload(mapping: Mapping, document: Json): Mapped {
  const members: string[] = [];
  let found = false;
  for (const { column, path, tokens, required, hasFallback, fallback, constant } of mapping) {
    let value: Json | undefined = constant;
    if (path !== null && tokens) {
      value = lookUp(document, path, tokens);
      found ||= value !== undefined;
      if (value === undefined && hasFallback) value = fallback;
      if (value === undefined && required)
        return { values: '{}', problem: 'it is required, and the payload does not have it', column };
    }
    if (value !== undefined) members.push(`${JSON.stringify(column)}:${stringify(value)}`);
  }
  const values = `{${members.join(',')}}`;
  if (!found) return { values, problem: 'the payload has nothing of what is mapped', column: null };
  return { values, problem: null, column: null };
}
