import type { Query } from './pool.ts';

const notAscii = /[^\x00-\x7f]/gu;
const isAscii = (text: string | null) => text === null || !/[^\x00-\x7f]/.test(text);

const maxCached = 100_000;

const escaped = (character: string) =>
  Array.from({ length: character.length }, (_, index) => {
    const unit = character.charCodeAt(index).toString(16).padStart(4, '0');
    return `\\u${unit}`;
  }).join('');

/**
 * PostgreSQL refuses a whole statement if one character of it is missing in the database's encoding, for example an
 * emoji in WIN1252. `encode` returns the texts with such characters replaced by JSON escapes such as `\u20ac`; a JSON
 * text keeps its meaning. It asks the database about each character once and caches the answers. `forget` empties that
 * cache, because a new connection may lead to a database with another encoding.
 */
export function createEncoder(sql: Query) {
  const encodable = new Map<string, boolean>();
  let everyCharacter = false; // whether the encoding has all of Unicode

  async function encode<T extends string | null>(texts: T[]): Promise<T[]> {
    if (everyCharacter || texts.every(isAscii)) return texts;
    const characters = new Set(texts.flatMap(text => text?.match(notAscii) ?? []));
    if (encodable.size > maxCached) encodable.clear();
    const unknown = [...characters].filter(character => !encodable.has(character));
    if (unknown.length > 0) {
      const hex = Buffer.from(unknown.join('')).toString('hex');
      const [row] = await sql`select collecta.encodable_characters(decode(${hex}::text, 'hex')) as characters`;
      everyCharacter = row!.characters === null;
      if (everyCharacter) return texts;
      const accepted = new Set<string>(row!.characters as string);
      for (const character of unknown) encodable.set(character, accepted.has(character));
    }
    const encodeCharacter = (character: string) => (encodable.get(character) ? character : escaped(character));
    return texts.map(text => (text?.replace(notAscii, encodeCharacter) ?? text) as T);
  }

  return {
    encode,
    forget(): void {
      encodable.clear();
      everyCharacter = false;
    },
  };
}
