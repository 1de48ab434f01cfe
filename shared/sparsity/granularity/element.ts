import { type Granularity, numElements } from './granularity.ts';

/** Every element by itself. */
export const element: Granularity = {
  name: 'element',
  numUnits: numElements,
  unitOf: (shape) => Uint32Array.from({ length: numElements(shape) }, (_, i) => i),
  refuse: () => null,
};
