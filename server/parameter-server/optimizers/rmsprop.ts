import type { OptimizerConfig } from '../../../shared/config/types.ts';
import { partOfBatch } from './part-of-batch.ts';
import { softThreshold } from './soft-threshold.ts';
import type { Optimizer } from './types.ts';

/** RMSProp (Hinton 2012; centered: Graves 2013) as in torch.optim.RMSprop, whose `alpha` is `rho` here. */
export function rmsprop(config: Extract<OptimizerConfig, { kind: 'rmsprop' }>): Optimizer {
  const { rho, epsilon, momentum, centered } = config;
  const slotNames = ['squareAverage', ...(centered ? ['gradientAverage'] : []), ...(momentum > 0 ? ['velocity'] : [])];
  return {
    slotNames,
    secondMoment: 'squareAverage',
    initialSlot: () => 0,
    apply({ weights, gradients, slots, begin, end, learningRate, share, decay }) {
      const { l2, l1 } = decay;
      const keep = 1 - learningRate * decay.weightDecay;
      const squares = slots[0] as Float32Array;
      const averages = centered ? (slots[1] as Float32Array) : undefined;
      const velocity = momentum > 0 ? (slots[slotNames.length - 1] as Float32Array) : undefined;
      const part = partOfBatch(share);
      const rate = learningRate * part.rate;
      const rest = part.average(1 - rho);
      const kept = share === 1 ? rho : 1 - rest;
      const stabilizer = epsilon * part.rate;
      for (let i = begin; i < end; i++) {
        const weight = weights[i] as number;
        const gradient = (gradients[i] as number) + l2 * weight;
        let variance = kept * (squares[i] as number) + rest * gradient * gradient;
        squares[i] = variance;
        if (averages !== undefined) {
          const average = kept * (averages[i] as number) + rest * gradient;
          averages[i] = average;
          // Rounding can take the difference below 0, where the root would be NaN.
          variance = Math.max(0, variance - average * average);
        }
        let move = gradient / (Math.sqrt(variance) + stabilizer);
        if (velocity !== undefined) {
          move += momentum * (velocity[i] as number);
          velocity[i] = move;
        }
        weights[i] = weight * keep - rate * move;
      }
      softThreshold(weights, begin, end, learningRate * l1);
    },
  };
}
