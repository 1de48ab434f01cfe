import { rm, stat } from 'node:fs/promises';
import { schedulerLocator } from '../../shared/coordination/locate.ts';
import { schedulerClient, unary } from '../../shared/rpc/client.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunFailure, RunResult, RunStatus, StepMetrics } from '../../shared/telemetry/run-status.ts';
import { followRun } from './follow.ts';
import {
  describeExit,
  type LaunchedRun,
  type Launcher,
  type LaunchPlan,
  type RunEnd,
  type RoleLoss,
} from './launcher.ts';
import { LineTail } from './line-tail.ts';

/** What a caller of `launch` and `resume` may give and hear. Callbacks must return quickly; one that throws ends the run. */
export interface RunHooks {
  /** Its abort asks the run to checkpoint and stop; the promise then resolves with state STOPPED. */
  readonly signal?: AbortSignal;
  /** All processes are started. */
  readonly onStarted?: (run: LaunchedRun) => void;
  /** What the launcher did or waits for, in one line: `server[1] was killed by SIGKILL; started again (2 of 10)`. */
  readonly onNotice?: (line: string) => void;
  /** About twice a second, and at every change of state. */
  readonly onStatus?: (status: RunStatus) => void;
  /** Every step's record, in order. */
  readonly onStep?: (step: StepMetrics) => void;
}

/** Milliseconds. */
const STOP_RPC_DEADLINE = 10_000;
/** From the request to stop to the end of all processes: a checkpoint lies between. */
const STOP_DEADLINE = 120_000;

/**
 * Starts the roles of a run whose directory holds its effective run file, follows it to its end, and resolves to its
 * result, whatever that is. Rejects only where nothing was started; nothing is left running in either case.
 */
export async function executeRun(launcher: Launcher, plan: LaunchPlan, hooks: RunHooks = {}): Promise<RunResult> {
  const directory = new RunDirectory(plan.runDirectory);
  const signal = hooks.signal ?? new AbortController().signal;
  // The result of an earlier part of the run must not be taken for that of this one.
  await rm(directory.resultFile, { force: true });
  let run: LaunchedRun;
  let started: LaunchedRun | null = null;
  let broken: { readonly error: unknown } | null = null;
  const endBroken = (error: unknown): void => {
    broken ??= { error };
    started?.kill();
  };
  const tell = (line: string): void => {
    try {
      hooks.onNotice?.(line);
    } catch (error) {
      endBroken(error);
    }
  };
  try {
    run = await launcher.start(plan, signal, tell);
    started = run;
  } catch (error) {
    const written = await directory.readResult();
    if (written !== null) return written;
    throw error;
  }

  const over = new AbortController();
  const steps = await StepFeed.open(directory, plan.resume !== null, hooks.onStep);
  let last: RunStatus | null = null;
  if (broken !== null) run.kill();
  const locate = schedulerLocator(plan.runDirectory, run.schedulerAddress);
  const following = followRun({
    locate,
    signal: over.signal,
    readStatus: () => directory.readStatus().catch(() => null),
    onStatus: (status) => {
      last = status;
      hooks.onStatus?.(status);
      steps.poll().catch(endBroken);
    },
  }).catch(endBroken);
  const stopping = stopOnAbort(run, locate, signal);
  try {
    hooks.onStarted?.(run);
  } catch (error) {
    endBroken(error);
  }

  const end = await run.ended;
  over.abort();
  stopping.dispose();
  await following;
  await steps.poll().catch(endBroken);
  // Assigned in callbacks, which the compiler does not follow.
  const failed = broken as { readonly error: unknown } | null;
  if (failed !== null) throw failed.error;
  return conclude(directory, plan, end, { interrupted: signal.aborted, last });
}

/** First abort: the scheduler is asked to stop. Where it cannot be, or does not in time, everything is killed. */
function stopOnAbort(run: LaunchedRun, locate: () => Promise<string | null>, signal: AbortSignal): { dispose(): void } {
  let deadline: NodeJS.Timeout | undefined;
  let disposed = false;
  const stop = async (): Promise<void> => {
    deadline = setTimeout(() => run.kill(), STOP_DEADLINE);
    try {
      await (run.stop?.() ?? askToStop((await locate()) ?? run.schedulerAddress, 'interrupted'));
    } catch {
      if (!disposed) run.kill();
    }
  };
  const onAbort = (): void => void stop();
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  return {
    dispose: () => {
      disposed = true;
      signal.removeEventListener('abort', onAbort);
      clearTimeout(deadline);
    },
  };
}

/** Asks a scheduler to checkpoint and stop; resolves when it has heard. Errors: ROLE_LOST, DEADLINE. */
export async function askToStop(address: string, reason: string): Promise<void> {
  const client = schedulerClient(address);
  try {
    await unary(client, 'stop', { reason }, { deadlineMilliseconds: STOP_RPC_DEADLINE });
  } finally {
    client.close();
  }
}

/** The result that the scheduler wrote, or one made of what is known where it could not. */
async function conclude(
  directory: RunDirectory,
  plan: LaunchPlan,
  end: RunEnd,
  seen: { readonly interrupted: boolean; readonly last: RunStatus | null },
): Promise<RunResult> {
  const { interrupted, last } = seen;
  const written = await directory.readResult();
  const loss = end.loss;
  if (written !== null) {
    const { failure } = written;
    const isThatLoss = failure?.code === 'ROLE_LOST' && loss?.role === failure.role && loss.rank === failure.rank;
    if (!isThatLoss || failure === null || loss === null) return written;
    // The scheduler only saw a connection end; the launcher saw why.
    const told = failureOf(loss, failure.step);
    const result = {
      ...written,
      failure: { ...failure, message: `${told.message} (${failure.message})`, stack: told.stack },
    };
    await directory.writeResult(result);
    return result;
  }
  const status = last ?? (await directory.readStatus().catch(() => null));
  const step = status?.step ?? 0;
  // The scheduler's own word comes first: it may have had no space to write it down.
  const failure =
    status?.failure ??
    (loss === null
      ? {
          role: 'scheduler' as const,
          rank: 0,
          code: 'INTERNAL',
          message: `the scheduler ${describeExit(end.schedulerExit)} and wrote no result`,
          stack: '',
          step,
        }
      : failureOf(loss, step));
  const result = unfinished(plan, status, interrupted ? 'STOPPED' : 'FAILED', interrupted ? null : failure);
  try {
    await directory.writeResult(result);
    if (status !== null) {
      await directory.writeStatus({
        ...status,
        state: result.state,
        activity: failure.message,
        secondsLeft: null,
        failure: result.failure,
      });
    }
  } catch (error) {
    // A full disk must not hide why the run failed.
    if (result.failure === null) throw error;
  }
  return result;
}

function failureOf({ role, rank, exit, output }: RoleLoss, step: number): RunFailure {
  return {
    role,
    rank,
    code: 'ROLE_LOST',
    message: `${role}[${rank}] ${describeExit(exit)}`,
    stack: output.join('\n'),
    step,
  };
}

function unfinished(
  plan: LaunchPlan,
  status: RunStatus | null,
  state: RunResult['state'],
  failure: RunFailure | null,
): RunResult {
  return {
    runId: plan.runId,
    runDirectory: plan.runDirectory,
    state,
    step: status?.step ?? 0,
    totalSteps: status?.totalSteps ?? 0,
    resumedFrom: null,
    stepsComputed: 0,
    slicesByWorker: {},
    recoveries: status?.totals.recoveries ?? [],
    loss: status?.loss ?? null,
    testAccuracy: status?.testAccuracy ?? null,
    sparsity: status?.sparsity ?? 0,
    maskEpoch: status?.maskEpoch ?? 0,
    maskDigest: null,
    weightsDigest: null,
    stateDigest: null,
    wallSeconds: status === null ? 0 : Math.max(0, (Date.now() - Date.parse(status.startedAt)) / 1000),
    examplesPerSecond: status?.examplesPerSecond ?? 0,
    bytes: { pushed: 0, pulled: 0, masks: 0, control: 0 },
    layers: [],
    failure,
  };
}

/** Hands on the lines of metrics.jsonl as they are written. */
class StepFeed {
  readonly #tail: LineTail;
  readonly #onStep: ((step: StepMetrics) => void) | undefined;
  #reading: Promise<void> = Promise.resolve();

  private constructor(tail: LineTail, onStep: ((step: StepMetrics) => void) | undefined) {
    this.#tail = tail;
    this.#onStep = onStep;
  }

  /** The scheduler has cut the file back by the time it listens: what is there now is of earlier parts of the run. */
  static async open(
    directory: RunDirectory,
    resumed: boolean,
    onStep: ((step: StepMetrics) => void) | undefined,
  ): Promise<StepFeed> {
    const size = resumed
      ? await stat(directory.metrics.path).then(
          (each) => each.size,
          () => 0,
        )
      : 0;
    return new StepFeed(new LineTail(directory.metrics.path, size), onStep);
  }

  poll(): Promise<void> {
    const onStep = this.#onStep;
    if (onStep === undefined) return Promise.resolve();
    this.#reading = this.#reading.then(async () => {
      for (const line of await this.#tail.read()) if (line !== '') onStep(JSON.parse(line) as StepMetrics);
    });
    return this.#reading;
  }
}

/** The exit code of a command that ends with this result: 0 finished, 130 stopped before its end, else 1. */
export function exitCodeOf(result: RunResult): number {
  if (result.state === 'SUCCEEDED') return 0;
  return result.state === 'STOPPED' ? 130 : 1;
}
