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
  forms: readonly string[];
};

/** `whole`: the path is looked up in the whole payload ($$), not in one element of a batch. */
export type Mapping = readonly (Field & { tokens: readonly (string | number)[] | null; whole: boolean })[];

/** How a payload becomes records: the columns, and where the elements of a batch stand. */
export type Plan = { mapping: Mapping; each: string | null; eachAlone: boolean; maxElements: number };

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
  forms: z.array(z.string()),
});

/**
 * Reads a mapping as `collecta.inbound_fields` gives it, and checks every path again. Throws for a path that is not of
 * the grammar: the database refuses to save one.
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

/** JSON whose numbers stay as they were written. */
export const parseLossless = (text: string): unknown => parse(text);

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

/** A scalar as text; undefined for anything else, and for null. */
export function textOf(value: Json | undefined): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return String(value);
  return value !== undefined && isLosslessNumber(value) ? value.value : undefined;
}

const isContainer = (value: Json): value is Json[] | { [key: string]: Json } =>
  typeof value === 'object' && value !== null && !isLosslessNumber(value);

/** `text` is empty where the body is no JSON (400). */
export type Payload = { text: string } & (
  | { ok: true; document: Json }
  | { ok: false; status: 400 | 422; reason: string }
);

/** A form's fields as an object; of a repeated name an array. The field `only` alone, where it is there, is JSON itself. */
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

/** The mapped values as a JSON object for each record, digit for digit; or what keeps them from being mapped. */
export type Mapped = { elements: string[]; problem: string | null; column: string | null };
type MappedRecord = { values: string; problem: string | null; column: string | null };

/** Maps a payload to the records that a plan makes of it. Elements of a batch are told apart by number, from 0. */
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

/** Evaluates a mapping: a missing path takes its default, else leaves its column out; an explicit null is null. */
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

/** A value in the form that "as" says; what is not of that form stays as it is, for PostgreSQL to refuse. */
function formed(value: Json, forms: readonly string[]): Json {
  if (value === '' && forms.includes('empty_as_null')) return null;
  const unit = forms.find(form => form.startsWith('epoch_'));
  const [, sign, whole = '', fraction = ''] = /^(-?)(\d{1,15})(?:\.(\d+))?$/.exec(textOf(value) ?? '') ?? [];
  if (!unit || whole === '') return value;
  // In microseconds, exactly; a double would lose some of them.
  const scale = unit === 'epoch_seconds' ? 6 : 3;
  const micros = BigInt(`${sign}${whole}${fraction.padEnd(scale, '0').slice(0, scale)}`);
  const rest = ((micros % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const time = new Date(Number((micros - rest) / 1000n));
  if (Number.isNaN(time.getTime()) || time.getUTCFullYear() < 1 || time.getUTCFullYear() > 9999) return value;
  return `${time.toISOString().slice(0, 19)}.${String(rest).padStart(6, '0')}Z`;
}
