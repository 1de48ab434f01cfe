import { mapping, whole } from './fields.ts';

export const recalibrateSchema = mapping(
  'means and variances of batch normalisation measured anew for the last evaluation and exports; default: moving averages',
  {
    batches: whole('batches of training data that are averaged, 1 to 100000; default 50', {
      min: 1,
      max: 100_000,
    }).default(50),
  },
).optional();

/** Evaluation of the last step, `evaluate` and `export` use averages over so many batches. */
export interface RecalibrateConfig {
  readonly batches: number;
}
