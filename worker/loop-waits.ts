import type { RunConfig } from '../shared/config/types.ts';
import { WhittleError } from '../shared/errors.ts';
import { interrupted, withDeadline } from '../shared/rpc/deadline.ts';
import type { SliceAssignment } from './assignment.ts';
import type { Pulse } from './pulse.ts';
import type { ServerLinks } from './server-links.ts';
import type { ComputeClient } from './training/compute-client.ts';

/** Longest wait for weights; a mask update or a slow worker elsewhere is within it. */
const WEIGHTS_DEADLINE_MS = 600_000;

export interface TrainingLoopOptions {
  readonly config: RunConfig;
  readonly compute: ComputeClient;
  readonly links: ServerLinks;
  readonly assignment: SliceAssignment;
  /** Beats whenever weights, assignment, links or `signal` change. */
  readonly news: Pulse;
  readonly onClock: (clock: number) => void;
  /** The compute thread holds the weights of an evaluation clock. */
  readonly onEvaluable: (clock: number) => void;
  /** Clocks that the scheduler wants evaluated and whose weights this worker does not hold. */
  readonly wantedEvaluations: () => readonly number[];
  /** The servers do not hold the weights of a wanted clock any more. */
  readonly onUnavailable: (clock: number) => void;
  readonly signal: AbortSignal;
}

/** Waits until this worker is assigned something, or leaves. */
export async function idle(options: TrainingLoopOptions): Promise<void> {
  const change = options.news.next;
  throwIfOver(options);
  if (options.assignment.isEmpty && !options.assignment.leaving) await change;
}

/** Waits for the next change of anything. `what` completes "waited 3 s for ...". */
export async function news(options: TrainingLoopOptions, what: string): Promise<void> {
  const change = options.news.next;
  throwIfOver(options);
  await until(change, options, what);
}

export async function until(change: Promise<void>, options: TrainingLoopOptions, what: string): Promise<void> {
  await withDeadline(change, WEIGHTS_DEADLINE_MS, what, options.signal);
  throwIfOver(options);
}

/** Throws where the loop is ended, or its links are. */
export function throwIfOver({ links, signal }: TrainingLoopOptions): void {
  if (signal.aborted) throw interrupted(signal, 'the next step');
  links.check();
}

/** Checked before the push, as the loss is by the engine, so that the servers keep the last finite weights. */
export function refuseNonFinite(gradient: Float32Array, step: number, slice: number): void {
  if (areFinite(gradient)) return;
  throw new WhittleError(
    'NOT_FINITE',
    `the gradient of step ${step}, slice ${slice} has values that are NaN or infinite: lower training.optimizer.learningRate, set training.clipNorm, or look for bad values in the data`,
    { data: { step, slice } },
  );
}

/** One pass without branches: 0 times NaN or infinity is NaN, and stays so in a sum. */
function areFinite(values: Float32Array): boolean {
  let sum = 0;
  for (const value of values) sum += 0 * value;
  return sum === 0;
}
