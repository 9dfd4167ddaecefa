// Checks that shipped SQL is ASCII, because it must fit databases of every encoding, that its lines have at most 120
// columns, and that none ends with a space.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './releases.ts';

const columns = 120;
/** Folders and files that have been brought to 120 columns. */
const narrow = [
  'fixtures/inbound/',
  'fixtures/install/',
  'fixtures/modules/',
  'fixtures/endpoints/',
  'fixtures/outbound/1_capture/',
  'fixtures/outbound/2_route/',
  'fixtures/outbound/3_claim/',
  'fixtures/outbound/4_record/',
  'fixtures/operations/',
  'prepare.sql',
  'repair.sql',
];

const files = (readdirSync(join(root, 'sql'), { recursive: true }) as string[])
  .filter(name => /\.(sql|psql)$/.test(name) && !name.startsWith('committed/') && name !== 'install.psql')
  .sort();
let failed = 0;
const complain = (file: string, line: number, what: string) => {
  failed++;
  console.error(`sql/${file}:${line}: ${what}`);
};
for (const file of files) {
  const lines = readFileSync(join(root, 'sql', file), 'utf8').split('\n');
  for (const [index, line] of lines.entries()) {
    const other = /[^\x00-\x7f]/.exec(line);
    if (other) complain(file, index + 1, `${JSON.stringify(other[0])} is not ASCII`);
    if (line.length > columns && narrow.some(place => file.startsWith(place)))
      complain(file, index + 1, `${line.length} columns, at most ${columns}`);
    if (/[ \t]$/.test(line)) complain(file, index + 1, 'ends with a space');
  }
}
process.exit(failed > 0 ? 1 : 0);
