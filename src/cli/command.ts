import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import type { Environment } from '../config.ts';

export type Invocation = {
  env: Environment;
  positionals: string[];
  options: Record<string, string | boolean | undefined>;
  /** Aborted by the first SIGTERM or SIGINT. */
  signal: AbortSignal;
  /** Prints a line on standard output. */
  say: (line: string) => void;
};

export type Command = {
  summary: string;
  /** The arguments, as the help shows them after the command's name. */
  usage: string;
  about: string;
  options?: Record<string, { type: 'string' | 'boolean'; value?: string; about: string }>;
  /** Whether it ends in an orderly way when `signal` aborts. */
  stops?: true;
  /** Whether it writes JSON lines to standard error. */
  logs?: true;
  /** Resolves to the exit status: 0 for success, 1 for a negative answer. */
  run: (invocation: Invocation) => Promise<number>;
};

/** The command line is wrong. The message is printed together with how to get help, and the exit status is 2. */
export class UsageError extends Error {}

/** The name of the program. */
export const name = 'collecta-webhooks';
/** Prints a line on standard error. */
export const complain = (line: string) => process.stderr.write(`${line}\n`);

/** Reads a file, or standard input if `file` is `-`. Throws UsageError if it cannot be read. */
export async function readInput(file: string): Promise<Uint8Array> {
  try {
    return file === '-' ? await buffer(process.stdin) : await readFile(file);
  } catch (error) {
    throw new UsageError(`cannot read the file: ${(error as Error).message}`);
  }
}
