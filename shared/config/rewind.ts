import * as z from 'zod';
import { mapping, position } from './fields.ts';

/** Lottery-ticket rewinding: after step `at` the survivors go on from the values that they had at step `to`. */
export interface RewindConfig {
  readonly at: number;
  readonly to: number;
}

export const rewindSchema = z
  .array(
    mapping('survivors go back to an earlier step, the mask stays', {
      at: position('step after which the weights are restored; a step, `30%` of the run, or `3 epochs`'),
      to: position('step whose weights come back, before `at`'),
    }),
    { error: 'must be a list of rewinds, each {at: STEP, to: STEP}' },
  )
  .max(64, { error: 'must be at most 64 rewinds' })
  .describe('lottery-ticket rewinding: weights of an earlier step under the mask of a later one; default none')
  .optional();
