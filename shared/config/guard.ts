import type * as z from 'zod';
import { choice, mapping, real, whole } from './fields.ts';

/*
 * The run file's key `guard`: pruning waits, or goes back, while the evaluation has become worse than a band allows.
 */

export const guardSchema = mapping('holds or undoes pruning while the evaluation is out of its band; default off', {
  metric: choice('what is watched: accuracy or loss on the test part; default accuracy', ['accuracy', 'loss']).default(
    'accuracy',
  ),
  band: real(
    'how far it may be from the best evaluation so far: 0.02 is 2 points of accuracy, or 2 % more loss; > 0, default 0.02',
    { above: 0 },
  ).default(0.02),
  action: choice(
    'hold: sparsity does not rise until it is back; restore: also go back to the last mask update that kept it; default hold',
    ['hold', 'restore'],
  ).default('hold'),
  patience: whole('evaluations in a row out of the band before that, >= 1; default 1', { min: 1, max: 1000 }).default(
    1,
  ),
}).optional();

export type GuardConfig = NonNullable<z.output<typeof guardSchema>>;
