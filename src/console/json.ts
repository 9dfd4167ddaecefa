import { html, raw } from 'hono/html';

/** JSON stays text: a number of 30 digits is shown digit for digit, and what is no JSON is shown as it is. */
const token = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;
const longest = 200_000;

/** The text with line breaks and indentation put in between its tokens; every token as it was. */
export function indentJson(text: string): string {
  if (text.length > longest) return text;
  const tokens = text.match(token);
  if (!tokens || !/^\s*[[{]/.test(text)) return text;
  // Anything between the tokens but white space: this is no JSON.
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

/** Indented, with names, strings and the rest told apart by their class. */
export function showJson(text: string | null) {
  if (text === null) return html`<span class="quiet">none</span>`;
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

/** The members of an object, their values as the text they are; of a name that occurs twice the last. Empty for anything else. */
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
