import { WhittleError } from '../../errors.ts';
import { clampScore, type Criterion } from './criterion.ts';

/**
 * w^2 v: what the loss rises by without the weight, to second order, with the diagonal of the Fisher information for
 * the Hessian. The optimizer has estimated it already as its second moment (optimal brain damage, LeCun et al. 1989).
 */
export const fisher: Criterion = {
  name: 'fisher',
  needs: 'secondMoment',
  /** Throws UNSUPPORTED without a second moment. */
  scores({ weights, secondMoment }) {
    if (secondMoment === null) {
      throw new WhittleError('UNSUPPORTED', 'fisher scores need the second moment of adam, rmsprop or adagrad');
    }
    const scores = new Float32Array(weights.length);
    for (let i = 0; i < weights.length; i++) {
      const weight = weights[i] as number;
      scores[i] = clampScore(weight * weight * (secondMoment[i] as number));
    }
    return scores;
  },
};
