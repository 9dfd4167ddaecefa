// Checks that no line of TypeScript, JavaScript, CSS or shell has more than 120 columns. Biome breaks code at 120
// columns, but not comments and strings.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './releases.ts';

const columns = 120;

const files = execFileSync('git', ['ls-files', '*.ts', '*.js', '*.css', '*.sh'], { cwd: root, encoding: 'utf8' });
let failed = 0;
for (const file of files.trim().split('\n')) {
  for (const [index, line] of readFileSync(join(root, file), 'utf8').split('\n').entries()) {
    const width = Array.from(line).length;
    if (width <= columns) continue;
    failed++;
    console.error(`${file}:${index + 1}: ${width} columns, at most ${columns}`);
  }
}
process.exit(failed > 0 ? 1 : 0);
