import { removedCount } from './allocation/removed-count.ts';
import { clearBit, setPositions } from './bitmap.ts';
import { lowestScores } from './granularity/lowest.ts';

/**
 * The mask of a parameter pruned by magnitude to a sparsity: round-half-up(sparsity x size) dead, what is dead
 * already counted first, then the smallest |w|, ties by ascending index. A sparsity it has already changes nothing.
 * @param weights dense, [size]
 * @param mask bit 1 = survivor, [ceil(size / 8)]; not changed
 */
export function pruneAlone(weights: Float32Array, mask: Uint8Array, sparsity: number): Uint8Array {
  const pruned = mask.slice();
  const survivors = setPositions(mask, 0, weights.length);
  const more = removedCount(sparsity, weights.length) - (weights.length - survivors.length);
  if (more <= 0) return pruned;
  const magnitudes = Float32Array.from(survivors, (index) => Math.abs(weights[index] as number));
  for (const k of lowestScores(magnitudes, more)) clearBit(pruned, survivors[k] as number);
  return pruned;
}
