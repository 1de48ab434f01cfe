import { hashSeeds } from '../../kernels/random.ts';
import type { Criterion } from './criterion.ts';

/** Scores are multiples of 2^-24, which float32 holds exactly below 1. */
const SCALE = 2 ** -24;

/**
 * A lot for each element, uniform in [0, 1), from the seed and its flat index alone. It is the same at every update,
 * so that what is removed at a low sparsity is removed at every higher one too.
 */
export const random: Criterion = {
  name: 'random',
  needs: 'weights',
  scores({ indices, seed }) {
    const flat = indices();
    const scores = new Float32Array(flat.length);
    for (let i = 0; i < flat.length; i++) scores[i] = (hashSeeds([seed, flat[i] as number]) >>> 8) * SCALE;
    return scores;
  },
};
