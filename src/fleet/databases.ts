import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { z } from 'zod';
import { type Config, ConfigError, type Environment, readConfig } from '../config.ts';

/** One database of a fleet, with its own settings. */
export type Member = { name: string; config: Config; inboundHost: string | undefined };

/** The databases of a file or directory, by name: those that can be served, and for the others the reason why not. */
export type Listing = { members: Map<string, Member>; problems: Map<string, string> };

/** The settings that a database may have of its own. All other settings are those of the process. */
export const memberSettings = [
  'DATABASE_URL',
  'DATABASE_URL_FILE',
  'COLLECTA_LISTEN_URL',
  'COLLECTA_LISTEN_URL_FILE',
  'COLLECTA_CONCURRENCY',
  'COLLECTA_POLL_INTERVAL_MS',
  'COLLECTA_IDLE',
  'COLLECTA_IDLE_AFTER_MS',
  'COLLECTA_IDLE_INTERVAL_HOURS',
  'COLLECTA_ALLOW_HTTP',
  'COLLECTA_ALLOW_DESTINATIONS',
  'COLLECTA_ENVIRONMENT',
  'COLLECTA_SECRET_KEY',
  'COLLECTA_SECRET_KEY_FILE',
  'COLLECTA_INBOUND_HOST',
] as const;
/**
 * Variables of the process's environment that say which database is meant. They do not apply to a fleet's databases.
 */
const namesOneDatabase = /^(DATABASE_URL|COLLECTA_LISTEN_URL|COLLECTA_INBOUND_HOST|PG)/;

const memberName = /^[a-z0-9][a-z0-9_-]{0,62}$/;
const entry = z.union([
  z.string().transform(url => ({ DATABASE_URL: url })),
  z.partialRecord(z.enum(memberSettings), z.union([z.string(), z.number(), z.boolean()]).transform(String)),
]);

/**
 * Reads the databases of a fleet. If `path` is a directory, it has a file for each database; the database's name is the
 * file's name without its extension, and hidden files are ignored. If `path` is a file, it is a JSON object with a
 * member for each database. The value for a database is its URL, or an object of settings. A mistake in one database is
 * a problem of the result and does not affect the others. Throws ConfigError if `path` cannot be read.
 */
export function readDatabases(path: string, env: Environment): Listing {
  const members = new Map<string, Member>();
  const problems = new Map<string, string>();
  const shared = Object.fromEntries(Object.entries(env).filter(([name]) => !namesOneDatabase.test(name)));
  for (const [name, read] of entries(path)) {
    try {
      if (!memberName.test(name)) throw new ConfigError('a name begins with a-z or 0-9, then has a-z, 0-9, _ and -');
      if (members.has(name)) throw new ConfigError('this name is there twice');
      const settings = parseEntry(read());
      const config = readConfig({ ...shared, ...settings });
      members.set(name, { name, config, inboundHost: settings.COLLECTA_INBOUND_HOST?.toLowerCase() });
    } catch (error) {
      problems.set(name, (error as Error).message);
    }
  }
  return { members, problems };
}

function* entries(path: string): Generator<[name: string, read: () => unknown]> {
  try {
    if (statSync(path).isDirectory()) {
      for (const file of readdirSync(path).filter(each => !each.startsWith('.')))
        yield [basename(file, extname(file)), () => readEntryFile(join(path, file))];
      return;
    }
    const all = z.record(z.string(), z.unknown()).parse(JSON.parse(readFileSync(path, 'utf8')));
    for (const [name, value] of Object.entries(all)) yield [name, () => value];
  } catch (error) {
    throw new ConfigError(`COLLECTA_DATABASES cannot be read: ${safeMessage(error)}`);
  }
}

function readEntryFile(file: string): unknown {
  const text = readFileSync(file, 'utf8').trim();
  try {
    return text.startsWith('{') ? JSON.parse(text) : text;
  } catch (error) {
    throw new ConfigError(safeMessage(error));
  }
}

/** The message of an error, but not that of JSON.parse: it quotes the text, which may contain a password. */
function safeMessage(error: unknown): string {
  if (error instanceof SyntaxError) return 'not valid JSON';
  return error instanceof z.ZodError ? 'not a JSON object' : (error as Error).message;
}

function parseEntry(value: unknown): Partial<Record<(typeof memberSettings)[number], string>> {
  const parsed = entry.safeParse(value);
  if (parsed.success) return parsed.data;
  const unknown =
    typeof value === 'object' && value !== null
      ? Object.keys(value).filter(name => !(memberSettings as readonly string[]).includes(name))
      : [];
  throw new ConfigError(
    unknown.length > 0
      ? `${unknown.join(', ')} cannot be set for one database; what can is ${memberSettings.join(', ')}`
      : 'neither a URL nor an object of settings',
  );
}
