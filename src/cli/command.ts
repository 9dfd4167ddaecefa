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
  /** What follows the command's name. */
  usage: string;
  about: string;
  options?: Record<string, { type: 'string' | 'boolean'; value?: string; about: string }>;
  /** Stops by itself on SIGTERM or SIGINT. */
  stops?: true;
  /** Writes JSON lines on standard error. */
  logs?: true;
  /** Resolves to the exit status: 0 success, 1 a negative answer. */
  run: (invocation: Invocation) => Promise<number>;
};

/** The command line is wrong: its message is printed with the way to the help, and the exit status is 2. */
export class UsageError extends Error {}

/** The name of the program, as it is typed. */
export const name = 'collecta-webhooks';
/** Prints a line on standard error. */
export const complain = (line: string) => process.stderr.write(`${line}\n`);

/** The bytes of a file, or of standard input where `file` is `-`. */
export async function readInput(file: string): Promise<Uint8Array> {
  try {
    return file === '-' ? await buffer(process.stdin) : await readFile(file);
  } catch (error) {
    throw new UsageError(`cannot read the file: ${(error as Error).message}`);
  }
}
