import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { z } from 'zod';
import { type Config, ConfigError, type Environment, readConfig } from '../config.ts';

/** One database of a fleet, with its own settings. */
export type Member = { name: string; config: Config; inboundHost: string | undefined };

/** What a file or directory names: the databases that can be served, and why the others cannot. */
export type Listing = { members: Map<string, Member>; problems: Map<string, string> };

/** What may differ between the databases of one process; all else is the process's. */
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
/** The process's own are those of another database. */
const ofOneDatabase = /^(DATABASE_URL|COLLECTA_LISTEN_URL|COLLECTA_INBOUND_HOST|PG)/;

const memberName = /^[a-z0-9][a-z0-9_-]{0,62}$/;
const entry = z.union([
  z.string().transform(url => ({ DATABASE_URL: url })),
  z.partialRecord(z.enum(memberSettings), z.union([z.string(), z.number(), z.boolean()]).transform(String)),
]);

/**
 * Reads the databases that `path` names. A directory holds a file for each, whose name without its extension is the database's;
 * hidden ones do not count. A file is a JSON object with a member for each. Of a database there is its URL, or an object of
 * settings. What is wrong with one of them leaves the others alone; throws ConfigError if nothing can be read.
 */
export function readDatabases(path: string, env: Environment): Listing {
  const members = new Map<string, Member>();
  const problems = new Map<string, string>();
  const shared = Object.fromEntries(Object.entries(env).filter(([name]) => !ofOneDatabase.test(name)));
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

/** JSON's messages quote what they could not read, which may be a password. */
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
