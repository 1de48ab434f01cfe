import type { OptimizerConfig } from '../../../shared/config/types.ts';
import { softThreshold } from './soft-threshold.ts';
import type { Optimizer } from './types.ts';

/** Adagrad (Duchi et al. 2011) as in torch.optim.Adagrad. */
export function adagrad(config: Extract<OptimizerConfig, { kind: 'adagrad' }>): Optimizer {
  const { epsilon, initialAccumulator } = config;
  return {
    slotNames: ['accumulator'],
    secondMoment: 'accumulator',
    initialSlot: () => initialAccumulator,
    apply({ weights, gradients, slots, begin, end, learningRate, decay }) {
      const { l2, l1 } = decay;
      const keep = 1 - learningRate * decay.weightDecay;
      const accumulator = slots[0] as Float32Array;
      for (let i = begin; i < end; i++) {
        const weight = weights[i] as number;
        const gradient = (gradients[i] as number) + l2 * weight;
        const sum = (accumulator[i] as number) + gradient * gradient;
        accumulator[i] = sum;
        weights[i] = weight * keep - (learningRate * gradient) / (Math.sqrt(sum) + epsilon);
      }
      softThreshold(weights, begin, end, learningRate * l1);
    },
  };
}
