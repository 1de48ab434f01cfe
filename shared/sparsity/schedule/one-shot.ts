import type { SparsitySchedule } from '../../config/types.ts';
import type { ScheduleKind } from './kind.ts';
import { regularUpdates } from './updates.ts';

/** One update, at beginStep = endStep: nothing lies between the two. */
export const oneShot: ScheduleKind<Extract<SparsitySchedule, { kind: 'oneShot' }>> = {
  updates: regularUpdates,
  value: ({ finalSparsity }) => finalSparsity,
  before: () => 0,
};
