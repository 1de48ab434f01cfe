import { fileURLToPath } from 'node:url';
import { isCompiled } from '../../shared/package-root.ts';

/**
 * How a launcher speaks with a role on another machine, over the stdin of the ssh client that started it. First comes
 * this job as one line of JSON, then lines with the name of a signal for the role, and `.` from time to time. The role's
 * stdout and stderr come back, and its exit code; 128 + n where signal n ended it.
 */
export interface RemoteJob {
  /** What follows Node on that machine. */
  readonly argv: readonly string[];
  readonly cwd: string;
  /** Added to the environment there. */
  readonly env: Readonly<Record<string, string>>;
  /** A file in the run directory, and what is in it while nobody took the role's place. */
  readonly place: { readonly file: string; readonly token: string };
}

/** Milliseconds between signs of life, and the silence after which the launcher counts as gone. */
export const ALIVE_EVERY = 10_000;
export const SILENCE_DEADLINE = 180_000;

/** Node arguments that start the remote side, on a machine where Whittle lies where it lies here. */
export function remoteRoleEntry(): readonly string[] {
  const main = fileURLToPath(import.meta.resolve(isCompiled ? './remote-role-main.js' : './remote-role-main.ts'));
  return [...(isCompiled ? [] : ['--import', import.meta.resolve('tsx')]), main];
}

/** For the command line of any POSIX shell. */
export function shellQuote(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
