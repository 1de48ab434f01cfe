import { basename } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { changedBehaviour, requireSameModel } from '../../shared/checkpoint/compatibility.ts';
import { writeDurably } from '../../shared/checkpoint/durable.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { runConfigToYaml } from '../../shared/config/effective.ts';
import { loadRunFile, type RunFile } from '../../shared/config/run-file.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { openCoordinatorOf } from '../../shared/coordination/scheduler-finder.ts';
import { WhittleError } from '../../shared/errors.ts';
import { commandLine } from '../../shared/invocation.ts';
import { plural } from '../../shared/plural.ts';
import { checkSecurity } from '../../shared/security/run-security.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunResult } from '../../shared/telemetry/run-status.ts';
import { describeJob } from '../../worker/training/describe.ts';
import { noCheckpoint } from './checkpoint-steps.ts';
import { executeRun, type RunHooks } from './execute.ts';
import type { LauncherOptions } from './define.ts';
import type { Launcher } from './launcher.ts';
import { planRun } from './plan.ts';
import { launcherOf } from './registry.ts';
import { requireNoJob } from './slurm-queue.ts';
import { DEFAULT_RUNS, launchPlanOf, type PreparedRun, sourceOf } from './run.ts';

export interface ResumeOptions {
  /** A run's id, or the path of its directory. */
  readonly run: string;
  readonly runsDirectory?: string;
  /** Overrides of the run's effective run file, each `path=value`. */
  readonly set?: readonly string[];
  readonly servers?: number;
  /** Workers to start: within the run's range, or a new fixed number. */
  readonly workers?: number;
  /** Continue from the newest checkpoint of this step or an earlier one. Default: the newest of all. */
  readonly step?: number;
  /** Let a finished run go back to a checkpoint before its end, which throws away what it did after it. Default false. */
  readonly again?: boolean;
  readonly on?: string | Launcher;
  readonly launcherOptions?: LauncherOptions;
  readonly maxRestarts?: number;
  readonly standbys?: number;
}

export type PreparedResume =
  /** Nothing is left to do. */
  | { readonly finished: RunResult }
  | {
      readonly finished: null;
      readonly prepared: PreparedRun;
      readonly from: Manifest;
      readonly warnings: readonly string[];
    };

/**
 * Finds what to continue from and checks that the run file, as overridden, still fits it. Nothing is written.
 * Errors: RUN_UNKNOWN, RUN_LOCKED, CHECKPOINT (also where a finished run's last checkpoint is damaged), USAGE (a
 * finished run is to go back without `again`), and those of `launch`.
 */
export async function prepareResume(options: ResumeOptions): Promise<PreparedResume> {
  const directory = await RunDirectory.resolve(options.runsDirectory ?? DEFAULT_RUNS, options.run);
  const { launcherOptions = {} } = options;
  const launcher = launcherOf(options.on, launcherOptions);
  await requireNoJob(directory.path);
  // Held while we look, so that no scheduler writes meanwhile; the new scheduler takes it for itself.
  const coordinator = await openCoordinatorOf(directory.path);
  try {
    await coordinator.campaign({ address: 'resume' });
    const set = [
      ...(options.set ?? []),
      ...(options.servers === undefined ? [] : [`cluster.servers=${options.servers}`]),
    ];
    const runFile = loadWithWorkers(directory.runFile, set, options.workers);
    const result = await directory.readResult();
    const finished = result?.state === 'SUCCEEDED' ? result : null;
    const warnings: string[] = [];
    const from = await findCheckpoint(directory, coordinator, options.step, (message) => warnings.push(message));
    const goesBack = finished !== null && from.manifest.clock < finished.step;
    if (goesBack && options.again !== true) throw wouldGoBack(finished, from.manifest.clock, options.step, warnings);
    const isEnough = (steps: number): boolean => finished !== null && !goesBack && steps <= finished.step;
    // Epochs are known in steps only with the data.
    if (finished !== null && isEnough(runFile.document.training.steps ?? Infinity)) return { finished };
    const runsDirectory = options.runsDirectory ?? DEFAULT_RUNS;
    const job = await describeJob(runFile, { runsDirectory, resumes: true });
    requireSameModel(from.manifest.model, job.description, from.folder);
    const changed = changedBehaviour(from.manifest.model, job.description, basename(from.folder));
    if (changed !== null) warnings.push(changed);
    const { config } = job;
    if (finished !== null && isEnough(config.training.steps)) return { finished };
    await checkSecurity(config.security);
    if (config.training.steps < from.manifest.clock) {
      throw new WhittleError(
        'USAGE',
        `training.steps ${config.training.steps} lies before checkpoint ${basename(from.folder)}; ask for more steps, or continue from an earlier checkpoint with --step ${config.training.steps}`,
      );
    }
    const told = differences(from.manifest.config, config);
    warnings.push(...told.warnings);
    const { runId, path } = directory;
    const plan = planRun({
      config,
      description: job.description,
      runId,
      runDirectory: path,
      launcher: launcher.name,
      notes: [...told.notes, ...job.warnings],
    });
    const launchPlan = launchPlanOf(config, runId, path, { folder: from.folder }, options);
    return {
      finished: null,
      prepared: {
        plan,
        config,
        launcher,
        launcherOptions,
        launchPlan,
        runsDirectory: '',
        source: sourceOf(directory.runFile, set),
      },
      from: from.manifest,
      warnings,
    };
  } finally {
    await coordinator.close();
  }
}

/** A number of workers within the run's range leaves the range as it is. */
function loadWithWorkers(path: string, set: readonly string[], workers: number | undefined): RunFile {
  const runFile = loadRunFile(path, { set });
  const [min = 0, max = min] = String(runFile.document.cluster.workers).split(':').map(Number);
  if (workers === undefined || (workers >= min && workers <= max)) return runFile;
  return loadRunFile(path, { set: [...set, `cluster.workers=${workers}`] });
}

/** A finished run does not go back by itself: neither by a number typed, nor because its last checkpoint is damaged. */
function wouldGoBack(
  finished: RunResult,
  clock: number,
  step: number | undefined,
  warnings: readonly string[],
): WhittleError {
  const { runId, runDirectory } = finished;
  const redone = `steps ${clock + 1} to ${finished.step} would be computed again`;
  const data = { runId, step: finished.step, from: clock };
  if (step !== undefined) {
    return new WhittleError(
      'USAGE',
      `run ${runId} is finished: going back to step ${clock} throws away its result, and ${redone}; add --again to do that`,
      { data },
    );
  }
  const said = warnings.length === 0 ? '' : `\n  ${warnings.join('\n  ')}`;
  return new WhittleError(
    'CHECKPOINT',
    `run ${runId} is finished at step ${finished.step}, but its last checkpoint is damaged or gone: the newest usable ` +
      `one is of step ${clock}.${said}\nPut the files back, or let it go on from there with ` +
      `\`${commandLine('resume', runDirectory, '--again')}\`: ${redone}`,
    { data },
  );
}

async function findCheckpoint(
  directory: RunDirectory,
  coordinator: Coordinator,
  step: number | undefined,
  warn: (message: string) => void,
): Promise<{ folder: string; manifest: Manifest }> {
  const store = new CheckpointStore(directory.path);
  const pointer = (await coordinator.latest())?.folder ?? null;
  const lineage = await coordinator.lineage();
  const found = await store.newestUsable(
    { pointer, lineage, ...(step === undefined ? {} : { atOrBelow: step }) },
    warn,
  );
  if (found !== null) return found;
  throw await noCheckpoint(store, step, `start over with \`${commandLine('launch', directory.runFile)}\``);
}

/** Writes the run file as overridden; to be called right before the run goes on. */
export async function updateRunFile(prepared: PreparedRun): Promise<void> {
  const bytes = Buffer.from(runConfigToYaml(prepared.config));
  await writeDurably(new RunDirectory(prepared.launchPlan.runDirectory).runFile, bytes.length, (sink) => sink(bytes));
}

/**
 * Continues a run from its newest usable checkpoint and follows it to its end; resolves at once to the result of a
 * run that is finished. See `launch`.
 */
export async function resume(
  options: ResumeOptions,
  hooks: RunHooks & { readonly onWarning?: (message: string) => void } = {},
): Promise<RunResult> {
  const ready = await prepareResume(options);
  if (ready.finished !== null) return ready.finished;
  for (const warning of ready.warnings) hooks.onWarning?.(warning);
  await updateRunFile(ready.prepared);
  return executeRun(ready.prepared.launcher, ready.prepared.launchPlan, hooks);
}

/** What a user should know of changes since the checkpoint, one sentence each; notes are of what changes no result. */
export function differences(
  before: RunConfig,
  now: RunConfig,
): { readonly notes: readonly string[]; readonly warnings: readonly string[] } {
  const notes: string[] = [];
  const { cluster: was } = before;
  const { cluster: is } = now;
  if (was.servers !== is.servers)
    notes.push(`${plural(is.servers, 'server')} instead of ${was.servers}; the digests do not depend on it`);
  if (was.workers.max !== is.workers.max) {
    const slices = was.slices === is.slices ? `, and still ${plural(is.slices, 'slice')}` : '';
    notes.push(
      `${plural(is.workers.max, 'worker')} instead of ${was.workers.max}${slices}; the digests do not depend on it`,
    );
  }
  const changed = [
    ...(['seed', 'data', 'consistency', 'sparsity', 'distillation', 'clustering', 'kernels', 'wire'] as const).filter(
      (key) => !isDeepStrictEqual(before[key], now[key]),
    ),
    ...(['slices', 'backend'] as const).filter((key) => was[key] !== is[key]).map((key) => `cluster.${key}`),
    ...(['optimizer', 'learningRateSchedule', 'decay', 'clipNorm'] as const)
      .filter((key) => !isDeepStrictEqual(before.training[key], now.training[key]))
      .map((key) => `training.${key}`),
  ];
  if (changed.length === 0) return { notes, warnings: [] };
  const warning = `changed since the checkpoint: ${changed.join(', ')}; the digests will differ from those of a run that was never stopped`;
  return { notes, warnings: [warning] };
}
