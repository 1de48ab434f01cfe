import { type Criterion, statisticScores } from './criterion.ts';
import { movingAverage } from './moving-average.ts';

/** Moving average of |w g|: to first order, how much the loss changes without the weight (Molchanov et al. 2017). */
export const saliency: Criterion = {
  name: 'saliency',
  needs: 'weights',
  statistic: movingAverage('saliency', (w, g) => Math.abs(w * g)),
  scores: statisticScores,
};
