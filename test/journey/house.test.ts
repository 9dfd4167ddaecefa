import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import t from 'tap';

/**
 * The folders of src and the layer of each. A folder may import from lower layers only. A folder that is not listed
 * fails the test, so that a new one is placed on purpose. Folders of one layer do not import from each other: code that
 * two of them need has its own folder below them.
 */
const layers: Record<string, string[]> = {
  foundation: ['config.ts', 'log.ts', 'metrics.ts', 'database', 'network', 'secrets'],
  setup: ['install'],
  directions: ['outbound', 'inbound'],
  tools: ['operations', 'console', 'demo', 'fleet'],
  entrances: ['cli', 'cli.ts', 'index.ts'],
};
/** Imports inside one layer that are intended: the left folder needs the right one. */
const beside = new Set([
  'config.ts network', // the environment holds NAT64 prefixes, which the address rules validate
  'config.ts secrets', // the environment holds sealing keys, which the keyring validates
  'config.ts database', // the environment holds a database URL, which database/ validates
  'log.ts config.ts', // the names of log levels
  'secrets database', // the seal command
  'secrets config.ts',
  'database config.ts',
  'database log.ts',
  'console operations', // the page is served beside health and metrics
  'demo operations',
  'demo console', // the demo serves it with --keep
  'fleet operations', // the metrics count the attempts of each database
  'cli.ts cli',
]);

const files = (readdirSync('src', { recursive: true }) as string[]).filter(name => name.endsWith('.ts'));
const folderOf = (file: string) => file.split('/')[0] as string;
const layerOf = (folder: string) => Object.values(layers).findIndex(folders => folders.includes(folder));

t.test('the folders of src import only from lower layers', async t => {
  for (const file of files) {
    t.not(layerOf(folderOf(file)), -1, `${file} is in a folder that this test knows`);
    const source = readFileSync(`src/${file}`, 'utf8');
    for (const [, path] of source.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      const imported = posix.join(posix.dirname(file), path as string);
      const [from, to] = [folderOf(file), folderOf(imported)];
      if (from === to) continue;
      t.ok(layerOf(to) < layerOf(from) || beside.has(`${from} ${to}`), `src/${file} imports ${imported}`);
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
  const folders = entries.filter(entry => entry.isDirectory()).map(({ name }) => name);
  for (const folder of folders.filter(name => name !== 'support' && name !== 'journey'))
    t.ok([`src/${folder}`, `sql/fixtures/${folder}`, folder].some(existsSync), `test/${folder}`);
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
