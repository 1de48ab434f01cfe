import { WhittleError } from '../../shared/errors.ts';
import { type LauncherDefinition, type LauncherOptions, launcherOptionsOf } from './define.ts';
import { kubernetesLauncher } from './kubernetes.ts';
import type { Launcher } from './launcher.ts';
import { localLauncher } from './local.ts';
import { slurmLauncher } from './slurm.ts';
import { sshLauncher } from './ssh.ts';

export const DEFAULT_LAUNCHER = 'local';

/** Every launcher, by what `--on` says. */
export const LAUNCHERS: Readonly<Record<string, LauncherDefinition>> = Object.fromEntries(
  [localLauncher, kubernetesLauncher, slurmLauncher, sshLauncher].map((definition) => [definition.name, definition]),
);

/**
 * The launcher of a name with its options, or the one given.
 * Errors: USAGE for an unknown name, an option of another launcher, and what the launcher itself refuses.
 */
export function launcherOf(on: string | Launcher = DEFAULT_LAUNCHER, options: LauncherOptions = {}): Launcher {
  if (typeof on !== 'string') return on;
  const definition = Object.hasOwn(LAUNCHERS, on) ? LAUNCHERS[on] : undefined;
  if (definition === undefined) {
    throw new WhittleError('USAGE', `no launcher "${on}"; there is ${Object.keys(LAUNCHERS).join(', ')}`, {
      data: { on },
    });
  }
  return definition.create(launcherOptionsOf(LAUNCHERS, on, options));
}
