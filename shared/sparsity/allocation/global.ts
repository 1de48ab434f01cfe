import type { Allocation } from './allocation.ts';
import { removedCount } from './removed-count.ts';

/** All parameters compete in one ranking. */
export const allocateGlobally: Allocation = (sized, sparsity) => {
  if (sized.length === 0) return [];
  const size = sized.reduce((sum, each) => sum + each.size, 0);
  return [{ parameters: sized.map(({ parameter }) => parameter), size, removed: removedCount(sparsity, size) }];
};
