#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import process from 'node:process';
import { buffer } from 'node:stream/consumers';
import { parseArgs } from 'node:util';
import {
  type Config,
  ConfigError,
  type Environment,
  fromProcess,
  readConfig,
  readSettings,
  variables,
} from './config.ts';
import { describeDatabase, whyUnreachable } from './database/connect.ts';
import { createLog, type Log } from './log.ts';

type Invocation = {
  env: Environment;
  positionals: string[];
  options: Record<string, string | boolean | undefined>;
  /** Aborted by the first SIGTERM or SIGINT. */
  signal: AbortSignal;
  /** Prints a line on standard output. */
  say: (line: string) => void;
};

type Command = {
  summary: string;
  /** What follows the command's name. */
  usage: string;
  about: string;
  options?: Record<string, { type: 'string' | 'boolean'; value?: string; about: string }>;
  /** Stops by itself on SIGTERM or SIGINT. */
  stops?: true;
  /** Resolves to the exit status: 0 success, 1 a negative answer. */
  run: (invocation: Invocation) => Promise<number>;
};

class UsageError extends Error {}

const name = 'collecta-webhooks';
const complain = (line: string) => process.stderr.write(`${line}\n`);

type Service = (config: Config, log: Log, signal: AbortSignal) => Promise<void>;

const dispatch: Service = async (...given) => (await import('./outbound/dispatcher.ts')).dispatch(...given);
const receive: Service = async (...given) => (await import('./inbound/server.ts')).receive(...given);
const operations: Service = async (...given) => (await import('./operations/serve.ts')).serveOperations(...given);

/** A command that runs until it is told to stop. When one of its services fails, the others stop too. */
function serve(summary: string, about: string, services: Service[]): Command {
  return {
    summary,
    usage: '',
    about: `${about}
Waits for the database and for its install, and says so. Logs JSON lines on standard error. SIGTERM or SIGINT stops it:
what is under way may finish within COLLECTA_STOP_TIMEOUT_MS. Any number may run at once, on any number of machines.`,
    stops: true,
    run: async ({ env, signal }) => {
      const config = readConfig(env);
      const log = createLog(config.logLevel);
      // For target_session_attrs the driver asks whenever it connects; nobody can catch it when the session ends meanwhile.
      process.on('unhandledRejection', error => {
        const reason = whyUnreachable(error);
        if (reason === undefined) throw error;
        log.warn('a database session ended while it was opened', { reason });
      });
      const stop = new AbortController();
      signal.addEventListener('abort', () => stop.abort());
      const ends = services.map(service => service(config, log, stop.signal).finally(() => stop.abort()));
      await Promise.allSettled(ends);
      await Promise.all(ends);
      return 0;
    },
  };
}

const commands: Record<string, Command> = {
  demo: {
    summary: 'see it work, on a PostgreSQL of its own',
    usage: '[--keep]',
    about: `Starts an embedded PostgreSQL in a temporary folder and a receiver beside it, both on 127.0.0.1 only; installs collecta,
makes changes, and shows in SQL what was delivered. Needs no settings, touches no other database, leaves nothing behind.`,
    options: { keep: { type: 'boolean', about: 'stay up until Ctrl-C, and print the URL for psql' } },
    stops: true,
    run: async ({ options, signal, say }) =>
      (await import('./demo/demo.ts')).demo({ keep: Boolean(options.keep), signal, say }),
  },
  migrate: {
    summary: 'install collecta in the database, or bring it up to date',
    usage: '[--check]',
    about: `Applies what the schema "collecta" lacks, each migration in a transaction of its own, and notes it in
collecta.migrations. Needs CREATE on the database. Safe to run again, and from several places at once.
psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f sql/install.psql does the same without Node.`,
    options: {
      check: { type: 'boolean', about: 'apply nothing; say what would be applied, and exit with 1 if anything' },
    },
    run: async ({ env, options, say }) => {
      const { databaseUrl } = readConfig(env);
      const { migrate, status } = await import('./install/migrate.ts');
      if (options.check) {
        const { state, pending } = await status(databaseUrl);
        for (const filename of pending) say(`would apply ${filename}`);
        say(`collecta in ${describeDatabase(databaseUrl)}: ${state}`);
        return pending.length > 0 ? 1 : 0;
      }
      const { applied, already } = await migrate(databaseUrl, {
        onWait: reason => complain(`waiting: ${reason}`),
        onNotice: ({ message, hint }) => complain(`notice: ${message}${hint ? `\n  ${hint}` : ''}`),
      });
      for (const filename of applied) say(`applied ${filename}`);
      say(
        `collecta is up to date in ${describeDatabase(databaseUrl)}: ${applied.length} applied, ${already.length} already there`,
      );
      return 0;
    },
  },
  run: serve(
    'deliver webhooks and receive payloads: what to keep running',
    'Routes captured changes, delivers them to the endpoints, and serves inbound on COLLECTA_HOST and COLLECTA_PORT.',
    [dispatch, receive, operations],
  ),
  dispatch: serve('deliver webhooks only', 'Routes captured changes and delivers them: the outbound half of run.', [
    dispatch,
    operations,
  ]),
  receive: serve(
    'receive payloads only',
    'Serves POST /api/webhooks/MODULE/TOKEN on COLLECTA_HOST and COLLECTA_PORT: the inbound half of run.',
    [receive, operations],
  ),
  doctor: {
    summary: 'look at everything that a delivery needs, from here',
    usage: '',
    about: `Connection, install, rights, restore check, notifications, collecta.health, and whether each endpoint's destination is
allowed: a line for each, ok, note or FAIL with what to do. Changes and sends nothing. Exits with 1 if anything failed.`,
    run: async ({ env, say }) => (await import('./operations/doctor.ts')).doctor(readConfig(env), say),
  },
  tail: {
    summary: 'follow the delivery attempts as they are recorded',
    usage: '[--failed] [--endpoint ID] [--last N]',
    about:
      'A line for each row of collecta.webhook_deliveries: time, outcome, status, module, event, record, attempt, ids. Needs collecta_reader.',
    options: {
      failed: { type: 'boolean', about: 'only attempts that did not deliver' },
      endpoint: { type: 'string', value: 'ID', about: 'only this endpoint' },
      last: { type: 'string', value: 'N', about: 'begin with the last N attempts [10]' },
    },
    stops: true,
    run: async ({ env, options, signal, say }) => {
      const last = Number(options.last ?? 10);
      if (!Number.isInteger(last) || last < 0 || last > 10_000)
        throw new UsageError('--last takes a whole number up to 10000');
      const { tail } = await import('./operations/tail.ts');
      const endpoint = options.endpoint as string | undefined;
      return await tail(readConfig(env).databaseUrl, { endpoint, failed: Boolean(options.failed), last }, signal, say);
    },
  },
  'check-url': {
    summary: 'say whether destinations are allowed, without sending anything',
    usage: '[URL…]',
    about: `Reads URLs from standard input, one a line, where none is given. Prints a line for each: allowed or blocked, the URL,
its addresses, and why it is blocked. Judges as the runner does, by COLLECTA_ALLOW_HTTP, COLLECTA_ALLOW_DESTINATIONS and
COLLECTA_DNS_SERVERS. Exits with 1 if any is blocked.`,
    run: async ({ env, positionals, say }) => {
      const settings = readSettings(env);
      const { checkUrl, readUrls } = await import('./operations/check-url.ts');
      return await checkUrl(settings, positionals.length > 0 ? positionals : readUrls(process.stdin), say);
    },
  },
  verify: {
    summary: 'check the signature of a webhook',
    usage: '--signature SIGNATURE [--id ID --timestamp SECONDS [--any-age]] FILE|-',
    about: `FILE (or standard input) holds the exact bytes of the body. The secret comes from COLLECTA_SECRET or
COLLECTA_SECRET_FILE. Prints "valid", or "invalid" and why, and exits with 0 or 1.`,
    options: {
      signature: {
        type: 'string',
        value: 'SIGNATURE',
        about: 'X-Webhook-Signature (sha256=…), or webhook-signature (v1,…)',
      },
      id: { type: 'string', value: 'ID', about: 'webhook-id, for webhook-signature' },
      timestamp: {
        type: 'string',
        value: 'SECONDS',
        about: 'webhook-timestamp, for webhook-signature; at most 300 s off',
      },
      'any-age': { type: 'boolean', about: 'accept any timestamp: for a request from the history' },
    },
    run: async ({ env, positionals, options, say }) => {
      const { signature, id, timestamp, 'any-age': anyAge } = options as Record<string, string>;
      if (!signature) throw new UsageError('--signature is missing');
      if (positionals.length !== 1) throw new UsageError('one file is expected, or - for standard input');
      const { secret } = readSettings(env);
      if (!secret)
        throw new ConfigError(
          'COLLECTA_SECRET (or COLLECTA_SECRET_FILE) is not set, for example COLLECTA_SECRET_FILE=/run/secrets/webhook',
        );
      const body = await readInput(positionals[0] as string);
      const { verify } = await import('./operations/verify.ts');
      const { ok, reason } = verify(secret, body, { signature, id, timestamp, anyAge: Boolean(anyAge) });
      say(ok ? 'valid' : `invalid: ${reason}`);
      return ok ? 0 : 1;
    },
  },
  send: {
    summary: 'post a payload to an inbound URL',
    usage: 'URL [FILE|-]',
    about: `Posts JSON from FILE (or standard input) with an idempotency key, signed if COLLECTA_SECRET or COLLECTA_SECRET_FILE is
set, and tries again on 429, 5xx and network failures as long as Retry-After says. Prints the record's id, and nothing
else, on standard output.`,
    options: {
      'idempotency-key': { type: 'string', value: 'KEY', about: 'makes a repetition of this command harmless' },
    },
    run: async ({ env, positionals, options, say, signal }) => {
      const [url, file = '-', ...rest] = positionals;
      if (!url || rest.length > 0 || !/^https?:\/\/./.test(url))
        throw new UsageError('a URL is expected, and at most one file, or - for standard input');
      const { secret } = readSettings(env);
      const body = await readInput(file);
      const { send, SendError } = await import('./operations/send.ts');
      try {
        const idempotencyKey = options['idempotency-key'] as string | undefined;
        const { recordId } = await send({ url, body, secret, signal, idempotencyKey });
        say(recordId);
        return 0;
      } catch (error) {
        if (!(error instanceof SendError)) throw error;
        complain(`${name}: ${error.message}`);
        return 1;
      }
    },
  },
  'create-endpoint': {
    summary: 'make a destination whose secret the database never sees plain',
    usage: 'URL --events EVENT,… [OPTIONS]',
    about: `As collecta.create_endpoint, but with COLLECTA_SECRET_KEY the secret and the headers are sealed before they are sent to the
database. Prints the endpoint's id, and its secret, which is shown here only. A secret that the receiver gave comes from
COLLECTA_SECRET or COLLECTA_SECRET_FILE; else one is generated. The endpoint of a --name that exists is updated and keeps its own.`,
    options: {
      events: {
        type: 'string',
        value: 'LIST',
        about: 'record_created, record_updated, status_change …; commas between',
      },
      modules: { type: 'string', value: 'LIST', about: 'slugs, commas between (default: all, future ones included)' },
      name: { type: 'string', value: 'NAME', about: 'makes the command repeatable' },
      filter: { type: 'string', value: 'PATH', about: 'SQL/JSON path predicate over the payload' },
      scope: { type: 'string', value: 'VALUE', about: 'only records whose scope column equals it' },
      ordered: { type: 'boolean', about: 'per record one at a time, in order' },
      'payload-role': { type: 'string', value: 'ROLE', about: 'send only columns that this role may select' },
      'retry-max': { type: 'string', value: 'N', about: 'retries after the first attempt (default: 5)' },
      'headers-file': { type: 'string', value: 'FILE', about: 'a JSON object of request headers; - is standard input' },
    },
    run: async ({ env, positionals, options, say }) => {
      const [url, ...rest] = positionals;
      if (!url || rest.length > 0) throw new UsageError('one URL is expected');
      const { events, modules, name, filter, scope, ...given } = options as Record<string, string | undefined>;
      if (!events) throw new UsageError('--events is missing');
      const retryMax = given['retry-max'] ?? '5';
      if (!/^\d{1,3}$/.test(retryMax)) throw new UsageError('--retry-max is a whole number');
      const headers = given['headers-file'] ? parseHeaders(await readInput(given['headers-file'])) : {};
      const config = readConfig(env);
      const { createEndpoint } = await import('./secrets/seal.ts');
      const made = await createEndpoint(config, {
        url,
        events: events.split(','),
        modules: modules?.split(',') ?? null,
        name: name ?? null,
        filter: filter ?? null,
        scope: scope ?? null,
        ordered: Boolean(options.ordered),
        payloadRole: given['payload-role'] ?? null,
        retryMax: Number(retryMax),
        headers,
        secret: config.secret,
      });
      say(`endpoint_id ${made.endpointId}`);
      if (made.secret !== null) say(`secret ${made.secret}`);
      if (!config.secretKey) complain('The secret is stored plain: COLLECTA_SECRET_KEY is not set.');
      return 0;
    },
  },
  'rotate-secret': {
    summary: 'give an endpoint a new secret that the database never sees plain',
    usage: 'ENDPOINT_ID [--overlap INTERVAL]',
    about: `As collecta.rotate_secret, or collecta.rotate_inbound_secret for the id of an inbound endpoint; sealed by
COLLECTA_SECRET_KEY. Prints the new secret, and nothing else, on standard output.`,
    options: {
      overlap: { type: 'string', value: 'INTERVAL', about: 'how long both work (default: 24 hours); 0 after a leak' },
    },
    run: async ({ env, positionals, options, say }) => {
      const [id, ...rest] = positionals;
      if (!id || rest.length > 0) throw new UsageError('one endpoint id is expected');
      const config = readConfig(env);
      const { rotateSecret } = await import('./secrets/seal.ts');
      say(await rotateSecret(config, id, String(options.overlap ?? '24 hours')));
      if (!config.secretKey) complain('The secret is stored plain: COLLECTA_SECRET_KEY is not set.');
      return 0;
    },
  },
  seal: {
    summary: 'seal the secrets in the database by a key that it never sees',
    usage: '',
    about: `Seals by the first key of COLLECTA_SECRET_KEY what is plain, or sealed by another of its keys: the secrets and headers of all
endpoints, both ways. Give the key to the runners first. To change it: put the new key in front of the old one, restart the
runners, seal, then take the old one away. What was plain once stays in the server's WAL and backups until they age out.`,
    run: async ({ env, say }) => {
      const config = readConfig(env);
      const { secretKey } = config;
      if (!secretKey)
        throw new ConfigError(
          `COLLECTA_SECRET_KEY (or COLLECTA_SECRET_KEY_FILE) is not set, for example COLLECTA_SECRET_KEY=${variables.COLLECTA_SECRET_KEY.example}`,
        );
      const { seal } = await import('./secrets/seal.ts');
      return await seal({ ...config, secretKey }, say, complain);
    },
  },
  uninstall: {
    summary: 'take collecta out of the database, its history included',
    usage: '[--yes]',
    about: `Without --yes only says what would be dropped: the triggers on your tables, the schema "collecta" with the outbox,
the queue and all history, and the roles collecta_* that nothing else needs. Your tables and their rows stay.`,
    options: { yes: { type: 'boolean', about: 'do it' } },
    run: async ({ env, options, say }) => {
      const { uninstallCommand } = await import('./install/uninstall.ts');
      return await uninstallCommand(readConfig(env).databaseUrl, Boolean(options.yes), say);
    },
  },
};

function parseHeaders(bytes: Uint8Array): Record<string, string> {
  try {
    const headers = JSON.parse(Buffer.from(bytes).toString('utf8'));
    if (headers !== null && typeof headers === 'object') return headers;
  } catch {} // its message would quote them
  throw new UsageError('--headers-file holds no JSON object');
}

async function readInput(file: string): Promise<Uint8Array> {
  try {
    return file === '-' ? await buffer(process.stdin) : await readFile(file);
  } catch (error) {
    throw new UsageError(`cannot read the file: ${(error as Error).message}`);
  }
}

const version = () => JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version as string;

const columns = (rows: string[][]) => {
  const width = Math.max(...rows.map(([first = '']) => first.length));
  return rows.map(([first = '', ...rest]) => `  ${first.padEnd(width)}  ${rest.join('  ')}`).join('\n');
};

function generalHelp(): string {
  const settings = Object.entries<{ about: string; default?: string; secret?: true }>(variables);
  return `${name} ${version()}: webhooks for the tables of an existing PostgreSQL.

Usage: ${name} COMMAND [OPTIONS]
       ${name} COMMAND --help

Commands:
${columns(Object.entries(commands).map(([each, { summary }]) => [each, summary]))}

Settings, from the environment (those marked * also from the file that e.g. DATABASE_URL_FILE names):
${columns(settings.map(([each, { about, default: fallback, secret }]) => [`${each}${secret ? ' *' : ''}`, `${about}${fallback ? ` [${fallback}]` : ''}`]))}

Exit status: 0 success, 1 a negative answer, 2 wrong usage or settings.

First steps:
  export DATABASE_URL='${variables.DATABASE_URL.example}'
  ${name} migrate
  psql "$DATABASE_URL" -c "select collecta.attach_module('public.work_orders', 'work-orders', status_column => 'status')"
  psql "$DATABASE_URL" -c "select * from collecta.create_endpoint('https://example.com/hook', '{record_created,status_change}')"
  ${name} run`;
}

function commandHelp(each: string, { usage, about, options = {} }: Command): string {
  const rows = Object.entries(options).map(([option, { value, about }]) => [
    `--${option}${value ? ` ${value}` : ''}`,
    about,
  ]);
  return `Usage: ${`${name} ${each} ${usage}`.trim()}\n\n${about}\n\nOptions:\n${columns([...rows, ['--help', 'this text']])}

Settings come from the environment: ${name} --help lists them.`;
}

/** SIGTERM and SIGINT ask the command to stop; a second one does not wait for it. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  for (const [signal, status] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(status);
      controller.abort();
    });
  return controller.signal;
}

async function main(args: string[]): Promise<number> {
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  const [first, ...rest] = args[0] === 'help' ? [...args.slice(1, 2), '--help'] : args;
  if (first === '--version' || first === '-V') {
    say(version());
    return 0;
  }
  if (first === '--help' || first === '-h') {
    say(generalHelp());
    return 0;
  }
  if (first === undefined) throw new UsageError('a command is expected');
  const command = Object.hasOwn(commands, first) ? commands[first] : undefined;
  if (!command)
    throw new UsageError(`there is no ${first.startsWith('-') ? 'option' : 'command'} ${JSON.stringify(first)}`);
  const { values, positionals } = parseArgs({
    args: rest,
    options: { ...command.options, help: { type: 'boolean', short: 'h' } },
    allowPositionals: true,
  });
  if (values.help) {
    say(commandHelp(first, command));
    return 0;
  }
  if (positionals.length > 0 && !/FILE|URL|_ID/.test(command.usage))
    throw new UsageError(`${first} takes no ${JSON.stringify(positionals[0])}`);
  const signal = command.stops ? stopSignal() : new AbortController().signal;
  return await command.run({ env: fromProcess(), positionals, options: values, signal, say });
}

/** One line that says what is wrong, for whoever typed the command; a stack trace is for bugs. */
function explain(error: unknown, command: string | undefined): number {
  const { message, code, hint, detail, stack } = error as Record<string, string | undefined>;
  const prefix = command && Object.hasOwn(commands, command) ? `${name} ${command}` : name;
  if (error instanceof UsageError || code?.startsWith('ERR_PARSE_ARGS')) {
    complain(`${prefix}: ${message?.split('. To specify')[0]}\nTry: ${prefix} --help`);
    return 2;
  }
  if (error instanceof ConfigError) {
    complain(`${message}\nTry: ${name} --help`);
    return 2;
  }
  const unreachable = whyUnreachable(error);
  const known = unreachable
    ? `cannot reach the database: ${unreachable}`
    : hint || (code && /^[0-9A-Z]{5}$/.test(code))
      ? message
      : stack;
  complain(`${prefix}: ${known}`);
  if (detail) complain(`detail: ${detail}`);
  if (hint) complain(`hint: ${hint}`);
  return 1;
}

process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') process.exit(0); // `… | head`
});
const args = process.argv.slice(2);
process.exit(await main(args).catch(error => explain(error, args[0])));
