import type { RunConfig } from '../shared/config/types.ts';
import { WhittleError } from '../shared/errors.ts';
import type { ComputeClient } from './training/compute-client.ts';
import type { PulledWeights, ServerLinks } from './server-links.ts';

export interface TrainingLoopOptions {
  readonly config: RunConfig;
  readonly compute: ComputeClient;
  readonly links: ServerLinks;
  /** Clock of the weights to begin with. */
  readonly clock: number;
  /** Slices of this worker now; asked anew each step. */
  readonly slices: () => readonly number[];
  readonly onClock: (clock: number) => void;
  /** The compute thread holds the weights of an evaluation clock. */
  readonly onEvaluable: (clock: number) => void;
  readonly signal: AbortSignal;
}

/** Trains from `clock` to the last step: weights, slices, pushes, weights of the next clock. */
export async function train(options: TrainingLoopOptions): Promise<void> {
  const { config, compute, links, signal } = options;
  let weights = await links.pull(options.clock, signal);
  await take(weights, options);
  for (let step = options.clock + 1; step <= config.training.steps && !signal.aborted; step += 1) {
    const slices = options.slices();
    // A worker without slices has nothing to do until it is given some; it does not cost the servers an answer a step.
    if (slices.length === 0) return;
    const sent: Promise<void>[] = [];
    for (const [i, slice] of slices.entries()) {
      const result = await compute.gradient(step, slice);
      refuseNonFinite(result.gradient, step, slice);
      sent.push(links.push({ step, slice, ...result, last: i === slices.length - 1 }));
    }
    await Promise.all(sent);
    weights = await links.weights(step, signal);
    await take(weights, options);
  }
}

async function take(weights: PulledWeights, options: TrainingLoopOptions): Promise<void> {
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
