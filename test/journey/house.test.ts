import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import t from 'tap';

/**
 * Which room of src may import from which. A room that is not named here fails the test, so that a new one is placed on
 * purpose. Rooms of one storey do not import from each other: what two of them need has a room of its own below them.
 */
const storeys: Record<string, string[]> = {
  foundation: ['config.ts', 'log.ts', 'metrics.ts', 'database', 'network', 'secrets'],
  setup: ['install'],
  directions: ['outbound', 'inbound'],
  tools: ['operations', 'console', 'demo', 'fleet'],
  entrances: ['cli', 'cli.ts', 'index.ts'],
};
/** Imports inside one storey that are meant: the left one needs the right one. */
const beside = new Set([
  'config.ts network', // the environment holds NAT64 prefixes, whose form the address rules know
  'config.ts secrets', // the environment holds sealing keys, whose form the keyring knows
  'config.ts database', // and a database URL, whose form database knows
  'log.ts config.ts', // the names of log levels
  'secrets database', // the seal command
  'secrets config.ts',
  'database config.ts',
  'database log.ts',
  'console operations', // the page is served beside health and metrics
  'demo operations',
  'demo console', // with --keep
  'fleet operations', // attempts of each database are counted
  'cli.ts cli',
]);

const files = (readdirSync('src', { recursive: true }) as string[]).filter(name => name.endsWith('.ts'));
const roomOf = (file: string) => file.split('/')[0] as string;
const storeyOf = (room: string) => Object.values(storeys).findIndex(rooms => rooms.includes(room));

t.test('the folders of src import only from lower layers', async t => {
  for (const file of files) {
    t.not(storeyOf(roomOf(file)), -1, `${file} is in a room that this test knows`);
    const source = readFileSync(`src/${file}`, 'utf8');
    for (const [, path] of source.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      const imported = posix.join(posix.dirname(file), path as string);
      const [from, to] = [roomOf(file), roomOf(imported)];
      if (from === to) continue;
      t.ok(storeyOf(to) < storeyOf(from) || beside.has(`${from} ${to}`), `src/${file} imports ${imported}`);
    }
  }
});

t.test('only config.ts reads the environment', async t => {
  const reading = files.filter(file => /process\.env\b/.test(readFileSync(`src/${file}`, 'utf8')));
  t.strictSame(
    reading.filter(file => file !== 'config.ts'),
    [],
  );
});

t.test('tests are in the folder of what they test', async t => {
  const entries = readdirSync('test', { withFileTypes: true });
  const rooms = entries.filter(entry => entry.isDirectory()).map(({ name }) => name);
  for (const room of rooms.filter(name => name !== 'support' && name !== 'journey'))
    t.ok([`src/${room}`, `sql/fixtures/${room}`, room].some(existsSync), `test/${room}`);
  t.strictSame(
    entries.filter(({ name }) => name.endsWith('.ts')).map(({ name }) => name),
    [],
  );
});

t.test('the table of advisory locks in ARCHITECTURE.md matches the sources', async t => {
  const named = new Set<string>();
  const sources = [
    ...files.map(file => `src/${file}`),
    ...(readdirSync('sql/fixtures', { recursive: true }) as string[])
      .filter(name => name.endsWith('.sql'))
      .map(name => `sql/fixtures/${name}`),
  ];
  for (const path of sources)
    for (const [, lockClass, key] of readFileSync(path, 'utf8').matchAll(/\b(16682466\d\d), *(\d+)?/g))
      named.add(`${lockClass} ${key ?? 'computed'}`);
  const table = readFileSync('ARCHITECTURE.md', 'utf8').split('## Advisory locks')[1]!.split('\n## ')[0]!;
  const documented = [...table.matchAll(/^\| (16682466\d\d)[^|]*\| ([^|]+) \|/gm)].map(
    ([, lockClass, key]) => `${lockClass} ${/^\d+$/.test(key as string) ? key : 'computed'}`,
  );
  t.strictSame(documented.sort(), [...named].sort());
});
