import type { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { emptyBitmap, setBit } from '../../../shared/sparsity/bitmap.ts';
import { matchesGlob } from '../../../shared/sparsity/glob.ts';

/**
 * Decay of dead latent weights under straight-through, the sparse-refined term of SR-STE (Zhou et al. 2021,
 * equation 9: W -= learningRate * lambda * (not mask) * W), here decoupled from the optimizer. Latent weights of dead
 * elements drift towards zero, so that the mask flips less; survivors are left alone.
 *
 * `weights` are packed over `stored` and changed in place; `mask` is a subset of `stored`; `covered` says which
 * elements `match` covers; `by` is learning rate x lambda. Elements do not influence each other.
 */
export function decayLatent(
  weights: Float32Array,
  stored: Uint8Array,
  mask: Uint8Array,
  covered: Uint8Array,
  by: number,
): void {
  if (by === 0) return;
  const keep = 1 - by;
  let next = 0;
  for (let byte = 0; byte < stored.length; byte++) {
    const decayed = ~(mask[byte] as number) & (covered[byte] as number);
    for (let rest = stored[byte] as number; rest !== 0; rest &= rest - 1) {
      if ((decayed & rest & -rest) !== 0) weights[next] = (weights[next] as number) * keep;
      next++;
    }
  }
}

/** Bit i: parameter element start + i belongs to a parameter that `match` matches. */
export function coveredBits(space: ParameterSpace, match: string, start: number, end: number): Uint8Array {
  const bits = emptyBitmap(end - start);
  for (const part of space.overlapping(start, end)) {
    if (!matchesGlob(match, part.parameter.name)) continue;
    for (let i = part.start; i < part.end; i++) setBit(bits, i - start);
  }
  return bits;
}
