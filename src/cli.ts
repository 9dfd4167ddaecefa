#!/usr/bin/env node
import process from 'node:process';
import { parseArgs } from 'node:util';
import { checkUrlCommand } from './cli/check-url.ts';
import { type Command, complain, name, UsageError } from './cli/command.ts';
import { demoCommand } from './cli/demo.ts';
import { doctorCommand } from './cli/doctor.ts';
import { createEndpointCommand, rotateSecretCommand, sealCommand } from './cli/endpoints.ts';
import { healthcheckCommand } from './cli/healthcheck.ts';
import { commandHelp, generalHelp, version } from './cli/help.ts';
import { migrateCommand, uninstallCommand } from './cli/install.ts';
import { sendCommand } from './cli/send.ts';
import { consoleCommand, dispatchCommand, receiveCommand, runCommand } from './cli/serve.ts';
import { tailCommand } from './cli/tail.ts';
import { verifyCommand } from './cli/verify.ts';
import { ConfigError, fromProcess, namesInProcess, unknownVariables } from './config.ts';
import { whyUnreachable } from './database/connect.ts';
import { createLog } from './log.ts';

/** Every command, in the order in which the help lists them. */
const commands: Record<string, Command> = {
  demo: demoCommand,
  migrate: migrateCommand,
  run: runCommand,
  dispatch: dispatchCommand,
  receive: receiveCommand,
  console: consoleCommand,
  healthcheck: healthcheckCommand,
  doctor: doctorCommand,
  tail: tailCommand,
  'check-url': checkUrlCommand,
  verify: verifyCommand,
  send: sendCommand,
  'create-endpoint': createEndpointCommand,
  'rotate-secret': rotateSecretCommand,
  seal: sealCommand,
  uninstall: uninstallCommand,
};

/** A signal that aborts on SIGTERM or SIGINT. A second SIGTERM or SIGINT ends the process at once. */
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
    say(generalHelp(commands));
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
  for (const message of unknownVariables(namesInProcess()))
    if (command.logs) createLog('warn').warn('unknown setting', { message });
    else complain(`warning: ${message}`);
  const signal = command.stops ? stopSignal() : new AbortController().signal;
  return await command.run({ env: fromProcess(), positionals, options: values, signal, say });
}

/**
 * Prints what is wrong, for the person who typed the command, and returns the exit status. An error that nobody foresaw
 * is printed with its stack trace.
 */
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
  const isSqlState = code !== undefined && /^[0-9A-Z]{5}$/.test(code);
  if (unreachable) complain(`${prefix}: cannot reach the database: ${unreachable}`);
  else complain(`${prefix}: ${hint || isSqlState ? message : stack}`);
  if (detail) complain(`detail: ${detail}`);
  if (hint) complain(`hint: ${hint}`);
  return 1;
}

process.stdout.on('error', ({ code }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') process.exit(0); // the reader of a pipe, such as head, has ended
});
const args = process.argv.slice(2);
process.exit(await main(args).catch(error => explain(error, args[0])));
