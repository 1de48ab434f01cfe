import { basename, join, sep } from 'node:path';
import { packageRoot } from './package-root.ts';

/** Where a command line was called, as far as it decides how it is called again. */
export interface Surroundings {
  /** `process.argv[1]`: the script, or the link on PATH that was called. */
  readonly script: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Folder of the package: a clone, or within a `node_modules`. */
  readonly root: string;
}

/**
 * How the command line is called from where the user is, so that a printed command works when it is pasted: `whittle`
 * where that is on PATH, `npx --no-install whittle` inside a clone or a project that depends on the package (without
 * `--no-install` npm would fetch a stranger's), elsewhere the script by its path.
 */
export function programName(at: Surroundings = surroundings()): string {
  const isLink = basename(at.script) === 'whittle' && !at.script.includes(`${sep}node_modules${sep}`);
  if (isLink && at.env['npm_command'] !== 'exec') return 'whittle';
  const [project = at.root] = at.root.split(`${sep}node_modules${sep}`);
  if (at.cwd === project || at.cwd.startsWith(`${project}${sep}`)) return 'npx --no-install whittle';
  return `node ${quoted(join(at.root, 'dist', 'deploy', 'cli', 'main.js'))}`;
}

/** A command as a user types it: `commandLine('resume', 'runs/mine')`. Words that a shell would split are quoted. */
export function commandLine(...words: readonly string[]): string {
  return [programName(), ...words.map(quoted)].join(' ');
}

function surroundings(): Surroundings {
  return { script: process.argv[1] ?? '', env: process.env, cwd: process.cwd(), root: packageRoot };
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
