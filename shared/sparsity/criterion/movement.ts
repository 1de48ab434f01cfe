import { clampScore, type Criterion, statisticScores } from './criterion.ts';

/**
 * S <- S - w g, accumulated (Sanh et al. 2020): weights that training moves away from zero score high, those that it
 * moves towards zero score below 0. The learning rate is a common factor and left out.
 */
export const movement: Criterion = {
  name: 'movement',
  needs: 'weights',
  statistic: {
    name: 'movement',
    update(statistic, weights, gradients, begin, end) {
      for (let i = begin; i < end; i++) {
        statistic[i] = clampScore((statistic[i] as number) - (weights[i] as number) * (gradients[i] as number));
      }
    },
  },
  scores: statisticScores,
};
