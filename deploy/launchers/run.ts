import { readFileSync } from 'node:fs';
import { resolve as resolvePath } from 'node:path';
import { parseFaults, readFaultScript } from '../../shared/config/faults.ts';
import { loadRunFile } from '../../shared/config/run-file.ts';
import { runConfigToYaml } from '../../shared/config/effective.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { checkSecurity, loadRunSecurity } from '../../shared/security/run-security.ts';
import { newRunId, RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunResult, RunStatus } from '../../shared/telemetry/run-status.ts';
import { describeJob } from '../../worker/training/describe.ts';
import { executeRun, type RunHooks } from './execute.ts';
import type { Launcher, LaunchPlan } from './launcher.ts';
import type { LauncherOptions } from './define.ts';
import { planRun, type RunPlan } from './plan.ts';
import { launcherOf } from './registry.ts';

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
  /** Options of the launcher of that name, by their keys. */
  readonly launcherOptions?: LauncherOptions;
  /** How many workers to start, where the run file gives a range. Default: the most. */
  readonly workers?: number;
  /** Default: 10. */
  readonly maxRestarts?: number;
  /** Schedulers that wait to take over. Default: none. */
  readonly standbys?: number;
}

export const DEFAULT_RUNS = 'runs';

/** A run that was checked and planned; nothing is written yet. */
export interface PreparedRun {
  readonly plan: RunPlan;
  readonly config: RunConfig;
  readonly launcher: Launcher;
  readonly launcherOptions: LauncherOptions;
  readonly launchPlan: LaunchPlan;
  readonly runsDirectory: string;
  /** What `whittle schedule` is given to show all mask updates. */
  readonly source: readonly string[];
}

/** Checks run file, model and data, and plans the run. Errors: RUN_FILE, MODEL, DATA, UNSUPPORTED, RUN_EXISTS, USAGE. */
export async function prepareLaunch(options: LaunchOptions): Promise<PreparedRun> {
  const { launcherOptions = {} } = options;
  const launcher = launcherOf(options.on, launcherOptions);
  const runsDirectory = resolvePath(options.runsDirectory ?? DEFAULT_RUNS);
  if (options.runId !== undefined) await RunDirectory.requireFree(runsDirectory, options.runId);
  const job = await describeJob(loadRunFile(options.runFile, { set: options.set ?? [] }), { runsDirectory });
  const { description, warnings } = job;
  const config = withFaults(job.config, options.faults, launcher);
  await checkSecurity(config.security);
  const runId = options.runId ?? newRunId(config.name);
  const runDirectory = resolvePath(runsDirectory, runId);
  return {
    plan: planRun({ config, description, runId, runDirectory, launcher: launcher.name, notes: warnings }),
    config,
    launcher,
    launcherOptions,
    launchPlan: launchPlanOf(config, runId, runDirectory, null, options),
    runsDirectory,
    source: sourceOf(options.runFile, options.set),
  };
}

export function sourceOf(runFile: string, set: readonly string[] = []): string[] {
  return [runFile, ...set.flatMap((each) => ['--set', each])];
}

/** Adds the lines of a script. Errors: RUN_FILE; UNSUPPORTED where this launcher cannot make faults. */
function withFaults(config: RunConfig, script: string | undefined, launcher: Launcher): RunConfig {
  const { servers, workers } = config.cluster;
  const roles = { servers, workers: workers.max };
  const added = script === undefined ? [] : readFaultScript(readScript(script), script, roles);
  const faults = [...(config.faults ?? []), ...added];
  if (faults.length === 0) return config;
  if (launcher.name !== 'local') {
    throw new WhittleError('UNSUPPORTED', `faults cannot be made on ${launcher.name}; launch with --on local`);
  }
  const { steps } = config.training;
  const late = parseFaults(faults, roles)
    .map(({ trigger }) => trigger.step ?? 0)
    .find((step) => step > steps);
  if (late !== undefined)
    throw new WhittleError('RUN_FILE', `the fault at step ${late} would never come: the run ends at step ${steps}`);
  return { ...config, faults };
}

function readScript(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new WhittleError('USAGE', `--faults ${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Makes the run directory with the effective run file. A run of that name that ended before its first checkpoint is in
 * nobody's way: returns what its directory is called now, else null. Errors: RUN_EXISTS, DISK, USAGE.
 */
export async function createRun(prepared: PreparedRun): Promise<string | null> {
  const { config, launchPlan, runsDirectory } = prepared;
  const aside = await RunDirectory.setAside(runsDirectory, launchPlan.runId);
  const directory = await RunDirectory.create(runsDirectory, launchPlan.runId, runConfigToYaml(config));
  // The token, before anything starts.
  await loadRunSecurity(directory.path, { make: true });
  return aside;
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

export const DEFAULT_MAX_RESTARTS = 10;

/** Errors: USAGE for a number of workers outside the run file's range, or standbys that nothing would elect. */
export function launchPlanOf(
  config: RunConfig,
  runId: string,
  runDirectory: string,
  resume: LaunchPlan['resume'],
  options: Pick<LaunchOptions, 'workers' | 'maxRestarts' | 'standbys'> = {},
): LaunchPlan {
  const { servers, workers: range } = config.cluster;
  const { workers = range.max, maxRestarts = DEFAULT_MAX_RESTARTS, standbys = 0 } = options;
  if (workers < range.min || workers > range.max) {
    const allowed = range.min === range.max ? `${range.max}` : `${range.min}:${range.max}`;
    throw new WhittleError(
      'USAGE',
      `--workers ${workers} is not within cluster.workers ${allowed}; change that with --set cluster.workers=${workers}`,
      { data: { workers, range } },
    );
  }
  if (standbys > 0 && config.coordination === 'embedded') {
    throw new WhittleError(
      'USAGE',
      `--standbys ${standbys} needs coordination by etcd; with the run's own (embedded) a lost scheduler is started again, so leave it out, or set coordination: {etcd: {endpoints: [http://HOST:2379]}} in the run file`,
      { data: { standbys } },
    );
  }
  return {
    runId,
    runDirectory,
    servers,
    workers,
    minWorkers: range.min,
    standbys,
    maxRestarts,
    host: '127.0.0.1',
    port: 0,
    resume,
  };
}
