import { WhittleError } from '../../errors.ts';
import { clearBit, fullBitmap } from '../bitmap.ts';
import { lowestScores } from './lowest.ts';

/**
 * N:M sparsity (Mishra et al. 2021): bitmap of the elements that survive when of every `m` neighbours along
 * `axis` only the `n` largest magnitudes stay. The axis is that of the inputs: 0 for a kernel [in, out].
 * Throws UNSUPPORTED where the axis is no multiple of m long.
 */
export function nmMask(values: Float32Array, shape: readonly number[], axis: number, n: number, m: number): Uint8Array {
  const length = shape[axis] ?? 0;
  if (length % m !== 0) {
    throw new WhittleError('UNSUPPORTED', `axis ${axis} of [${shape.join(', ')}] cannot be cut into groups of ${m}`);
  }
  const inner = shape.slice(axis + 1).reduce((product, dimension) => product * dimension, 1);
  const bits = fullBitmap(values.length);
  const group = new Float32Array(m);
  for (let block = 0; block < values.length; block += inner * m) {
    for (let first = block; first < block + inner; first++) {
      for (let k = 0; k < m; k++) group[k] = Math.abs(values[first + k * inner] as number);
      for (const k of lowestScores(group, m - n)) clearBit(bits, first + k * inner);
    }
  }
  return bits;
}
