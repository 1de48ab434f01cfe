import { clusterValues } from '../../shared/clustering/k-means.ts';
import type { ClusteringConfig } from '../../shared/config/clustering.ts';
import { matchesGlob } from '../../shared/sparsity/glob.ts';
import type { TimedTransform } from './weight-transforms.ts';

/** Weights to their centroids, found anew at every clock: resumed and late workers find the same. */
export function clusteringTransform({ clusters, match, beginStep, initialization }: ClusteringConfig): TimedTransform {
  return {
    beginStep,
    matches: ({ name, prunable }) => (match === null ? prunable : matchesGlob(match, name)),
    transform: (values) => clusterValues(values, clusters, initialization),
  };
}
