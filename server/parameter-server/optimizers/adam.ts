import type { OptimizerConfig } from '../../../shared/config/types.ts';
import { powInt } from '../../../shared/kernels/math.ts';
import { softThreshold } from './soft-threshold.ts';
import type { Optimizer } from './types.ts';

/** Adam (Kingma & Ba 2015) as in torch.optim.Adam; with decoupled weight decay it is AdamW. */
export function adam(config: Extract<OptimizerConfig, { kind: 'adam' }>): Optimizer {
  const { beta1, beta2, epsilon } = config;
  return {
    slotNames: ['m', 'v'],
    secondMoment: 'v',
    initialSlot: () => 0,
    apply({ weights, gradients, slots, begin, end, step, learningRate, decay }) {
      const { l2, l1 } = decay;
      const [m, v] = slots as [Float32Array, Float32Array];
      const keep = 1 - learningRate * decay.weightDecay;
      const rate = learningRate / (1 - powInt(beta1, step));
      const correction = Math.sqrt(1 - powInt(beta2, step));
      const rest1 = 1 - beta1;
      const rest2 = 1 - beta2;
      for (let i = begin; i < end; i++) {
        const weight = weights[i] as number;
        const gradient = (gradients[i] as number) + l2 * weight;
        const first = beta1 * (m[i] as number) + rest1 * gradient;
        const second = beta2 * (v[i] as number) + rest2 * gradient * gradient;
        m[i] = first;
        v[i] = second;
        weights[i] = weight * keep - (rate * first) / (Math.sqrt(second) / correction + epsilon);
      }
      softThreshold(weights, begin, end, learningRate * l1);
    },
  };
}
