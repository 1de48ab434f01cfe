import type { Allocation } from './allocation.ts';
import { removedCount } from './removed-count.ts';

/** Every parameter gets the same sparsity, ranked within itself. */
export const allocateByLayer: Allocation = (sized, sparsity) =>
  sized.map(({ parameter, size }) => ({ parameters: [parameter], size, removed: removedCount(sparsity, size) }));
