import { type Criterion, statisticScores } from './criterion.ts';
import { movingAverage } from './moving-average.ts';

/** Moving average of |g|: removed is what the loss hardly depends on. */
export const gradient: Criterion = {
  name: 'gradient',
  needs: 'weights',
  statistic: movingAverage('gradient', (_, g) => Math.abs(g)),
  scores: statisticScores,
};
