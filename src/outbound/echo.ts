// Keeps credentials out of the history. Headers that may carry some are masked. A receiver may also repeat what it was
// sent, or the endpoint's secret, so these are removed from an answer before it is stored.

import type { Endpoint } from './claim.ts';

const credentialName = /auth|cookie|token|secret|passw|key|session|signature|credential/i;
const credentialValue = /^(basic|bearer|digest|token|apikey) /i;

/** Whether a header may carry credentials. collecta.mask_headers applies the same rule, and a test compares them. */
export const isCredential = (name: string, value: string): boolean =>
  credentialName.test(name) || credentialValue.test(value);

/** Headers as the history shows them: the values of those that may carry credentials are masked. */
export function maskedHeaders(headers: Readonly<Record<string, string | string[]>>): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const name in headers) {
    const value = headers[name]!.toString();
    shown[name] = isCredential(name, value) ? '***' : value;
  }
  return shown;
}

const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');

/**
 * A shorter value may occur inside a word by chance, so it is replaced only where no letter or digit stands beside it.
 */
const longEnough = 8;
const asPattern = (text: string) =>
  text.length >= longEnough ? escaped(text) : `(?<![A-Za-z0-9])${escaped(text)}(?![A-Za-z0-9])`;

/**
 * The endpoint's secrets and the values of its credential headers. A header's value is listed as a whole, without its
 * scheme, decoded if the scheme is Basic, and in the parts of a cookie.
 */
function valuesOf({ keys, headers }: Endpoint): string[] {
  const values: string[] = [];
  for (const { raw } of keys) {
    const secret = raw.export().toString();
    values.push(secret, secret.replace(/^whsec_/, ''));
  }
  for (const [name, value] of Object.entries(headers)) {
    if (!isCredential(name, value)) continue;
    values.push(value);
    const [scheme, ...rest] = value.trim().split(/\s+/);
    const credentials = rest.join(' ');
    if (credentials !== '') values.push(credentials);
    if (/^basic$/i.test(scheme!)) {
      const plain = Buffer.from(credentials, 'base64').toString();
      values.push(plain, plain.slice(plain.indexOf(':') + 1));
    }
    // The parts of a cookie, and of other values that have the form name=value.
    for (const part of value.split(/[;,]\s*/)) values.push(part.slice(part.indexOf('=') + 1));
  }
  return values;
}

/** The value itself, and the value as it is written in JSON, in a URL, in HTML and in base64. */
const formsOf = (value: string): string[] => {
  const json = JSON.stringify(value).slice(1, -1);
  const html = value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
  const base64 = Buffer.from(value).toString('base64');
  return [value, json, json.replaceAll('/', '\\/'), encodeURIComponent(value), html, base64];
};

type Echo = { pattern: RegExp; forms: string[] } | null;
const echoes = new WeakMap<Endpoint, Echo>();

function echoOf(endpoint: Endpoint): Echo {
  let echo = echoes.get(endpoint);
  if (echo === undefined) {
    const forms = [...new Set(valuesOf(endpoint).flatMap(formsOf))].filter(form => form.trim() !== '');
    // The longest form comes first, so that no value is replaced only in part.
    forms.sort((a, b) => b.length - a.length);
    echo = forms.length === 0 ? null : { pattern: new RegExp(forms.map(asPattern).join('|'), 'g'), forms };
    echoes.set(endpoint, echo);
  }
  return echo;
}

const cutMark = /\n\[cut after \d+ bytes\](\n\[cleaned: [^\n]*\])?$/;

/**
 * Replaces the endpoint's credentials in a text that a receiver sent. If the text was cut, a credential that the cut
 * left incomplete at its end is replaced, too.
 */
export function withoutEcho(text: string, endpoint: Endpoint): string {
  const echo = text === '' ? null : echoOf(endpoint);
  if (echo === null) return text;
  const mark = (text.endsWith(']') && text.match(cutMark)?.[0]) || '';
  let body = text.slice(0, text.length - mark.length).replace(echo.pattern, '***');
  if (mark !== '') {
    const cut = Math.max(0, ...echo.forms.map(form => beginningAtEnd(body, form)));
    if (cut > 0) body = `${body.slice(0, -cut)}***`;
  }
  return body + mark;
}

/** How many characters of `form`, four or more, `text` ends with. */
function beginningAtEnd(text: string, form: string): number {
  for (let length = Math.min(form.length - 1, text.length); length >= 4; length--)
    if (text.endsWith(form.slice(0, length))) return length;
  return 0;
}

export function headersWithoutEcho(headers: Record<string, string>, endpoint: Endpoint): Record<string, string> {
  const shown: Record<string, string> = {};
  for (const name in headers) shown[withoutEcho(name, endpoint)] = withoutEcho(headers[name]!, endpoint);
  return shown;
}
