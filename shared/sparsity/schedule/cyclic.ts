import type { SparsitySchedule } from '../../config/types.ts';
import type { ScheduleKind } from './kind.ts';

type Cyclic = Extract<SparsitySchedule, { kind: 'cyclic' }>;

/**
 * AC/DC (Peste et al. 2021): from beginStep on sparse and dense phases by turns, updates where one ends and the next
 * begins. A dense phase has sparsity 0: what was dead comes back with zero weight. From endStep on it is sparse.
 */
export const cyclic: ScheduleKind<Cyclic> = {
  updates: {
    last: (schedule, step) => step - stepOfPhase(schedule, step).within,
    next: (schedule, step) => {
      const { isSparse, within } = stepOfPhase(schedule, step);
      return step - within + (isSparse ? schedule.sparseSteps : schedule.denseSteps);
    },
  },
  value: (schedule, step) => (stepOfPhase(schedule, step).isSparse ? schedule.finalSparsity : 0),
  before: () => 0,
};

/** In which kind of phase a step lies, and how many steps after its border. */
function stepOfPhase(
  { beginStep, sparseSteps, denseSteps }: Cyclic,
  step: number,
): { isSparse: boolean; within: number } {
  const within = (step - beginStep) % (sparseSteps + denseSteps);
  return within < sparseSteps ? { isSparse: true, within } : { isSparse: false, within: within - sparseSteps };
}
