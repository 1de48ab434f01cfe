import { mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import pino from 'pino';
import type { Role } from './run-status.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface LoggerOptions {
  readonly role: Role;
  readonly rank: number;
  readonly runId: string;
  /** File to append to, or null: stderr. Its folder is made. */
  readonly file: string | null;
  /** Default: `info`, or the environment's WHITTLE_LOG_LEVEL. */
  readonly level?: LogLevel;
}

/** Fields beside the message. `step` shows in `whittle logs`; `error` is written with its stack. */
export type LogFields = Readonly<Record<string, unknown>> & { readonly step?: number; readonly error?: unknown };

export interface LogMethod {
  (message: string): void;
  (fields: LogFields, message: string): void;
}

/**
 * Writes JSON lines `{ level, time, role, rank, run, step?, ..., msg }`. Logging never waits: lines are
 * written in the background, what is left at exit or in a crash synchronously.
 */
export interface Logger {
  readonly debug: LogMethod;
  readonly info: LogMethod;
  readonly warn: LogMethod;
  readonly error: LogMethod;
  /** Writes what is left and closes the file; resolves when it is closed. Lines after that are dropped. */
  close(): Promise<void>;
}

/** How long the last lines may take to reach the file. */
const CLOSE_MILLISECONDS = 1_000;

export function createLogger(options: LoggerOptions): Logger {
  if (options.file !== null) mkdirSync(dirname(options.file), { recursive: true });
  // Opened here, since pino's destination cannot be flushed before it has opened its file.
  const descriptor = options.file === null ? 2 : openSync(options.file, 'a');
  const destination = pino.destination({ dest: descriptor, sync: false });
  // A full disk or a closed pipe must not end a training run.
  destination.on('error', () => undefined);
  const logger = pino(
    {
      level: options.level ?? levelFromEnvironment(),
      base: { role: options.role, rank: options.rank, run: options.runId },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: pino.stdSerializers.err },
    },
    destination,
  );
  let closed: Promise<void> | undefined;
  return {
    debug: (...line: [string] | [LogFields, string]) => emit('debug', line),
    info: (...line: [string] | [LogFields, string]) => emit('info', line),
    warn: (...line: [string] | [LogFields, string]) => emit('warn', line),
    error: (...line: [string] | [LogFields, string]) => emit('error', line),
    close: () =>
      (closed ??= new Promise<void>((resolve) => {
        // What a full disk does not take is tried again without end; the process must not wait for it.
        const timer = setTimeout(() => destination.destroy(), CLOSE_MILLISECONDS);
        destination.once('close', () => {
          clearTimeout(timer);
          resolve();
        });
        destination.end();
      })),
  };

  function emit(level: LogLevel, line: [string] | [LogFields, string]): void {
    if (closed !== undefined) return;
    if (line.length === 1) logger[level](line[0]);
    else logger[level](line[0], line[1]);
  }
}

function levelFromEnvironment(): LogLevel {
  const level = process.env['WHITTLE_LOG_LEVEL'];
  return level === 'debug' || level === 'warn' || level === 'error' ? level : 'info';
}

/** `S[2]`, `W[0]`; the scheduler is `scheduler`. */
export function memberName(role: Role, rank: number): string {
  if (role === 'scheduler') return 'scheduler';
  return `${role === 'server' ? 'S' : 'W'}[${rank}]`;
}

/**
 * A log line for people: `2026-08-01 12:00:00.123 S[2] step 412 message key=value`. Warnings and errors
 * say so; a stack follows on lines of its own. A line that is not JSON (a crash of Node's) stays as it is.
 */
export function formatLogLine(line: string): string {
  let record: Record<string, unknown>;
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return line;
    record = parsed as Record<string, unknown>;
  } catch {
    return line;
  }
  const { level, time, role, rank, run: _run, step, msg, error, ...rest } = record;
  if (typeof time !== 'string' || typeof msg !== 'string') return line;
  const words = [time.replace('T', ' ').replace('Z', ''), memberName(role as Role, Number(rank))];
  if (level === 'warn' || level === 'error') words.push(level.toUpperCase());
  if (typeof step === 'number') words.push(`step ${step}`);
  words.push(msg);
  for (const [key, value] of Object.entries(rest)) {
    words.push(`${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  }
  return [words.join(' '), ...errorLines(error)].join('\n');
}

function errorLines(error: unknown): string[] {
  if (typeof error !== 'object' || error === null) return error === undefined ? [] : [`  ${JSON.stringify(error)}`];
  const { stack, message } = error as { stack?: unknown; message?: unknown };
  const text = typeof stack === 'string' ? stack : String(message);
  return text.split('\n').map((part) => `  ${part}`);
}
