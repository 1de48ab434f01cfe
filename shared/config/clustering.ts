import * as z from 'zod';
import { choice, mapping, position, whole } from './fields.ts';

const globError = 'must be a glob of parameter names, such as "*/kernel"';

export const clusteringSchema = mapping('weights share a few values a parameter; default: none', {
  clusters: whole('distinct values a parameter, zero among them where it has zeros; 2 to 65536, default 16', {
    min: 2,
    max: 65_536,
  }).default(16),
  match: z
    .string({ error: globError })
    .min(1, { error: globError })
    .nullable()
    .describe('glob of parameter names; default: kernels of dense and convolution layers')
    .default(null),
  beginStep: position('from the weights of this step on; a step, `60%` of the run, or `9 epochs`; default 0').default(
    0,
  ),
  initialization: choice(
    'first centroids: linear, evenly from the least to the largest weight; density, equally many weights each; default linear',
    ['linear', 'density'],
  ).default('linear'),
}).optional();

/** Weight clustering (Han et al. 2016): workers compute with each weight's centroid, its gradient goes to the weight. */
export interface ClusteringConfig {
  /** Distinct values a parameter, zero among them where it has zeros. */
  readonly clusters: number;
  /** Glob of parameter names; null: the prunable parameters. */
  readonly match: string | null;
  readonly beginStep: number;
  readonly initialization: 'linear' | 'density';
}
