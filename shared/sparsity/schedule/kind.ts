import type { SparsitySchedule } from '../../config/types.ts';
import { regularUpdates, type Updates } from './updates.ts';

/** One kind of schedule: when it updates, and to which sparsity. Pure. */
export interface ScheduleKind<S extends SparsitySchedule> {
  readonly updates: Updates<S>;
  /** Sparsity of the update at `step`, for beginStep <= step < endStep. From endStep on it is finalSparsity, exactly. */
  value(schedule: S, step: number): number;
  /** What the function gives before beginStep, where no update has happened yet. */
  before(schedule: S): number;
}

type Rising = Extract<SparsitySchedule, { initialSparsity: number }>;

/**
 * A schedule that goes from initialSparsity to finalSparsity along a curve.
 * @param curve sparsity at the share `x` of the way, 0 <= x < 1; at x = 0 it is initialSparsity
 */
export function risingKind<S extends Rising>(curve: (schedule: S, x: number) => number): ScheduleKind<S> {
  return {
    updates: regularUpdates,
    value: (schedule, step) => curve(schedule, (step - schedule.beginStep) / (schedule.endStep - schedule.beginStep)),
    before: ({ initialSparsity }) => initialSparsity,
  };
}
