// Packs the package, installs the tarball in an empty folder, and uses it there as a user would.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { startServer } from '../test/support/server.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const server = await startServer();
const admin = postgres(server.url(), { max: 1, onnotice: () => {} });
const folder = mkdtempSync(join(tmpdir(), 'collecta-package-'));
let failed = 0;

/** Prints whether a check holds, and `details` if it does not. */
function check(name: string, holds: boolean, details = '') {
  console.log(`${holds ? 'ok' : 'NOT OK'} - ${name}${holds ? '' : `\n${details}`}`);
  if (!holds) failed++;
}

function run(program: string, args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd: folder,
    env: { ...process.env, ...env },
    encoding: 'utf8',
  });
  return { status, text: `${stdout}${stderr}`.trim() };
}

try {
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--silent', '--pack-destination', folder], { cwd: root, encoding: 'utf8' }),
  );
  const unexpected = packed.files
    .map(({ path }: { path: string }) => path)
    .filter((path: string) => !/^(dist|src|sql)\/|^(README\.md|LICENSE|CHANGELOG\.md|package\.json)$/.test(path));
  check(
    `the tarball holds only what runs: ${packed.files.length} files, ${Math.ceil(packed.size / 1024)} kB`,
    unexpected.length === 0,
    unexpected.join('\n'),
  );

  const install = run('npm', [
    'install',
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    '--omit=dev',
    join(folder, packed.filename),
  ]);
  check('npm install', install.status === 0, install.text);
  const installed = join(folder, 'node_modules/collecta-webhooks');
  const cli = join(folder, 'node_modules/.bin/collecta-webhooks');
  const shown = run(cli, ['--version']);
  check(`collecta-webhooks --version is ${version}`, shown.text === version, shown.text);

  const program = `
    import { parseSecret, send, verifySignature, createInboundHandler } from 'collecta-webhooks';
    parseSecret('x');
    console.log(typeof send)`;
  const imported = run(process.execPath, ['--input-type=module', '-e', program]);
  check('it can be imported', imported.text === 'function', imported.text);

  // Deno does not strip types in node_modules, so there it runs dist/. It runs src/ from the unpacked tarball.
  execFileSync('tar', ['-xzf', packed.filename], { cwd: folder });
  const deno = (script: string): [string, string[]] => [
    join(root, 'node_modules/.bin/deno'),
    ['run', '--allow-env', '--allow-net', '--allow-read', script, 'migrate'],
  ];
  const ways: Record<string, [string, string[]]> = {
    'migrate on Node': [cli, ['migrate']],
    'migrate on Deno, dist/ below node_modules': deno(join(installed, 'dist/cli.js')),
    'migrate on Deno, src/ of the unpacked tarball': deno(join(folder, 'package/src/cli.ts')),
    'sql/install.psql': [
      'psql',
      [server.url('way_3'), '-X', '-v', 'ON_ERROR_STOP=1', '-f', join(installed, 'sql/install.psql')],
    ],
  };
  for (const [index, [way, [program, args]]] of Object.entries(ways).entries()) {
    await admin.unsafe(`create database way_${index}`);
    const env = { DATABASE_URL: server.url(`way_${index}`) };
    const first = run(program, args, env);
    check(way, first.status === 0, first.text);
    const again = run(cli, ['migrate'], env);
    check(`${way}: then up to date`, again.status === 0 && again.text.includes(': 0 applied'), again.text);
  }
} finally {
  await admin.end({ timeout: 1 });
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(failed > 0 ? 1 : 0);
