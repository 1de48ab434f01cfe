import type { RunConfig } from '../shared/config/types.ts';
import { WhittleError } from '../shared/errors.ts';
import { interrupted, withDeadline } from '../shared/rpc/deadline.ts';
import type { SliceAssignment } from './assignment.ts';
import type { Pulse } from './pulse.ts';
import type { PulledWeights, ServerLinks } from './server-links.ts';
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
  readonly signal: AbortSignal;
}

/**
 * Trains until the last step, or until this worker leaves: weights of the servers' clock, the slices assigned to it,
 * pushes, weights of the next clock. What it is assigned may change at any moment, also in the middle of a step: the
 * servers count every slice once, whoever sends it.
 */
export async function train(options: TrainingLoopOptions): Promise<void> {
  const { config, links, assignment } = options;
  const { steps } = config.training;
  while (!assignment.leaving) {
    // A worker without slices has nothing to do until it is given some; it does not cost the servers an answer a step.
    if (assignment.isEmpty) {
      await idle(options);
      continue;
    }
    let clock = await take(await links.pullNewest(() => news(options, 'weights from the servers')), options);
    while (clock < steps && !assignment.isEmpty && !assignment.leaving) {
      if (!(await step(clock + 1, options))) break;
      clock = await take(links.take(clock + 1), options);
    }
    if (clock >= steps) return;
  }
}

/** Computes what is assigned in one step until its weights are there. False where this worker has nothing more to do in it. */
async function step(step: number, options: TrainingLoopOptions): Promise<boolean> {
  const { compute, links, assignment } = options;
  const done = new Set<number>();
  const sent: Promise<void>[] = [];
  while (!links.has(step)) {
    const change = options.news.next;
    throwIfOver(options);
    if (links.has(step) || links.isBehind(step)) break;
    const slice = assignment.next(done);
    if (slice === undefined) {
      if (assignment.leaving || (assignment.isEmpty && done.size === 0)) break;
      await until(change, options, `weights of step ${step} from ${links.late(step)}`);
      continue;
    }
    done.add(slice);
    const result = await compute.gradient(step, slice);
    refuseNonFinite(result.gradient, step, slice);
    // The answer is asked for with the last own slice; backups are pushed while it is on its way.
    sent.push(links.push({ step, slice, ...result, last: !assignment.hasOwn(done) }));
  }
  await Promise.all(sent);
  return links.has(step);
}

async function idle(options: TrainingLoopOptions): Promise<void> {
  const change = options.news.next;
  throwIfOver(options);
  if (options.assignment.isEmpty && !options.assignment.leaving) await change;
}

async function news(options: TrainingLoopOptions, what: string): Promise<void> {
  const change = options.news.next;
  throwIfOver(options);
  await until(change, options, what);
}

async function until(change: Promise<void>, options: TrainingLoopOptions, what: string): Promise<void> {
  await withDeadline(change, WEIGHTS_DEADLINE_MS, what, options.signal);
  throwIfOver(options);
}

function throwIfOver({ links, signal }: TrainingLoopOptions): void {
  if (signal.aborted) throw interrupted(signal, 'the next step');
  links.check();
}

async function take(weights: PulledWeights, options: TrainingLoopOptions): Promise<number> {
  const { compute, config } = options;
  const { clock } = weights;
  const calls: Promise<void>[] = [];
  if (weights.mask) calls.push(compute.setMask(weights.mask));
  calls.push(compute.setWeights(weights.packed, weights.state));
  const { evaluateEvery, steps } = config.training;
  const isEvaluated = clock === steps || (clock > 0 && evaluateEvery > 0 && clock % evaluateEvery === 0);
  if (isEvaluated) calls.push(compute.keepForEvaluation(clock));
  options.onClock(clock);
  // The compute thread takes calls in order, so the next gradient need not wait for these; their errors must not be lost.
  await Promise.all(calls);
  if (isEvaluated) options.onEvaluable(clock);
  return clock;
}

/** Checked before the push, as the loss is by the engine, so that the servers keep the last finite weights. */
function refuseNonFinite(gradient: Float32Array, step: number, slice: number): void {
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
