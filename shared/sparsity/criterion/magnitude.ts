import type { Criterion } from './criterion.ts';

/** |w| (Han et al. 2015; Zhu & Gupta 2017). */
export const magnitude: Criterion = {
  name: 'magnitude',
  scores({ weights }) {
    const scores = new Float32Array(weights.length);
    for (let i = 0; i < weights.length; i++) scores[i] = Math.abs(weights[i] as number);
    return scores;
  },
};
