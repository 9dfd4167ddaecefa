// Reads sql/released.json. It lists for each released version the migrations that it added, with their hashes. A
// released migration never changes.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

export const root = fileURLToPath(new URL('..', import.meta.url));
export const releasedFile = join(root, 'sql/released.json');

export type Releases = Record<string, Record<string, string>>;

export const readReleases = (): Releases =>
  z.record(z.string(), z.record(z.string(), z.string())).parse(JSON.parse(readFileSync(releasedFile, 'utf8')));

/**
 * Whether a definition can be executed only once. A later migration alters such an object. Other definitions are
 * included again.
 */
export const isMadeOnce = (definition: string): boolean =>
  /^create (table|type|aggregate|cast|policy|(unique )?index|schema)\b/m.test(definition);

/** The hashes of the migrations of all versions, by filename. */
export const releasedMigrations = (releases: Releases): Record<string, string> =>
  Object.assign({}, ...Object.values(releases));
