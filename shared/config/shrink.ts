import { mapping, position } from './fields.ts';

export const shrinkSchema = mapping('neurons and filters that are dead leave the model for good; default: they stay', {
  atStep: position('step after which they leave; a step, `80%` of the run, or `9 epochs`'),
}).optional();

/** Absent: no unit leaves the model during the run. */
export interface ShrinkConfig {
  /** Clock at which dead units are removed, 1 .. steps - 1. */
  readonly atStep: number;
}
