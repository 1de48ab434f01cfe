import type { ParameterSpec } from './model-description.ts';

/** Which unit an element belongs to: element i of the row-major values to unit floor(i / inner) mod count. */
export interface Units {
  readonly count: number;
  /** Neighbours in memory of the same unit. */
  readonly inner: number;
}

/**
 * The units (neurons, filters) whose outgoing values a parameter makes: its last axis, as TensorFlow.js lays kernels
 * out; of transposed convolutions [.., out, in] the last but one; of depthwise kernels [.., in, multiplier] both. A
 * vector has a unit an element, a scalar is one.
 */
export function unitsOf({ name, shape, layerKind }: Pick<ParameterSpec, 'name' | 'shape' | 'layerKind'>): Units {
  const last = shape.at(-1) ?? 1;
  const before = shape.at(-2) ?? 1;
  if (shape.length > 1 && layerKind.endsWith('Transpose')) return { count: before, inner: last };
  if (name.endsWith('/depthwise_kernel')) return { count: before * last, inner: 1 };
  return { count: last, inner: 1 };
}
