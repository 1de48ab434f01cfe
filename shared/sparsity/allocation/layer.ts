import type { Allocation } from './allocation.ts';
import { removedCount } from './removed-count.ts';

/** Every parameter gets the same sparsity, ranked within itself. */
export const allocateByLayer: Allocation = (parameters, sparsity, granularity) =>
  parameters.map((parameter) => {
    const size = granularity.numUnits(parameter.shape);
    return { parameters: [parameter], size, removed: removedCount(sparsity, size) };
  });
