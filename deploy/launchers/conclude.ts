import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { deadFraction, reportLayersOf } from '../../shared/checkpoint/layer-report.ts';
import { parseCheckpointName } from '../../shared/checkpoint/manifest-file.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import { parseRunConfig } from '../../shared/config/effective.ts';
import { timelineOf } from '../../shared/coordination/scheduler-finder.ts';
import { WhittleError } from '../../shared/errors.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { LayerResult, RunFailure, RunResult, RunStatus, StepMetrics } from '../../shared/telemetry/run-status.ts';
import { describeExit, type LaunchPlan, type RoleLoss, type RunEnd } from './launcher.ts';

/** What the launcher saw of a run besides its end. */
export interface Seen {
  /** The user asked to stop, or to kill it. */
  readonly interrupted: boolean;
  /** The last status of this part of the run. */
  readonly last: RunStatus | null;
}

/** The result that the scheduler wrote, or one made of what lies on disk where it could not. Status and result agree. */
export async function conclude(
  directory: RunDirectory,
  plan: LaunchPlan,
  end: RunEnd,
  { interrupted, last }: Seen,
): Promise<RunResult> {
  const written = await directory.readResult();
  if (written !== null) {
    if (written.failure === null) return written;
    const failure = explained(written.failure, end.loss);
    if (failure === written.failure) return written;
    const result = { ...written, failure };
    await directory.writeResult(result);
    const status = await directory.readStatus();
    if (status !== null) await directory.writeStatus({ ...status, activity: `failed: ${failure.message}`, failure });
    return result;
  }
  const status = last ?? (await directory.readStatus().catch(() => null));
  const known = await whatIsKnown(directory, plan, status);
  const failure = interrupted ? null : failureOf(end, status, known.step);
  const result: RunResult = { ...known, state: interrupted ? 'STOPPED' : 'FAILED', failure };
  try {
    await directory.writeResult(result);
    if (status !== null) {
      const { state, step, loss, sparsity, maskEpoch } = result;
      const activity = failure === null ? 'killed by the user' : `failed: ${failure.message}`;
      await directory.writeStatus({
        ...status,
        ...{ state, step, loss, sparsity, maskEpoch, failure, activity },
        secondsLeft: null,
      });
    }
  } catch (error) {
    // A full disk must not hide why the run failed.
    if (result.failure === null) throw error;
  }
  return result;
}

/**
 * The result of a launch that the launcher refused or could not make, so that whoever looks finds out why, and the next
 * launch may have the name. A run that was resumed stays what it was.
 */
export async function concludeUnstarted(plan: LaunchPlan, reason: unknown): Promise<void> {
  if (plan.resume !== null) return;
  const directory = new RunDirectory(plan.runDirectory);
  const { code, rawMessage: message } = WhittleError.from(reason);
  const failure: RunFailure = { role: 'scheduler', rank: 0, code, message, stack: '', step: 0 };
  const known = await whatIsKnown(directory, plan, null);
  const end =
    code === 'INTERRUPTED' ? { state: 'STOPPED' as const, failure: null } : { state: 'FAILED' as const, failure };
  // The reason is told; a disk that is full as well must not hide it.
  await directory.writeResult({ ...known, ...end }).catch(() => undefined);
}

/** A member that only saw a connection end is a witness; the launcher saw why. */
function explained(failure: RunFailure, loss: RoleLoss | null): RunFailure {
  if (failure.code !== 'ROLE_LOST') return failure;
  const isSame = loss?.role === failure.role && loss.rank === failure.rank;
  // The stack of a witness says nothing of the end of another.
  if (loss === null || (!isSame && loss.exit.signal === null)) {
    return failure.stack === '' ? failure : { ...failure, stack: '' };
  }
  const told = lossOf(loss, failure.step);
  const witness = isSame ? '' : `${failure.role}[${failure.rank}]: `;
  return { ...told, message: `${told.message} (${witness}${failure.message})` };
}

/** Why a run ended whose scheduler wrote no result. */
function failureOf({ schedulerExit, loss }: RunEnd, status: RunStatus | null, step: number): RunFailure {
  // The scheduler's own word comes first: it may have had no space to write it down.
  if (status !== null && status.failure !== null) return explained(status.failure, loss);
  if (loss !== null) return lossOf(loss, step);
  const message = `the scheduler ${describeExit(schedulerExit)} and wrote no result`;
  return { role: 'scheduler', rank: 0, code: 'INTERNAL', message, stack: '', step };
}

function lossOf({ role, rank, exit, output }: RoleLoss, step: number): RunFailure {
  // Whom SIGKILL ends prints nothing about it: what is there is of before.
  const stack = exit.signal === 'SIGKILL' ? '' : output.join('\n');
  return { role, rank, code: 'ROLE_LOST', message: `${role}[${rank}] ${describeExit(exit)}`, stack, step };
}

/** What status, step records and checkpoints tell of this part of a run. */
async function whatIsKnown(
  directory: RunDirectory,
  plan: LaunchPlan,
  status: RunStatus | null,
): Promise<Omit<RunResult, 'state' | 'failure'>> {
  const folder = plan.resume?.folder ?? null;
  const resumedFrom = folder === null ? null : (parseCheckpointName(basename(folder))?.clock ?? null);
  const records = await directory.metrics.read().catch((): StepMetrics[] => []);
  const own = records.filter(({ step }) => step > (resumedFrom ?? 0));
  const record = own.at(-1) ?? null;
  const sum = (key: 'bytesPushed' | 'bytesPulled'): number => own.reduce((total, each) => total + each[key], 0);
  // Both tell step, loss and sparsity of one step; whichever came further is taken whole.
  const newest = record !== null && record.step >= (status?.step ?? 0) ? record : status;
  const { checkpoint, layers } = await newestCheckpoint(directory);
  return {
    runId: plan.runId,
    runDirectory: plan.runDirectory,
    step: newest?.step ?? resumedFrom ?? 0,
    totalSteps: status?.totalSteps ?? (await stepsOf(directory)),
    resumedFrom,
    stepsComputed: stepsComputed(status, own),
    slicesByWorker: status?.totals.slicesByWorker ?? {},
    recoveries: status?.totals.recoveries ?? [],
    loss: newest?.loss ?? null,
    testAccuracy: status?.testAccuracy ?? null,
    evaluatedAt: status?.evaluatedAt ?? null,
    testLoss: status?.testLoss ?? null,
    sparsity: newest?.sparsity ?? 0,
    parameterSparsity: layers.length === 0 ? null : deadFraction(layers),
    maskEpoch: newest?.maskEpoch ?? 0,
    maskDigest: null,
    weightsDigest: null,
    stateDigest: null,
    wallSeconds: status === null ? 0 : Math.max(0, (Date.now() - Date.parse(status.startedAt)) / 1000),
    examplesPerSecond: status?.examplesPerSecond ?? 0,
    bytes: { pushed: sum('bytesPushed'), pulled: sum('bytesPulled'), masks: null, control: null },
    bytesPerStep: record === null ? null : record.bytesPushed + record.bytesPulled,
    checkpoint,
    layers,
  };
}

/** What the scheduler last said, and what it wrote down after that; steps done again after a rollback count twice. */
function stepsComputed(status: RunStatus | null, records: readonly StepMetrics[]): number {
  if (status === null) return records.length;
  return status.totals.stepsComputed + records.filter(({ step }) => step > status.step).length;
}

async function newestCheckpoint(
  directory: RunDirectory,
): Promise<{ checkpoint: string | null; layers: readonly LayerResult[] }> {
  try {
    const { latest, lineage } = await timelineOf(directory.path);
    const store = new CheckpointStore(directory.path);
    const found = await store.newestUsable({ pointer: latest?.folder ?? null, lineage }, () => undefined);
    if (found === null) return { checkpoint: null, layers: [] };
    return { checkpoint: found.folder, layers: await reportLayersOf(found, store, lineage) };
  } catch {
    // `resume` says what is wrong with it; here the end of the run is told.
    return { checkpoint: null, layers: [] };
  }
}

async function stepsOf(directory: RunDirectory): Promise<number> {
  try {
    return parseRunConfig(await readFile(directory.runFile, 'utf8'), directory.runFile).training.steps;
  } catch {
    return 0;
  }
}
