/**
 * Every statement and every command of README, docs/operations.md and docs/runbook.md works with exactly the role that
 * they name.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import t from 'tap';
import { useServer } from '../support/database.ts';
import { startRunner } from '../support/runner.ts';

const { admin, connect, database, server } = await useServer();
const read = (path: string) => readFileSync(path, 'utf8');
const pages = ['README.md', 'docs/operations.md', 'docs/runbook.md'].map(path => ({ path, text: read(path) }));

const target = await database('empty');
await admin.unsafe(`
  create role a_dba login createrole password 'x'; grant create on database ${target.name} to a_dba;`);
await connect(server.url(target.name)).unsafe('grant create on schema public to a_dba');
const urlOf = (login: string) => target.url.replace('postgres:postgres@', `${login}:x@`);

const cli = (args: string[], login: string, env: Record<string, string> = {}) =>
  new Promise<{ status: number; output: string }>(done => {
    const { NODE_OPTIONS: _, ...inherited } = process.env;
    const child = execFile(
      process.execPath,
      ['--import', 'tsx', 'src/cli.ts', ...args],
      { env: { ...inherited, DATABASE_URL: urlOf(login), ...env } },
      (error, stdout, stderr) => done({ status: error ? Number(error.code ?? 1) : 0, output: stdout + stderr }),
    );
    // Commands that run until they are stopped have printed their output by then.
    if (args[0] === 'tail') setTimeout(() => child.kill('SIGTERM'), 5_000);
  });

// The roles that may call a function, from the README's table; '' is the installing role.
const mayCall = new Map<string, string>();
for (const [, names, who] of read('README.md').matchAll(/^\| (`\w+[^|]*) \| [^|]* \| ([^|]*)\|$/gm))
  for (const [, name] of names!.matchAll(/`(\w+)/g)) mayCall.set(name!, /collecta_(\w+)/.exec(who!)?.[1] ?? '');

/**
 * The login that a statement needs according to the documentation: one of our roles for our functions and tables,
 * otherwise the DBA.
 */
function loginFor(statement: string): string {
  if (!/^select\b/.test(statement)) return 'a_dba';
  const called = [...statement.matchAll(/\bcollecta\.(\w+)\(/g)].map(([, name]) => mayCall.get(name!));
  for (const role of ['', 'dispatcher', 'operator']) if (called.includes(role)) return role ? `a_${role}` : 'a_dba';
  return 'a_reader';
}

const statementsIn = (text: string) =>
  text
    .replace(/--.*$/gm, '')
    .split(/;[ \t]*(?:\n|$)/)
    .map(statement => statement.trim())
    .filter(statement => statement !== '');
const blocks = pages.flatMap(({ path, text }) =>
  [...text.matchAll(/^```sql\n([\s\S]*?)^```$/gm)].flatMap(([, block]) =>
    statementsIn(block!).map(statement => ({ path, statement })),
  ),
);
const inline = pages.flatMap(({ path, text }) =>
  [...text.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/`((?:select|grant|update|delete) [^`\n]*)`/g)]
    .flatMap(([, code]) => code!.split(/;\s*/).filter(Boolean))
    .map(code => ({ path, statement: code.replace("'slug'", "'work-orders'").replace("'events'", "'work-orders'") })),
);
/** These are fragments, or refer to tables that do not exist here. */
const notWhole = /…|app_role|partman/;

t.test('every SQL statement in the documentation runs', async t => {
  t.match(await cli(['migrate'], 'a_dba'), { status: 0 });
  for (const role of ['reader', 'operator', 'dispatcher', 'inbound'])
    await admin.unsafe(`create role a_${role} login password 'x' in role collecta_${role}`);
  t.equal(mayCall.get('pause_endpoint'), 'operator');
  t.equal(mayCall.get('attach_module'), '');
  t.ok(blocks.length > 40 && inline.length > 10, `${blocks.length} and ${inline.length} statements`);
  const sessions = new Map<string, ReturnType<typeof connect>>();
  for (const { path, statement } of [...blocks, ...inline].filter(each => !notWhole.test(each.statement))) {
    const login = loginFor(statement);
    const session = sessions.get(login) ?? connect(urlOf(login), { max: 1 });
    sessions.set(login, session);
    const code = await session.unsafe(statement).then(
      () => undefined,
      error => `${error.code}: ${error.message}`,
    );
    t.equal(code, undefined, `${path}, as ${login}: ${statement.replace(/\s+/g, ' ').slice(0, 120)}`);
  }
});

t.test('every command works with the login that docs/operations.md names', async t => {
  const table = /^\| command \| its login \|\n\|[-|]+\|\n((?:\|.*\n)+)/m.exec(read('docs/operations.md'))![1]!;
  const logins = new Map<string, string[]>();
  for (const [, commands, who] of table.matchAll(/^\| (.*?) \| (.*?) \|$/gm))
    for (const [, command] of commands!.matchAll(/`([\w-]+)`/g))
      logins.set(
        command!,
        [...who!.matchAll(/`(collecta_\w+)`/g)].map(([, role]) => role!),
      );
  const help = (await cli(['--help'], 'a_dba')).output;
  const all = [...help.matchAll(/^ {2}([a-z][a-z-]+) {2,}/gm)].map(([, name]) => name!).filter(name => name !== 'help');
  t.ok(all.length > 10);
  t.strictSame([...logins.keys()].sort(), all.sort(), 'each command is in the table');

  const [endpoint] = await target.sql`select endpoint_id from collecta.endpoints where name = 'erp'`;
  const key = Buffer.alloc(32, 7).toString('base64');
  let made = 0;
  /** Creates a login that is a member of exactly these roles, or returns the installing role if none is named. */
  async function loginOf(roles: string[]): Promise<string> {
    if (roles.length === 0) return 'a_dba';
    const name = `b_${++made}`;
    await admin.unsafe(`create role ${name} login password 'x' in role ${roles.join(', ')}`);
    return name;
  }
  for (const command of ['create-endpoint', 'rotate-secret', 'seal', 'tail', 'doctor']) {
    const roles = logins.get(command)!;
    for (const login of command === 'doctor'
      ? await Promise.all(roles.map(role => loginOf([role])))
      : [await loginOf(roles)]) {
      const args = {
        'create-endpoint': ['https://hooks.example.com/x', '--events', 'record_created', '--name', 'by-command'],
        'rotate-secret': [endpoint!.endpoint_id as string],
      }[command];
      const env = { COLLECTA_SECRET_KEY: key, COLLECTA_ALLOW_DESTINATIONS: '', COLLECTA_OPERATIONS_PORT: '' };
      const { status, output } = await cli([command, ...(args ?? [])], login, env);
      if (command === 'doctor') t.notMatch(output, /permission denied|FAIL +(database|b_)/, `doctor as ${login}`);
      else t.equal(status, 0, `${command} as ${login}: ${output}`);
    }
  }
  for (const [command, event] of [
    ['run', 'dispatching'],
    ['dispatch', 'dispatching'],
    ['receive', 'inbound listens'],
    ['console', 'serving operations'],
  ] as const) {
    const login = await loginOf(logins.get(command)!);
    const env = { COLLECTA_SECRET_KEY: key, COLLECTA_PORT: '0', COLLECTA_OPERATIONS_PORT: '0' };
    const runner = await startRunner(urlOf(login), { command, env });
    await runner.logged(event);
    const { port } = await runner.logged('serving operations');
    const metrics = await fetch(`http://127.0.0.1:${port}/metrics`);
    t.equal(metrics.status, 200, `${command} as ${login}: metrics`);
    t.match(await metrics.text(), /^collecta_delivery_queue_rows \d+$/m);
    await runner.stop();
    const refused = runner.log.filter(line => line.level === 'error' || line.code === '42501');
    t.strictSame(refused, [], `${command} as ${login}`);
  }
  t.match(await cli(['uninstall', '--yes'], 'a_dba'), { status: 0 });
});
