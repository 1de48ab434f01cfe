import type { LearningRateSchedule } from '../../../shared/config/types.ts';
import { cos, powInt } from '../../../shared/kernels/math.ts';

/**
 * The learning rate of step `step` (from 1) of `totalSteps`.
 *
 * Warm-up: step t of the first `warmupSteps` takes t / warmupSteps of `base`. After it, with the steps already
 * done as the argument (as in torch.optim.lr_scheduler):
 * - constant: `base`
 * - step: times `factor` after every `every` steps, those of the warm-up included
 * - linear, cosine: from `base` at the end of the warm-up towards finalFactor * base at the end of the run
 *   (half a cosine: Loshchilov & Hutter 2017), which the step after the last would have.
 */
export function learningRateAt(base: number, schedule: LearningRateSchedule, step: number, totalSteps: number): number {
  const { warmupSteps } = schedule;
  if (step <= warmupSteps) return (base * step) / warmupSteps;
  const done = step - 1;
  const progress = Math.min(1, (done - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
  switch (schedule.kind) {
    case 'constant':
      return base;
    case 'step':
      return base * powInt(schedule.factor, Math.floor(done / schedule.every));
    case 'linear':
      return base * (1 + (schedule.finalFactor - 1) * progress);
    case 'cosine': {
      const { finalFactor } = schedule;
      return base * (finalFactor + (1 - finalFactor) * 0.5 * (1 + cos(Math.PI * progress)));
    }
  }
}
