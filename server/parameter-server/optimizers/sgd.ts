import type { OptimizerConfig } from '../../../shared/config/types.ts';
import { softThreshold } from './soft-threshold.ts';
import type { Optimizer } from './types.ts';

/** Stochastic gradient descent; momentum and Nesterov's as in torch.optim.SGD (velocity v = momentum v + g). */
export function sgd(config: Extract<OptimizerConfig, { kind: 'sgd' }>): Optimizer {
  const { momentum, nesterov } = config;
  return {
    slotNames: momentum === 0 ? [] : ['velocity'],
    initialSlot: () => 0,
    apply({ weights, gradients, slots, begin, end, learningRate, decay }) {
      const { l2, l1 } = decay;
      const keep = 1 - learningRate * decay.weightDecay;
      const velocity = slots[0];
      if (velocity === undefined) {
        for (let i = begin; i < end; i++) {
          const weight = weights[i] as number;
          weights[i] = weight * keep - learningRate * ((gradients[i] as number) + l2 * weight);
        }
      } else {
        for (let i = begin; i < end; i++) {
          const weight = weights[i] as number;
          const gradient = (gradients[i] as number) + l2 * weight;
          const speed = momentum * (velocity[i] as number) + gradient;
          velocity[i] = speed;
          weights[i] = weight * keep - learningRate * (nesterov ? gradient + momentum * speed : speed);
        }
      }
      softThreshold(weights, begin, end, learningRate * l1);
    },
  };
}
