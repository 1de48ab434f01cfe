import type { Criterion } from './criterion.ts';

/** |w| (Han et al. 2015; Zhu & Gupta 2017). */
export const magnitude: Criterion = {
  name: 'magnitude',
  needs: 'weights',
  scores: ({ weights }) => absolutes(weights),
};

/** |x| of each, in a new array. */
export function absolutes(values: Float32Array): Float32Array {
  const out = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = Math.abs(values[i] as number);
  return out;
}
