import { WhittleError } from '../../errors.ts';
import type { Criterion } from './criterion.ts';

/**
 * How much a neuron or filter has to say: its mean absolute output times the share of outputs that are not zero, so
 * that of equally strong units the one that is silent more often goes first (mean activation: Molchanov et al. 2017;
 * share of zeros: Hu et al. 2016).
 * @param meanAbsolute mean of |output| over examples and positions, >= 0
 * @param shareOfZeros 0 to 1
 */
export function activationScore(meanAbsolute: number, shareOfZeros: number): number {
  return Math.fround(meanAbsolute * (1 - shareOfZeros));
}

export const activation: Criterion = {
  name: 'activation',
  needs: 'activations',
  /** Throws UNSUPPORTED: elements have no outputs. */
  scores() {
    throw new WhittleError('UNSUPPORTED', 'activations belong to neurons and filters, not to single elements');
  },
};
