import type { Criterion } from './criterion.ts';
import { keysInPlace } from './key.ts';
import { absolutes } from './magnitude.ts';

/**
 * Layer-adaptive magnitude (Lee et al. 2021): w_i^2 / sum of w_j^2 over all j of the parameter that rank at or above i
 * by magnitude, ties by index. The largest of each parameter scores 1, so a global ranking empties no layer.
 */
export const lamp: Criterion = {
  name: 'lamp',
  needs: 'weights',
  scores: ({ weights }) => absolutes(weights),
  /** Sums from the largest down in float64: each step of it is monotone, so the order of |w| stays. */
  normalize(scores) {
    const keys = keysInPlace(scores.slice());
    const order = Uint32Array.from(keys.keys());
    order.sort((a, b) => (keys[a] as number) - (keys[b] as number) || a - b);
    const out = new Float32Array(scores.length);
    let sum = 0;
    for (let rank = order.length - 1; rank >= 0; rank--) {
      const at = order[rank] as number;
      const square = (scores[at] as number) * (scores[at] as number);
      sum += square;
      out[at] = square === 0 ? 0 : square / sum;
    }
    return out;
  },
};
