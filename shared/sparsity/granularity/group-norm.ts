import type { GroupNorm } from '../../config/types.ts';
import { clampScore } from '../criterion/criterion.ts';

/**
 * Scores of units from the scores of elements: the norm of those of each unit, added in float64 in flat order, float32
 * result; 0 for a unit without elements. Norm 1 is the sum of |s|, 2 the root of the sum of squares, mean the mean of
 * s with its sign.
 * @param scores of the elements that count, those of dead ones 0 or left out
 * @param unitOf unit of each of them
 */
export function unitScores(scores: Float32Array, unitOf: Uint32Array, numUnits: number, norm: GroupNorm): Float32Array {
  const sums = new Float64Array(numUnits);
  const counts = new Uint32Array(numUnits);
  for (let i = 0; i < scores.length; i++) {
    const unit = unitOf[i] as number;
    const score = scores[i] as number;
    sums[unit] = (sums[unit] as number) + (norm === 1 ? Math.abs(score) : norm === 2 ? score * score : score);
    counts[unit] = (counts[unit] as number) + 1;
  }
  return Float32Array.from(sums, (sum, unit) => {
    if (norm === 2) return clampScore(Math.sqrt(sum));
    return clampScore(norm === 1 ? sum : sum / Math.max(1, counts[unit] as number));
  });
}
