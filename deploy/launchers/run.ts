import { readFileSync } from 'node:fs';
import { resolve as resolvePath } from 'node:path';
import { readFaultScript } from '../../shared/config/faults.ts';
import { loadRunFile } from '../../shared/config/run-file.ts';
import { runConfigToYaml } from '../../shared/config/effective.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { newRunId, RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunResult, RunStatus } from '../../shared/telemetry/run-status.ts';
import { describeJob } from '../../worker/training/describe.ts';
import { executeRun, type RunHooks } from './execute.ts';
import type { Launcher, LaunchPlan } from './launcher.ts';
import { createLocalLauncher } from './local.ts';
import { planRun, type RunPlan } from './plan.ts';

export interface LaunchOptions {
  /** Path of the run file. */
  readonly runFile: string;
  /** Overrides, each `path=value`. */
  readonly set?: readonly string[];
  /** Path of a fault script, added to the run file's `faults`. */
  readonly faults?: string;
  /** Default: the run file's name and the time. */
  readonly runId?: string;
  /** Folder of run directories. Default: `runs`. */
  readonly runsDirectory?: string;
  /** Where processes run: a launcher's name, or a launcher. Default: `local`. */
  readonly on?: string | Launcher;
}

export const DEFAULT_RUNS = 'runs';
export const LAUNCHERS: Readonly<Record<string, () => Launcher>> = { local: () => createLocalLauncher() };

/** A run that was checked and planned; nothing is written yet. */
export interface PreparedRun {
  readonly plan: RunPlan;
  readonly config: RunConfig;
  readonly launcher: Launcher;
  readonly launchPlan: LaunchPlan;
  readonly runsDirectory: string;
}

/** Checks run file, model and data, and plans the run. Errors: RUN_FILE, MODEL, DATA, UNSUPPORTED, USAGE. */
export async function prepareLaunch(options: LaunchOptions): Promise<PreparedRun> {
  const launcher = launcherOf(options.on);
  const job = await describeJob(loadRunFile(options.runFile, { set: options.set ?? [] }));
  const { description, warnings } = job;
  const config = withFaults(job.config, options.faults, launcher);
  const runsDirectory = resolvePath(options.runsDirectory ?? DEFAULT_RUNS);
  const runId = options.runId ?? newRunId(config.name);
  const runDirectory = resolvePath(runsDirectory, runId);
  return {
    plan: planRun({ config, description, runId, runDirectory, launcher: launcher.name, notes: warnings }),
    config,
    launcher,
    launchPlan: launchPlanOf(config, runId, runDirectory, null),
    runsDirectory,
  };
}

/** Adds the lines of a script. Errors: RUN_FILE; UNSUPPORTED where this launcher cannot make faults. */
function withFaults(config: RunConfig, script: string | undefined, launcher: Launcher): RunConfig {
  const { servers, workers } = config.cluster;
  const added =
    script === undefined ? [] : readFaultScript(readScript(script), script, { servers, workers: workers.max });
  const faults = [...(config.faults ?? []), ...added];
  if (faults.length === 0) return config;
  if (launcher.name !== 'local') {
    throw new WhittleError('UNSUPPORTED', `faults cannot be made on ${launcher.name}; launch with --on local`);
  }
  return { ...config, faults };
}

function readScript(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new WhittleError('USAGE', `--faults ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/** Makes the run directory with the effective run file. Errors: RUN_EXISTS, DISK, USAGE. */
export async function createRun(prepared: PreparedRun): Promise<void> {
  await RunDirectory.create(prepared.runsDirectory, prepared.launchPlan.runId, runConfigToYaml(prepared.config));
}

/**
 * Launches a run and follows it to its end. Resolves to its result also when it failed or was stopped: look at
 * `state`. Rejects where it could not start: the run file, model or data are wrong, the id is taken.
 */
export async function launch(options: LaunchOptions, hooks: RunHooks = {}): Promise<RunResult> {
  const prepared = await prepareLaunch(options);
  await createRun(prepared);
  return executeRun(prepared.launcher, prepared.launchPlan, hooks);
}

/** Where a run stands; FAILED where its scheduler died without a word. Errors: RUN_UNKNOWN. */
export async function status(run: string, options: { readonly runsDirectory?: string } = {}): Promise<RunStatus> {
  const directory = await RunDirectory.resolve(options.runsDirectory ?? DEFAULT_RUNS, run);
  const found = await directory.effectiveStatus();
  if (found === null)
    throw new WhittleError(
      'RUN_UNKNOWN',
      `run ${directory.runId} in ${directory.path} never started: it has no status`,
    );
  return found;
}

export function launchPlanOf(
  config: RunConfig,
  runId: string,
  runDirectory: string,
  resume: LaunchPlan['resume'],
): LaunchPlan {
  const { servers, workers } = config.cluster;
  return { runId, runDirectory, servers, workers: workers.max, host: '127.0.0.1', port: 0, resume };
}

export function launcherOf(on: string | Launcher = 'local'): Launcher {
  if (typeof on !== 'string') return on;
  const create = Object.hasOwn(LAUNCHERS, on) ? LAUNCHERS[on] : undefined;
  if (create === undefined) {
    throw new WhittleError('USAGE', `no launcher "${on}"; there is ${Object.keys(LAUNCHERS).join(', ')}`, {
      data: { on },
    });
  }
  return create();
}
