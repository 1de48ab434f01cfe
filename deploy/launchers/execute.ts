import { rm, stat } from 'node:fs/promises';
import { openSchedulerFinder } from '../../shared/coordination/scheduler-finder.ts';
import { schedulerClient, unary } from '../../shared/rpc/client.ts';
import type { RunCredentials } from '../../shared/rpc/credentials.ts';
import { credentialsToAsk } from '../../shared/security/run-security.ts';
import { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunResult, RunStatus, StepMetrics } from '../../shared/telemetry/run-status.ts';
import { conclude, concludeUnstarted } from './conclude.ts';
import { FaultInjector } from './faults.ts';
import { followRun } from './follow.ts';
import type { LaunchedRun, Launcher, LaunchPlan } from './launcher.ts';
import { LineTail } from './line-tail.ts';

/** What a caller of `launch` and `resume` may give and hear. Callbacks must return quickly; one that throws ends the run. */
export interface RunHooks {
  /** Its abort asks the run to checkpoint and stop; the promise then resolves with state STOPPED. */
  readonly signal?: AbortSignal;
  /** Its abort ends all processes at once; the promise then resolves with state STOPPED and what lies on disk. */
  readonly killSignal?: AbortSignal;
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
  const { killSignal } = hooks;
  // The result of an earlier part of the run must not be taken for that of this one.
  await rm(directory.resultFile, { force: true });
  const faults = await FaultInjector.open(plan.runDirectory);
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
    run = await launcher.start(faults === null ? plan : { ...plan, environment: faults.environment }, signal, tell);
    started = run;
  } catch (error) {
    await faults?.close();
    const written = await directory.readResult();
    if (written !== null) return written;
    await concludeUnstarted(plan, error);
    throw error;
  }

  const credentials = await credentialsToAsk(plan.runDirectory);
  const over = new AbortController();
  const steps = await StepFeed.open(directory, plan.resume !== null, hooks.onStep);
  let last: RunStatus | null = null;
  if (broken !== null) run.kill();
  const finder = await openSchedulerFinder(plan.runDirectory, run.schedulerAddress);
  const locate = (): Promise<string | null> => finder.locate();
  const following = followRun({
    locate,
    credentials,
    signal: over.signal,
    throughEnds: run.mayBeginAgain === true,
    readStatus: () => directory.readStatus().catch(() => null),
    onStatus: (status) => {
      last = status;
      hooks.onStatus?.(status);
      steps.poll().catch(endBroken);
    },
  }).catch(endBroken);
  const stopping = stopOnAbort(run, locate, credentials, signal);
  const kill = (): void => run.kill();
  killSignal?.addEventListener('abort', kill, { once: true });
  if (killSignal?.aborted === true) kill();
  try {
    hooks.onStarted?.(run);
  } catch (error) {
    endBroken(error);
  }

  faults?.start(run);
  const end = await run.ended;
  await faults?.close();
  over.abort();
  stopping.dispose();
  killSignal?.removeEventListener('abort', kill);
  await following;
  await steps.poll().catch(endBroken);
  await finder.close();
  // Assigned in callbacks, which the compiler does not follow.
  const failed = broken as { readonly error: unknown } | null;
  if (failed !== null) throw failed.error;
  return conclude(directory, plan, end, { interrupted: signal.aborted || killSignal?.aborted === true, last });
}

/** First abort: the scheduler is asked to stop. Where it cannot be, or does not in time, everything is killed. */
function stopOnAbort(
  run: LaunchedRun,
  locate: () => Promise<string | null>,
  credentials: RunCredentials,
  signal: AbortSignal,
): { dispose(): void } {
  let deadline: NodeJS.Timeout | undefined;
  let disposed = false;
  const stop = async (): Promise<void> => {
    deadline = setTimeout(() => run.kill(), STOP_DEADLINE);
    try {
      if (run.stop === undefined) await askToStop((await locate()) ?? run.schedulerAddress, 'interrupted', credentials);
      else await run.stop();
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

/** Asks a scheduler to checkpoint and stop; resolves when it has heard. Errors: ROLE_LOST, DEADLINE, SECURITY. */
export async function askToStop(address: string, reason: string, credentials: RunCredentials): Promise<void> {
  const client = schedulerClient(address, credentials);
  try {
    await unary(client, 'stop', { reason }, { deadlineMilliseconds: STOP_RPC_DEADLINE });
  } finally {
    client.close();
  }
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
