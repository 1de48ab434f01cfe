import type { Allocation } from './allocation.ts';
import { removedCount } from './removed-count.ts';

/** All parameters compete in one ranking. */
export const allocateGlobally: Allocation = (parameters, sparsity, granularity) => {
  if (parameters.length === 0) return [];
  const size = parameters.reduce((sum, { shape }) => sum + granularity.numUnits(shape), 0);
  return [{ parameters, size, removed: removedCount(sparsity, size) }];
};
