import type { RunConfig } from '../config/types.ts';
import { planHasWork } from './rules.ts';

type Plan = Pick<RunConfig, 'sparsity' | 'guard' | 'training'>;

/**
 * Steps at which servers hold for a mask commit, one mask epoch each: updates of the plan, and under a guard what comes
 * after the last of them, at the clocks of evaluations, where an update that it held back may be made up for. Servers
 * and scheduler work them out from the run file alone, so a guard that has nothing to do there commits the mask as it is.
 */
export function isMaskStep(plan: Plan, step: number): boolean {
  return planHasWork(plan.sparsity, step) || isCatchUpStep(plan, step);
}

/** An update so near to the end that nothing is learnt after it would only do harm: the last step is none. */
function isCatchUpStep({ sparsity, guard, training }: Plan, step: number): boolean {
  if (guard === undefined || step >= training.steps || step % training.evaluateEvery !== 0) return false;
  return step > lastUpdate({ sparsity });
}

/** Step of the plan's last update. */
export function lastUpdate({ sparsity }: Pick<Plan, 'sparsity'>): number {
  return Math.max(...sparsity.map(({ schedule }) => schedule.endStep));
}

/** The mask step before `step`; -1: none. */
export function maskStepBefore(plan: Plan, step: number): number {
  let before = step - 1;
  while (before >= 0 && !isMaskStep(plan, before)) before--;
  return before;
}

/** Whether any mask step comes after `step`. */
export function hasMaskStepAfter(plan: Plan, step: number): boolean {
  for (let later = step + 1; later <= plan.training.steps; later++) if (isMaskStep(plan, later)) return true;
  return false;
}

/** Clocks that are cut so that a guard can put back weights, slots and mask of a mask update. */
export function isRestorePoint(plan: Plan, clock: number): boolean {
  return plan.guard?.action === 'restore' && isMaskStep(plan, clock);
}
