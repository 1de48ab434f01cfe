import type { Granularity } from './granularity.ts';

/** Every element by itself. */
export const element: Granularity = {
  name: 'element',
  numUnits: (shape) => shape.reduce((product, dimension) => product * dimension, 1),
};
