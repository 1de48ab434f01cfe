import { clampScore, type Statistic } from './criterion.ts';

/** What the average keeps at each step: it looks back over some ten steps. */
const KEPT = 0.9;

/** S <- 0.9 S + 0.1 x: single batches are noisy, and all elements lag alike. Float64 in between, float32 kept. */
export function movingAverage(name: string, observed: (weight: number, gradient: number) => number): Statistic {
  return {
    name,
    update(statistic, weights, gradients, begin, end) {
      for (let i = begin; i < end; i++) {
        const now = observed(weights[i] as number, gradients[i] as number);
        statistic[i] = clampScore(KEPT * (statistic[i] as number) + (1 - KEPT) * now);
      }
    },
  };
}
