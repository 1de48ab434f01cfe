import { numElements } from '../granularity/granularity.ts';
import type { Allocation, Sized } from './allocation.ts';
import { removedCount } from './removed-count.ts';

/** Erdos-Renyi-kernel (Evci et al. 2020): density in proportion to (sum of dimensions) / (product of dimensions). */
export const allocateErk: Allocation = byDensity((shape) => sum(shape) / numElements(shape));

/** Erdos-Renyi (Mocanu et al. 2018): in proportion to (inputs + outputs) / (inputs x outputs). */
export const allocateEr: Allocation = byDensity((shape) => {
  const matrix = shape.slice(-2);
  return sum(matrix) / numElements(matrix);
});

function byDensity(rawOf: (shape: readonly number[]) => number): Allocation {
  return (sized, sparsity) => {
    const raws = sized.map(({ parameter, size }) => (size === 0 ? 0 : rawOf(parameter.shape)));
    const densities = densitiesOf(sized, raws, sparsity);
    return sized.map(({ parameter, size }, i) => ({
      parameters: [parameter],
      size,
      removed: removedCount(1 - (densities[i] as number), size),
    }));
  };
}

/**
 * Densities in proportion to `raws`, such that all parameters together keep (1 - sparsity) of their units; those that
 * would keep more than all stay dense, and the others share the rest. The budget is exact in float64, so that together
 * they miss it by no more than the rounding of each count.
 */
function densitiesOf(sized: readonly Sized[], raws: readonly number[], sparsity: number): number[] {
  const budget = (1 - sparsity) * sum(sized.map(({ size }) => size));
  const isDense = sized.map(({ size }) => size === 0);
  for (;;) {
    const left = budget - sum(sized.map(({ size }, i) => (isDense[i] ? size : 0)));
    const wanted = sum(sized.map(({ size }, i) => (isDense[i] ? 0 : (raws[i] as number) * size)));
    const scale = wanted === 0 ? 0 : left / wanted;
    const largest = Math.max(0, ...raws.filter((_, i) => !isDense[i]));
    if (largest * scale <= 1) return raws.map((raw, i) => (isDense[i] ? 1 : raw * scale));
    raws.forEach((raw, i) => {
      if (raw === largest) isDense[i] = true;
    });
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
