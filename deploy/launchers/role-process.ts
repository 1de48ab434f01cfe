import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, fstatSync, mkdirSync, openSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Role } from '../../shared/telemetry/run-status.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { RoleExit } from './launcher.ts';

/** Set in a role's environment when its stdin is a pipe from its launcher: the pipe's end says the launcher is gone. */
export const LAUNCHER_PIPE = 'WHITTLE_LAUNCHER_PIPE';

/** A role as a child process. Its stdout and stderr go to a file, so that it outlives its launcher's terminal. */
export interface RoleProcess {
  readonly role: Role;
  readonly rank: number;
  readonly pid: number;
  /** Resolves, never rejects, when the process is reaped. */
  readonly exit: Promise<RoleExit>;
  /** Null while it runs. */
  ended(): RoleExit | null;
  /** Signals the process and its own children. Does nothing after its end. */
  kill(signal: NodeJS.Signals): void;
  /** What it wrote to stdout and stderr since its start, at most the last `maxBytes`. */
  output(maxBytes?: number): Promise<string>;
}

/** A role whose process is a child of this one. */
export interface ChildRole extends RoleProcess {
  /** Writes to its stdin, which is its launcher's pipe. Does nothing after its end. */
  send(text: string): void;
}

export interface RoleProcessOptions {
  readonly role: Role;
  readonly rank: number;
  readonly command: string;
  readonly argv: readonly string[];
  /** Where stdout and stderr are appended. */
  readonly outputFile: string;
  /** Added to this process's own. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
}

/** Starts a role in a process group of its own: a Ctrl-C in the terminal reaches the launcher only. */
export async function startRole(options: RoleProcessOptions): Promise<ChildRole> {
  mkdirSync(dirname(options.outputFile), { recursive: true });
  const file = openSync(options.outputFile, 'a');
  const offset = fstatSync(file).size;
  let child: ChildProcess;
  try {
    child = spawn(options.command, options.argv, {
      detached: true,
      stdio: ['pipe', file, file],
      env: { ...process.env, [LAUNCHER_PIPE]: '1', ...options.environment },
    });
  } finally {
    closeSync(file);
  }
  // The role may end while the pipe closes; that is what the pipe is for.
  child.stdin?.on('error', () => undefined);

  let ended: RoleExit | null = null;
  const exit = new Promise<RoleExit>((resolve) => {
    child.once('exit', (code, signal) => {
      ended = { code, signal };
      child.stdin?.destroy();
      resolve(ended);
    });
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => {
      reject(
        new WhittleError('ROLE_LOST', `${options.role}[${options.rank}] could not be started: ${cause.message}`, {
          cause,
        }),
      );
    });
  });
  const pid = child.pid ?? 0;
  return {
    role: options.role,
    rank: options.rank,
    pid,
    exit,
    ended: () => ended,
    kill: (signal) => {
      if (ended !== null) return;
      try {
        process.kill(-pid, signal);
      } catch {
        child.kill(signal);
      }
    },
    send: (text) => {
      if (ended === null) child.stdin?.write(text);
    },
    output: (maxBytes = 65_536) => readTail(options.outputFile, offset, maxBytes),
  };
}

/** The part of a file after `from`, at most its last `maxBytes`; empty when there is no such file. */
export async function readTail(path: string, from = 0, maxBytes = 65_536): Promise<string> {
  const file = await open(path, 'r').catch(() => null);
  if (file === null) return '';
  try {
    const { size } = await file.stat();
    const start = Math.max(from, size - maxBytes);
    const bytes = Buffer.alloc(Math.max(0, size - start));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, start);
    return bytes.subarray(0, bytesRead).toString('utf8');
  } finally {
    await file.close();
  }
}

/** The last `count` lines that say something; the scheduler's "listening" line is for launchers only. */
export function lastLines(text: string, count: number): string[] {
  return text
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '' && !line.startsWith('{"event":"listening"'))
    .slice(-count);
}
