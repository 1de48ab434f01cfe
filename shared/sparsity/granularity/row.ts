import { clearBit, fullBitmap } from '../bitmap.ts';
import { removedCount } from '../allocation/removed-count.ts';
import { lowestScores } from './lowest.ts';

/**
 * The norm of each slice across `axis`: for a kernel [in, out] and axis 1, of the weights into each neuron.
 * Adds elements in ascending flat index; scores are float32.
 */
export function rowNorms(values: Float32Array, shape: readonly number[], axis: number, norm: 1 | 2): Float32Array {
  const { rows, inner } = strides(shape, axis);
  const sums = new Float64Array(rows);
  for (let i = 0; i < values.length; i++) {
    const row = Math.floor(i / inner) % rows;
    const value = values[i] as number;
    sums[row] = (sums[row] as number) + (norm === 1 ? Math.abs(value) : value * value);
  }
  return Float32Array.from(sums, (sum) => (norm === 1 ? sum : Math.sqrt(sum)));
}

/** Bitmap of the elements that survive when whole rows, the lowest norms first, are removed at `sparsity`. */
export function rowMask(
  values: Float32Array,
  shape: readonly number[],
  axis: number,
  norm: 1 | 2,
  sparsity: number,
): Uint8Array {
  const { rows, inner } = strides(shape, axis);
  const dead = new Set(lowestScores(rowNorms(values, shape, axis, norm), removedCount(sparsity, rows)));
  const bits = fullBitmap(values.length);
  for (let i = 0; i < values.length; i++) if (dead.has(Math.floor(i / inner) % rows)) clearBit(bits, i);
  return bits;
}

function strides(shape: readonly number[], axis: number): { rows: number; inner: number } {
  return {
    rows: shape[axis] ?? 1,
    inner: shape.slice(axis + 1).reduce((product, dimension) => product * dimension, 1),
  };
}
