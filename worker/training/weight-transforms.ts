/**
 * What workers compute with in place of the weights that servers keep: fake quantization and the like. Servers keep
 * the latent float32 weights; the gradient of a transformed weight is pushed as that of the latent one
 * (straight-through, Bengio et al. 2013).
 */
import { clusterValues } from '../../shared/clustering/k-means.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { ParameterSpec } from '../../shared/layout/model-description.ts';
import { fakeQuantizeWeights } from '../../shared/quantization/symmetric.ts';
import { matchesGlob } from '../../shared/sparsity/glob.ts';

/**
 * Dense values of one parameter, row-major, to others of the same length, in a new array. Pure, and zeros stay exactly
 * +0, since they may be dead.
 */
export type WeightTransform = (values: Float32Array, parameter: ParameterSpec) => Float32Array;

/** A transform and where it acts. */
export interface TimedTransform {
  /** The weights of this clock are the first that are transformed: those that step beginStep + 1 computes with. */
  readonly beginStep: number;
  readonly matches: (parameter: ParameterSpec) => boolean;
  readonly transform: WeightTransform;
}

/**
 * What the run file asks for, in the order in which it is applied. Quantization is last: nothing may leave its grid, and a
 * centroid rounded to it is still one value for all of its cluster.
 */
export function weightTransforms(config: RunConfig): TimedTransform[] {
  return [...clustering(config), ...quantization(config)];
}

/** Centroids are found anew at every clock, so that resumed and late workers find the same. */
function clustering({ clustering }: RunConfig): TimedTransform[] {
  if (clustering === undefined) return [];
  const { clusters, match, beginStep, initialization } = clustering;
  return [
    {
      beginStep,
      matches: ({ name, prunable }) => (match === null ? prunable : matchesGlob(match, name)),
      transform: (values) => clusterValues(values, clusters, initialization),
    },
  ];
}

function quantization({ quantization }: RunConfig): TimedTransform[] {
  const weights = quantization?.weights ?? null;
  if (quantization === undefined || weights === null) return [];
  return [
    {
      beginStep: quantization.beginStep,
      matches: ({ name, prunable }) => (quantization.match === null ? prunable : matchesGlob(quantization.match, name)),
      transform: (values, parameter) => fakeQuantizeWeights(values, parameter, weights),
    },
  ];
}

/** All that act on the weights of `clock`, as one; null where none does. */
export function transformAt(timed: readonly TimedTransform[], clock: number): WeightTransform | null {
  const acting = timed.filter(({ beginStep }) => clock >= beginStep);
  if (acting.length === 0) return null;
  return (values, parameter) =>
    acting.reduce(
      (current, { matches, transform }) => (matches(parameter) ? transform(current, parameter) : current),
      values,
    );
}
