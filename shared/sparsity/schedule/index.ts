import type { SparsitySchedule } from '../../config/types.ts';
import { constant } from './constant.ts';
import { cosine } from './cosine.ts';
import { cyclic } from './cyclic.ts';
import { exponential } from './exponential.ts';
import type { ScheduleKind } from './kind.ts';
import { linear } from './linear.ts';
import { oneShot } from './one-shot.ts';
import { polynomial } from './polynomial.ts';
import { steps } from './steps.ts';

/** A further kind is one more file and one more line here. */
const KINDS: { readonly [K in SparsitySchedule['kind']]: ScheduleKind<Extract<SparsitySchedule, { kind: K }>> } = {
  polynomial,
  linear,
  exponential,
  cosine,
  constant,
  oneShot,
  steps,
  cyclic,
};

function kindOf(schedule: SparsitySchedule): ScheduleKind<SparsitySchedule> {
  return KINDS[schedule.kind];
}

/**
 * The sparsity in force at a step: what the schedule gives for the last update at or before it, and 0 before
 * `beginStep`, however large `initialSparsity` is, because no update has happened yet.
 */
export function sparsityAt(schedule: SparsitySchedule, step: number): number {
  return step < schedule.beginStep ? 0 : scheduleValue(schedule, step);
}

/**
 * The schedule function itself, held at its last update: initialSparsity (0 for kinds without) before `beginStep`,
 * from `endStep` on finalSparsity exactly.
 */
export function scheduleValue(schedule: SparsitySchedule, step: number): number {
  const { beginStep, endStep, finalSparsity } = schedule;
  const kind = kindOf(schedule);
  if (step >= endStep) return finalSparsity;
  return step < beginStep ? kind.before(schedule) : kind.value(schedule, kind.updates.last(schedule, step));
}

/** Updates fall on beginStep, on the steps of the schedule's own calendar, and on endStep whatever the remainder. */
export function isUpdateStep(schedule: SparsitySchedule, step: number): boolean {
  const { beginStep, endStep } = schedule;
  if (step === endStep) return true;
  return step >= beginStep && step < endStep && kindOf(schedule).updates.last(schedule, step) === step;
}

/** All update steps, ascending. */
export function updateSteps(schedule: SparsitySchedule): number[] {
  const { beginStep, endStep } = schedule;
  const { updates } = kindOf(schedule);
  const found: number[] = [];
  for (let step = beginStep; step < endStep; step = updates.next(schedule, step)) found.push(step);
  found.push(endStep);
  return found;
}
