import type { SparsitySchedule } from '../config/types.ts';
import { pow, powInt } from '../kernels/math.ts';

/**
 * The sparsity in force at a step: what the schedule gives for the last update at or before it, and 0 before
 * `beginStep`, however large `initialSparsity` is, because no update has happened yet.
 */
export function sparsityAt(schedule: SparsitySchedule, step: number): number {
  return step < schedule.beginStep ? 0 : scheduleValue(schedule, step);
}

/**
 * The schedule function itself, held at its last update: initialSparsity before `beginStep`, then
 * s(t) = sf + (si - sf)(1 - (t - t0)/(t1 - t0))^p (Zhu & Gupta 2017), from `endStep` on sf exactly.
 */
export function scheduleValue(schedule: SparsitySchedule, step: number): number {
  const { beginStep, endStep, finalSparsity, frequency } = schedule;
  if (schedule.kind === 'constant') return step < beginStep ? 0 : finalSparsity;
  if (step >= endStep) return finalSparsity;
  if (step < beginStep) return schedule.initialSparsity;
  const updated = beginStep + Math.floor((step - beginStep) / frequency) * frequency;
  const remaining = 1 - (updated - beginStep) / (endStep - beginStep);
  return finalSparsity + (schedule.initialSparsity - finalSparsity) * power(remaining, schedule.power);
}

/** Updates fall on beginStep, beginStep + frequency, ... up to endStep, and on endStep whatever the remainder. */
export function isUpdateStep(schedule: SparsitySchedule, step: number): boolean {
  const { beginStep, endStep, frequency } = schedule;
  if (step === endStep) return true;
  return step >= beginStep && step < endStep && (step - beginStep) % frequency === 0;
}

/** All update steps, ascending. */
export function updateSteps(schedule: SparsitySchedule): number[] {
  const steps: number[] = [];
  for (let step = schedule.beginStep; step < schedule.endStep; step += schedule.frequency) steps.push(step);
  steps.push(schedule.endStep);
  return steps;
}

function power(base: number, exponent: number): number {
  return Number.isInteger(exponent) ? powInt(base, exponent) : pow(base, exponent);
}
