import process from 'node:process';
import type { LogLevel } from './config.ts';

/** What a log line says besides its event: ids that identify rows, and numbers. Never a body, a token or a secret. */
export type Fields = Readonly<Record<string, string | number | boolean | null | undefined>>;
export type Log = Record<LogLevel, (event: string, fields?: Fields) => void>;

const levels: LogLevel[] = ['debug', 'info', 'warn', 'error'];

/**
 * A log that writes one JSON line to standard error for each event at or above `level`:
 * `{"time": …, "level": …, "event": …, …fields}`.
 */
export function createLog(level: LogLevel, write: (line: string) => void = line => process.stderr.write(line)): Log {
  const at = (each: LogLevel) => (event: string, fields?: Fields) => {
    if (levels.indexOf(each) < levels.indexOf(level)) return;
    write(`${JSON.stringify({ time: new Date().toISOString(), level: each, event, ...fields })}\n`);
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
