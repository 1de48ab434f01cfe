import type { SparsitySchedule } from '../../config/types.ts';
import type { ScheduleKind } from './kind.ts';

type Steps = Extract<SparsitySchedule, { kind: 'steps' }>;

/** A list of updates and the sparsity of each. */
export const steps: ScheduleKind<Steps> = {
  updates: {
    last: (schedule, step) => entryAt(schedule, step)?.step ?? schedule.beginStep,
    next: (schedule, step) => schedule.steps.find((entry) => entry.step > step)?.step ?? Infinity,
  },
  value: (schedule, step) => entryAt(schedule, step)?.sparsity ?? 0,
  before: () => 0,
};

/** The last entry at or before `step`. */
function entryAt({ steps: entries }: Steps, step: number): Steps['steps'][number] | undefined {
  return entries.findLast((entry) => entry.step <= step);
}
