import type { SparsitySchedule } from '../../config/types.ts';
import type { ScheduleKind } from './kind.ts';
import { regularUpdates } from './updates.ts';

/** finalSparsity from the first update on. */
export const constant: ScheduleKind<Extract<SparsitySchedule, { kind: 'constant' }>> = {
  updates: regularUpdates,
  value: ({ finalSparsity }) => finalSparsity,
  before: () => 0,
};
