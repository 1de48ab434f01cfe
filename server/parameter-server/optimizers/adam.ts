import type { OptimizerConfig } from '../../../shared/config/types.ts';
import { powInt } from '../../../shared/kernels/math.ts';
import { partOfBatch } from './part-of-batch.ts';
import { softThreshold } from './soft-threshold.ts';
import type { Optimizer } from './types.ts';

/**
 * Adam (Kingma & Ba 2015) as in torch.optim.Adam; with decoupled weight decay it is AdamW. A part of a batch has a
 * noisier gradient, which the second moment takes for a larger one: see `partOfBatch`.
 */
export function adam(config: Extract<OptimizerConfig, { kind: 'adam' }>): Optimizer {
  const { beta1, beta2, epsilon } = config;
  return {
    slotNames: ['m', 'v'],
    secondMoment: 'v',
    initialSlot: () => 0,
    apply({ weights, gradients, slots, begin, end, step, learningRate, share, decay }) {
      const { l2, l1 } = decay;
      const [m, v] = slots as [Float32Array, Float32Array];
      const keep = 1 - learningRate * decay.weightDecay;
      const part = partOfBatch(share);
      const rate = (learningRate * part.rate) / (1 - powInt(beta1, step));
      const correction = Math.sqrt(1 - powInt(beta2, step));
      const rest1 = part.average(1 - beta1);
      const rest2 = part.average(1 - beta2);
      const [keep1, keep2] = share === 1 ? [beta1, beta2] : [1 - rest1, 1 - rest2];
      const stabilizer = epsilon * part.rate;
      for (let i = begin; i < end; i++) {
        const weight = weights[i] as number;
        const gradient = (gradients[i] as number) + l2 * weight;
        const first = keep1 * (m[i] as number) + rest1 * gradient;
        const second = keep2 * (v[i] as number) + rest2 * gradient * gradient;
        m[i] = first;
        v[i] = second;
        weights[i] = weight * keep - (rate * first) / (Math.sqrt(second) / correction + stabilizer);
      }
      softThreshold(weights, begin, end, learningRate * l1);
    },
  };
}
