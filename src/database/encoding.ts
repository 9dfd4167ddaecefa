import type { Query } from './pool.ts';

const notAscii = /[^\x00-\x7f]/gu;
const maxKnown = 100_000;

const escaped = (character: string) =>
  Array.from({ length: character.length }, (_, index) => {
    const unit = character.charCodeAt(index).toString(16).padStart(4, '0');
    return `\\u${unit}`;
  }).join('');

/**
 * PostgreSQL refuses a whole statement for one character that its encoding does not have, for example an emoji in WIN1252.
 * `encode` gives texts in which these are written as JSON's escapes (the same text, where it is JSON). It asks the
 * database about each character once. `forget` is for when another database may have come up in its place.
 */
export function createEncoder(sql: Query) {
  const known = new Map<string, boolean>();
  let holdsAll = false;

  async function encode<T extends string | null>(texts: T[]): Promise<T[]> {
    if (holdsAll) return texts;
    const seen = new Set(texts.flatMap(text => text?.match(notAscii) ?? []));
    if (known.size > maxKnown) known.clear();
    const asked = [...seen].filter(character => !known.has(character));
    if (asked.length > 0) {
      const hex = Buffer.from(asked.join('')).toString('hex');
      const [row] = await sql`select collecta.encodable_characters(decode(${hex}::text, 'hex')) as characters`;
      holdsAll = row!.characters === null;
      if (holdsAll) return texts;
      const held = new Set<string>(row!.characters as string);
      for (const character of asked) known.set(character, held.has(character));
    }
    return texts.map(
      text =>
        (text?.replace(notAscii, character => (known.get(character) ? character : escaped(character))) ?? text) as T,
    );
  }

  return {
    encode,
    forget(): void {
      known.clear();
      holdsAll = false;
    },
  };
}
