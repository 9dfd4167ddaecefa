import type { DatabaseUrl } from './url.ts';

/**
 * What every session of ours is opened with: any role that may create objects in a schema of the search path could put functions
 * and operators there that match our calls better than PostgreSQL's own, and would be run as whoever connects.
 */
const pinned = { search_path: 'pg_catalog, pg_temp' };

const keyOf = ({ user, hosts, database }: DatabaseUrl) => JSON.stringify([user, hosts, database]);
const refusing = new Set<string>();

export const sessionParameters = (target: DatabaseUrl): Partial<typeof pinned> =>
  refusing.has(keyOf(target)) ? {} : pinned;

export const isRefusal = (error: unknown) => /unsupported startup parameter/.test((error as Error).message);

/**
 * Some poolers refuse startup parameters that they do not know. True if `error` is that, seen for the first time: then sessions
 * are opened without them from now on, and the caller tries again. Behind such a pooler the login's role should have the setting:
 * alter role … set search_path = pg_catalog, pg_temp.
 */
export function acceptRefusal(target: DatabaseUrl, error: unknown): boolean {
  if (refusing.has(keyOf(target)) || !isRefusal(error)) return false;
  refusing.add(keyOf(target));
  return true;
}
