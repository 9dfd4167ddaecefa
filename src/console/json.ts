import { html, raw } from 'hono/html';
import { count } from './figures.ts';
import type { Html } from './page.ts';

/**
 * Shows JSON without parsing it, so that a number of 30 digits keeps all of them. Text that is not JSON is shown as it
 * is.
 */
const token = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;
const longest = 200_000;
/** A page shows so many characters of a text. */
const shownAtMost = 100_000;

/** Adds line breaks and indentation between the tokens of a JSON text. The tokens do not change. */
export function indentJson(text: string): string {
  if (text.length > longest) return text;
  const tokens = text.match(token);
  if (!tokens || !/^\s*[[{]/.test(text)) return text;
  // If there is anything but white space between the tokens, the text is not JSON.
  if (
    tokens.join('').length !== text.replace(/"(?:[^"\\]|\\.)*"|\s+/g, found => (found[0] === '"' ? found : '')).length
  )
    return text;
  let depth = 0;
  let result = '';
  tokens.forEach((each, index) => {
    const before = tokens[index - 1];
    if (each === '}' || each === ']') {
      depth--;
      if (before !== '{' && before !== '[') result += newline();
    } else if (before === '{' || before === '[' || before === ',') result += newline();
    result += each === ':' ? ': ' : each;
    if (each === '{' || each === '[') depth++;
  });
  return depth === 0 ? result : text;

  function newline(): string {
    return `\n${'  '.repeat(Math.max(0, depth))}`;
  }
}

/**
 * JSON as indented HTML, in which names, strings and other tokens have different classes. Of a very long text only the
 * beginning is shown; `length` is the length of the whole, if `text` is not all of it.
 */
export function showJson(text: string | null, length = text?.length ?? 0): Html {
  if (text === null) return html`<span class="quiet">none</span>`;
  if (length > shownAtMost)
    return html`<p class="quiet">The first ${count(shownAtMost)} of ${count(length)} characters:</p>
<pre class="json" tabindex="0">${text.slice(0, shownAtMost)}</pre>`;
  const indented = indentJson(text);
  const parts = [];
  let at = 0;
  if (indented.length <= longest && indented !== text)
    for (const { 0: found, index } of indented.matchAll(
      /"(?:[^"\\]|\\.)*"(:?)|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g,
    )) {
      parts.push(html`${indented.slice(at, index)}`);
      const kind = found.endsWith('":') ? 'name' : found[0] === '"' ? 'string' : 'value';
      parts.push(html`<span class="json-${raw(kind)}">${found}</span>`);
      at = index + found.length;
    }
  parts.push(html`${indented.slice(at)}`);
  return html`<pre class="json" tabindex="0">${parts}</pre>`;
}

/**
 * The members of a JSON object, with each value as its text. If a name occurs twice, the last one counts. Empty for any
 * other text.
 */
export function membersOf(text: string): Map<string, string> {
  const members = new Map<string, string>();
  let depth = 0;
  let name: string | undefined;
  let valueAt = -1;
  for (const { 0: found, index } of text.matchAll(token)) {
    if (depth === 0 && found !== '{') break;
    if (depth === 1 && (found === ',' || found === '}')) {
      if (name !== undefined && valueAt >= 0) members.set(name, text.slice(valueAt, index).trim());
      name = undefined;
      valueAt = -1;
    } else if (depth === 1 && found === ':') valueAt = index + 1;
    else if (depth === 1 && name === undefined) name = JSON.parse(found);
    if (found === '{' || found === '[') depth++;
    if (found === '}' || found === ']') depth--;
  }
  return members;
}
