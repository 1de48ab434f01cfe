import { idle, news, refuseNonFinite, throwIfOver, type TrainingLoopOptions, until } from './loop-waits.ts';
import { trainOverlapping } from './overlapping-loop.ts';
import type { PulledWeights } from './server-links.ts';

/**
 * Trains until the last step, or until this worker leaves: weights of the servers' clock, the slices assigned to it,
 * pushes, weights of the next clock. What it is assigned may change at any moment, also in the middle of a step: the
 * servers count every slice once, whoever sends it.
 */
export async function train(options: TrainingLoopOptions): Promise<void> {
  const { config, links, assignment } = options;
  const { steps } = config.training;
  if (config.consistency.mode !== 'bsp') return trainOverlapping(options);
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
    const pushed = links.push({ step, slice, ...result, last: !assignment.hasOwn(done) });
    // What fails here ended the links, which `check` tells.
    pushed.catch(() => undefined);
    sent.push(pushed);
  }
  await Promise.all(sent);
  return links.has(step);
}

async function take(weights: PulledWeights, options: TrainingLoopOptions): Promise<number> {
  const { compute, config } = options;
  const { clock } = weights;
  const calls: Promise<void>[] = [];
  if (weights.mask) calls.push(compute.setMask(weights.mask));
  calls.push(compute.setWeights(weights.packed, weights.state, weights.clock));
  const { evaluateEvery, steps } = config.training;
  const isEvaluated = clock === steps || (clock > 0 && evaluateEvery > 0 && clock % evaluateEvery === 0);
  if (isEvaluated) calls.push(compute.keepForEvaluation(clock));
  options.onClock(clock);
  // The compute thread takes calls in order, so the next gradient need not wait for these; their errors must not be lost.
  await Promise.all(calls);
  if (isEvaluated) options.onEvaluable(clock);
  return clock;
}
