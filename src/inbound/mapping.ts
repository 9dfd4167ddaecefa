import { JSONPath } from 'jsonpath-plus';
import { isLosslessNumber, type LosslessNumber, parse, stringify } from 'lossless-json';
import { z } from 'zod';

/** A parsed JSON document whose numbers keep their text. */
export type Json = null | boolean | string | LosslessNumber | Json[] | { [key: string]: Json };

/** One column of a mapping: a path (with a default or required), or a constant. */
export type Field = {
  column: string;
  path: string | null;
  required: boolean;
  hasFallback: boolean;
  fallback: Json;
  constant: Json;
  forms: readonly string[];
};

/** With `whole` the path is looked up in the whole payload ($$), not in one element of a batch. */
export type Mapping = readonly (Field & { tokens: readonly (string | number)[] | null; whole: boolean })[];

/** How a payload becomes records: the columns, and the path of the elements of a batch. */
export type Plan = { mapping: Mapping; each: string | null; eachAlone: boolean; maxElements: number };

const maxDepth = 64;
const maxDigits = 1000;
/**
 * The largest exponent. It is above that of a double (e-324), and far below what makes PostgreSQL print 131,072 digits.
 */
const maxExponent = 350;
const maxKeyLength = 1024;

const fieldRow = z.object({
  column: z.string(),
  path: z.string().nullable(),
  required: z.boolean(),
  hasFallback: z.boolean(),
  fallback: z.unknown(),
  constant: z.unknown(),
  forms: z.array(z.string()),
});

/**
 * Parses a mapping that `collecta.inbound_fields` returned. Throws if a path does not match the grammar; the database
 * does not store such a path.
 */
export function compileMapping(fields: unknown): Mapping {
  return z
    .array(fieldRow)
    .parse(fields)
    .map(row => {
      const field = row as Field;
      const whole = field.path?.startsWith('$$') ?? false;
      return { ...field, whole, tokens: field.path === null ? null : pathTokens(field.path.slice(whole ? 1 : 0)) };
    });
}

/** Parses JSON and keeps the text of its numbers. */
export const parseLossless = (text: string): unknown => parse(text);

/**
 * Parses a path: `$` and then `.name`, `['name']` or `[n]`, at most 16 steps and 512 characters. This is the grammar of
 * `collecta.inbound_path_steps`. Returns the tokens for jsonpath-plus, each name after its escaping backtick, so that
 * it is not read as a wildcard, union, filter or type. Throws for any other text.
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

/** The value at a path; undefined if there is none. It finds only own members of objects and elements of arrays. */
export function lookUp(document: Json, path: string, tokens: readonly (string | number)[]): Json | undefined {
  if (tokens.length === 1) return document;
  if (!isContainer(document)) return undefined;
  // The library does not parse tokens. Its cache is never emptied, and with tokens it contains only one path.
  JSONPath.cache = { [path]: tokens };
  const results: { value: Json; parent: Json; parentProperty: string | number; hasArrExpr?: boolean }[] = JSONPath({
    path,
    json: document,
    eval: false,
    resultType: 'all',
  });
  const [found] = results;
  // The library takes a missing name with a comma for a union, and finds members of strings and numbers too.
  if (results.length !== 1 || !found || found.hasArrExpr || !isContainer(found.parent)) return undefined;
  if (Array.isArray(found.parent) && !/^\d+$/.test(String(found.parentProperty))) return undefined;
  return found.value;
}

/** A scalar as text; undefined for null, objects and arrays. */
export function textOf(value: Json | undefined): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return String(value);
  return value !== undefined && isLosslessNumber(value) ? value.value : undefined;
}

const isContainer = (value: Json): value is Json[] | { [key: string]: Json } =>
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

/** The mapped values, as one JSON object per record with all digits; or why they cannot be mapped. */
export type Mapped = { elements: string[]; problem: string | null; column: string | null };
type MappedRecord = { values: string; problem: string | null; column: string | null };

/** Maps a payload to records. Elements of a batch are numbered from 0. */
export function mapPayload({ mapping, each, eachAlone, maxElements }: Plan, document: Json): Mapped {
  const refuse = (problem: string): Mapped => ({ elements: [], problem, column: null });
  if (each === null) {
    if (Array.isArray(document) && !readsAll(mapping, document))
      return refuse("the payload is an array; each => '$' makes a record of every element");
    const { values, problem, column } = mapRecord(mapping, document, document);
    return { elements: [values], problem, column };
  }
  const list = lookUp(document, each, pathTokens(each));
  if (!Array.isArray(list)) return refuse(`there is no array at ${each}`);
  if (list.length > maxElements) return refuse(`the array at ${each} has more than ${maxElements} elements`);
  const elements: string[] = [];
  for (const [place, element] of list.entries()) {
    const { values, problem, column } = mapRecord(mapping, element, document);
    if (problem !== null && !eachAlone) return { elements: [], problem: `element ${place}: ${problem}`, column };
    elements.push(problem === null ? `{"values":${values}}` : JSON.stringify({ problem, column }));
  }
  return { elements, problem: null, column: null };
}

/** Whether a mapping without `each` leaves no element of a top-level array unread. */
function readsAll(mapping: Mapping, document: Json[]): boolean {
  if (mapping.some(({ tokens }) => tokens?.length === 1)) return true;
  const read = new Set(mapping.map(({ tokens }) => tokens?.[1]));
  return document.every((_, place) => read.has(place));
}

/** Evaluates a mapping. For a missing path it uses the default, or leaves the column out. An explicit null is null. */
function mapRecord(mapping: Mapping, element: Json, document: Json): MappedRecord {
  const members: string[] = [];
  let found = false;
  for (const { column, path, tokens, required, hasFallback, fallback, constant, forms, whole } of mapping) {
    let value: Json | undefined = constant;
    if (path !== null && tokens) {
      value = lookUp(whole ? document : element, path, tokens);
      found ||= value !== undefined;
      if (value !== undefined && forms.length > 0) value = formed(value, forms);
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

/** Converts a value as "as" says. A value that does not have that form stays as it is, and PostgreSQL refuses it. */
function formed(value: Json, forms: readonly string[]): Json {
  if (value === '' && forms.includes('empty_as_null')) return null;
  const unit = forms.find(form => form.startsWith('epoch_'));
  const [, sign, whole = '', fraction = ''] = /^(-?)(\d{1,15})(?:\.(\d+))?$/.exec(textOf(value) ?? '') ?? [];
  if (!unit || whole === '') return value;
  // The time is computed in whole microseconds, because a double would lose some of them.
  const scale = unit === 'epoch_seconds' ? 6 : 3;
  const micros = BigInt(`${sign}${whole}${fraction.padEnd(scale, '0').slice(0, scale)}`);
  const rest = ((micros % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const time = new Date(Number((micros - rest) / 1000n));
  if (Number.isNaN(time.getTime()) || time.getUTCFullYear() < 1 || time.getUTCFullYear() > 9999) return value;
  return `${time.toISOString().slice(0, 19)}.${String(rest).padStart(6, '0')}Z`;
}
