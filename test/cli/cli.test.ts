import { execFile, spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Webhook } from 'standardwebhooks';
import t from 'tap';
import { variables } from '../../src/config.ts';
import { freePort, useServer } from '../support/database.ts';

// Built by `npm run build`, which `npm test` runs first.
const runtimes = {
  // tap puts its loader into NODE_OPTIONS of every child process. `env` removes it, so that the command runs as a user
  // runs it, and three times as fast.
  'Node, dist': ['env', '-u', 'NODE_OPTIONS', process.execPath, 'dist/cli.js'],
  'Deno, src': ['node_modules/.bin/deno', 'run', '--allow-env', '--allow-net', '--allow-read', 'src/cli.ts'],
} as const;

const { admin, database } = await useServer();
// Debian's server has a certificate that nobody else signed.
const whyUnverified =
  (await admin`show ssl`)[0]!.ssl === 'on' ? 'self-signed certificate' : 'the server does not offer TLS';
const scratch = mkdtempSync(join(tmpdir(), 'collecta-cli-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));
const version = JSON.parse(readFileSync('package.json', 'utf8')).version as string;
const plainEnvironment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(DATABASE_URL|COLLECTA_|PG)/.test(name)),
);

for (const [runtime, [program, ...first]] of Object.entries(runtimes)) {
  type Result = { status: number | null; out: string; err: string };
  const cli = (args: string[], env: Record<string, string> = {}, input: string | Buffer = '') =>
    new Promise<Result>(done => {
      const child = execFile(
        program,
        [...first, ...args],
        { env: { ...plainEnvironment, ...env }, encoding: 'utf8' },
        (_error, out, err) => done({ status: child.exitCode, out, err }),
      );
      child.stdin?.end(input);
    });

  t.test(`${runtime}: help and version`, async t => {
    t.strictSame(await cli(['--version']), { status: 0, out: `${version}\n`, err: '' });
    const { status, out } = await cli(['--help']);
    t.equal(status, 0);
    for (const [name, { about, default: fallback }] of Object.entries<{ about: string; default?: string }>(variables)) {
      t.match(out, new RegExp(`^  ${name}\\b.*`, 'm'));
      t.ok(out.includes(fallback ? `${about} [${fallback}]` : about), `${name} with its default`);
    }
    const commands = [...(/Commands:\n((?: {2}.*\n)+)/.exec(out)?.[1] ?? '').matchAll(/^ {2}(\S+)/gm)].map(
      match => match[1] as string,
    );
    t.ok(
      ['migrate', 'run', 'dispatch', 'receive', 'check-url', 'verify', 'uninstall'].every(each =>
        commands.includes(each),
      ),
      commands.join(),
    );
    for (const command of commands) {
      const help = await cli([command, '--help']);
      t.match(help, { status: 0, out: new RegExp(`^Usage: collecta-webhooks ${command}\\b`), err: '' });
    }
    t.strictSame(await cli(['help', 'migrate']), await cli(['migrate', '-h']));
  });

  t.test(`${runtime}: wrong usage or settings exit with 2 and an error that names what is wrong`, async t => {
    for (const [args, message] of [
      [[], /a command is expected/],
      [['mirgate'], /there is no command "mirgate"/],
      [['constructor'], /there is no command "constructor"/],
      [['--colour'], /there is no option "--colour"/],
      [['migrate', '--force'], /Unknown option '--force'/],
      [['migrate', 'now'], /takes no "now"/],
      [['uninstall', '--yes=1'], /--yes.* does not take an argument/],
      [['verify', '-'], /--signature is missing/],
      [['verify', '--signature', 'sha256=', 'a', 'b'], /one file is expected/],
      [['migrate'], /^DATABASE_URL .*is not set, for example DATABASE_URL=postgres:/],
    ] as [string[], RegExp][]) {
      const result = await cli(args);
      t.match(result, { status: 2, out: '', err: message }, args.join(' '));
      t.match(result.err, /\nTry: collecta-webhooks .*--help\n$/);
    }
    const wrong = await cli(['migrate'], { DATABASE_URL: 'postgres://u:sekret@h:x/d', COLLECTA_PORT: 'http' });
    t.match(wrong, {
      status: 2,
      err: /COLLECTA_PORT must be .*"http", for example COLLECTA_PORT=8080\nDATABASE_URL has a port/,
    });
    t.notMatch(wrong.err, 'sekret');
  });

  t.test(`${runtime}: migrate installs the schema once`, async t => {
    const { url, sql } = await database('empty');
    const file = join(scratch, `url-${first.length}`);
    writeFileSync(file, `${url}\n`);
    const env = { DATABASE_URL_FILE: file };
    t.match(await cli(['migrate', '--check'], env), {
      status: 1,
      out: /^would apply 000001-.*\n.*: not installed\n$/s,
      err: '',
    });
    t.match(await cli(['migrate'], env), {
      status: 0,
      out: /^applied 000001-.*\n.*up to date.*: \d+ applied, 0 already there\n$/s,
    });
    t.match(await cli(['migrate'], env), {
      status: 0,
      out: /^collecta is up to date in 127\.0\.0\.1:\d+\/\w+: 0 applied, \d+ already there\n$/,
      err: '',
    });
    t.match(await cli(['migrate', '--check'], env), { status: 0, out: /up to date/ });
    await sql`insert into collecta.migrations (filename, hash) values ('999999-later.sql', 'sha1:0')`;
    t.match(await cli(['migrate'], env), {
      status: 1,
      out: '',
      err: /^collecta-webhooks migrate: .*999999-later.sql.*\nhint: .*upgrade this package/,
    });
    t.match(await cli(['migrate', '--check'], env), { status: 1, out: '', err: /999999-later.sql.*\nhint: / });
    await sql`delete from collecta.migrations where filename = '999999-later.sql'`;
    await sql`update collecta.migrations set hash = 'sha1:0' where filename like '000001-%'`;
    t.match(await cli(['migrate', '--check'], env), { status: 1, out: '', err: /never released.*\nhint: / });
    t.match(await cli(['uninstall'], env), { status: 1, out: /uninstall --yes/ });
    t.match(await cli(['uninstall', '--yes'], env), { status: 0, out: /dropped the schema collecta/ });
  });

  t.test(`${runtime}: an unreachable database is reported in one clear line`, async t => {
    const { url } = await database('empty');
    const closed = `postgres://u:sekret@127.0.0.1:${await freePort()}/d`;
    for (const [target, reason] of [
      [closed, /cannot reach the database: .*ECONNREFUSED/],
      ['postgres://u:sekret@nowhere.invalid/d', /cannot reach the database: .*(ENOTFOUND|EAI_AGAIN)/],
      [
        url.replace('postgres:postgres', 'postgres:sekret'),
        /cannot reach the database: password authentication failed .*28P01/,
      ],
      [url.replace(/\w+$/, 'sekret'), /cannot reach the database: database "sekret" does not exist/],
      [`${url}?sslmode=verify-full`, new RegExp(`cannot reach the database: ${whyUnverified}`)],
    ] as const) {
      const { status, out, err } = await cli(['migrate'], { DATABASE_URL: target });
      t.match({ status, out, err }, { status: 1, out: '', err: reason });
      t.match(err, /^collecta-webhooks migrate: [^\n]*\n$/);
      t.notMatch(err, /:sekret/);
    }
  });

  t.test(`${runtime}: verify`, async t => {
    const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
    const body = '{"event": "record_created", "n": 1.000000000000000000001}';
    const hex = `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
    const file = join(scratch, 'body');
    writeFileSync(file, body);
    const env = { COLLECTA_SECRET: secret };
    t.strictSame(await cli(['verify', '--signature', hex, file], env), { status: 0, out: 'valid\n', err: '' });
    t.match(await cli(['verify', '--signature', hex, '-'], env, body), { status: 0, out: 'valid\n' });
    t.match(await cli(['verify', '--signature', hex, '-'], env, `${body}\n`), { status: 1, out: /^invalid: / });
    t.match(await cli(['verify', '--signature', hex, file], { COLLECTA_SECRET: 'other' }), {
      status: 1,
      out: /^invalid: /,
    });
    t.match(await cli(['verify', '--signature', hex.toUpperCase(), file], env), { status: 1, out: /^invalid: / });
    t.match(await cli(['verify', '--signature', hex, file]), { status: 2, err: /^COLLECTA_SECRET .*is not set/ });
    t.match(await cli(['verify', '--signature', hex, join(scratch, 'none')], env), {
      status: 2,
      err: /cannot read the file: ENOENT/,
    });
    t.match(
      await cli(
        ['verify', '--signature', 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17', '-'],
        { COLLECTA_SECRET: "It's a Secret to Everybody" },
        'Hello, World!',
      ),
      { status: 0, out: 'valid\n' },
      'GitHub’s documented example',
    );

    const old = new Date(Date.now() - 3_600_000);
    const sign = (at: Date) => [
      '--signature',
      new Webhook(secret).sign('evt_1', at, body),
      '--id',
      'evt_1',
      '--timestamp',
      String(Math.floor(at.getTime() / 1000)),
    ];
    t.match(await cli(['verify', ...sign(new Date()), file], env), { status: 0, out: 'valid\n' });
    t.match(await cli(['verify', ...sign(old), file], env), { status: 1, out: /^invalid: webhook-timestamp/ });
    t.match(await cli(['verify', ...sign(old), '--any-age', file], env), { status: 0, out: 'valid\n' });
    t.match(await cli(['verify', ...sign(old), '--any-age', '-'], env, 'else'), { status: 1, out: /^invalid: / });
    t.match(await cli(['verify', ...sign(new Date()).slice(0, 2), file], env), {
      status: 1,
      out: /^invalid: webhook-id or webhook-timestamp is missing/,
    });
  });

  t.test(`${runtime}: dispatch and run wait for the database and its install, and stop on a signal`, async t => {
    const start = (command: string, target: string) => {
      const child = spawn(program, [...first, command], {
        env: { ...plainEnvironment, DATABASE_URL: target, COLLECTA_PORT: '0' },
      });
      t.teardown(() => child.kill('SIGKILL'));
      let log = '';
      child.stderr.on('data', chunk => {
        log += chunk;
      });
      return {
        stop: (signal: NodeJS.Signals) => child.kill(signal),
        ended: new Promise(done => child.on('close', (status, signal) => done({ status, signal }))),
        async logged(event: string): Promise<Record<string, unknown>> {
          for (let waited = 0; waited < 20_000; waited += 20) {
            const line = log.split('\n').find(each => each.includes(`"event":"${event}"`) && each.endsWith('}'));
            if (line) return JSON.parse(line);
            if (child.exitCode !== null) break;
            await pause(20);
          }
          throw new Error(`${command} did not log "${event}": ${log}`);
        },
        log: () => log,
      };
    };
    const absent = start('run', `postgres://u:sekret@127.0.0.1:${await freePort()}/d`);
    t.match(await absent.logged('waiting for the database'), { level: 'warn', reason: /ECONNREFUSED/ });
    absent.stop('SIGINT');
    t.strictSame(await absent.ended, { status: 0, signal: null });
    t.notMatch(absent.log(), /sekret|^ +at /m);

    const { url } = await database('empty');
    const early = start('dispatch', url);
    t.match(await early.logged('waiting for the install'), {
      state: 'not installed',
      hint: /collecta-webhooks migrate/,
    });
    await cli(['migrate'], { DATABASE_URL: url });
    await early.logged('dispatching');
    early.stop('SIGTERM');
    t.strictSame(await early.ended, { status: 0, signal: null });

    const both = start('run', url);
    await Promise.all([both.logged('dispatching'), both.logged('inbound listens')]);
    both.stop('SIGTERM');
    t.strictSame(await both.ended, { status: 0, signal: null });
  });

  t.test(`${runtime}: check-url`, async t => {
    const env = { COLLECTA_ALLOW_DESTINATIONS: '10.0.0.0/8' };
    t.match(await cli(['check-url', 'https://93.184.216.34/hook', 'https://10.1.2.3/'], env), {
      status: 0,
      out: /^allowed https:\/\/93\.184\.216\.34\/hook 93\.184\.216\.34\nallowed https:\/\/10\.1\.2\.3\/ 10\.1\.2\.3\n$/,
      err: '',
    });
    t.match(await cli(['check-url'], env, 'https://93.184.216.34/\nhttps://127.0.0.1/\n'), {
      status: 1,
      out: /^allowed .*\nblocked https:\/\/127\.0\.0\.1\/ 127\.0\.0\.1 .*loopback.*\n$/,
    });
    t.match(await cli(['check-url', 'https://a.example/'], { COLLECTA_ALLOW_DESTINATIONS: '10.0.0.0/33' }), {
      status: 2,
      err: /^COLLECTA_ALLOW_DESTINATIONS must be/,
    });
  });

  t.test(`${runtime}: a closed output pipe is not an error`, async t => {
    const child = spawn(program, [...first, '--help'], { env: plainEnvironment });
    child.stdout.destroy();
    let err = '';
    child.stderr.on('data', chunk => {
      err += chunk;
    });
    t.match(await new Promise(done => child.on('close', (status, signal) => done({ status, signal }))), {
      status: 0,
      signal: null,
    });
    t.equal(err, '');
  });
}
