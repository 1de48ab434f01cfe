import { join } from 'node:path';
import { isCompiled, packageRoot } from '../../shared/package-root.ts';
import { defineLauncher } from './define.ts';
import type { Launcher } from './launcher.ts';
import { startRole } from './role-process.ts';
import type { SuperviseDeadlines } from './role-host.ts';
import { superviseRun } from './supervise.ts';

export interface LocalOptions {
  /** What follows `node` before the role command and its arguments. Default: this package's command line. */
  readonly entry?: readonly string[];
  readonly deadlines?: Partial<SuperviseDeadlines>;
}

/** Node arguments and script of Whittle's own command line, from the sources or compiled. */
export function ownEntry(): readonly string[] {
  // An absolute URL: `--import tsx` alone would be looked up from the user's folder.
  if (isCompiled) return [join(packageRoot, 'dist', 'deploy', 'cli', 'main.js')];
  return ['--import', import.meta.resolve('tsx'), join(packageRoot, 'deploy', 'cli', 'main.ts')];
}

/** What `--on local` is. */
export const localLauncher = defineLauncher({
  name: 'local',
  summary: 'as processes of this machine',
  options: {},
  create: () => createLocalLauncher(),
});

/** Runs all roles as supervised processes on this machine. */
export function createLocalLauncher(options: LocalOptions = {}): Launcher {
  const entry = options.entry ?? ownEntry();
  return {
    name: 'local',
    start: (plan, signal, tell) =>
      superviseRun(
        plan,
        signal,
        {
          start: ({ role, rank, args, outputFile }) =>
            startRole({
              role,
              rank,
              command: process.execPath,
              argv: [...entry, role, '--host', plan.host, ...args],
              outputFile,
            }),
        },
        options.deadlines,
        tell,
      ),
  };
}
