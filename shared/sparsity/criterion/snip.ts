import { WhittleError } from '../../errors.ts';
import { clampScore, type Criterion } from './criterion.ts';

/** |w g| of one global batch, before training (Lee et al. 2019). Its norm is a common factor and left out. */
export const snip: Criterion = {
  name: 'snip',
  needs: 'gradients',
  /** Throws PROTOCOL where no gradients are at hand. */
  scores({ weights, gradients }) {
    if (gradients === null)
      throw new WhittleError('PROTOCOL', 'snip scores are asked for, and no gradients are at hand');
    const scores = new Float32Array(weights.length);
    for (let i = 0; i < weights.length; i++) {
      scores[i] = clampScore(Math.abs((weights[i] as number) * (gradients[i] as number)));
    }
    return scores;
  },
};
