import type { ParameterSpec } from '../../layout/model-description.ts';

/** What dies together: the units that are scored, ranked and counted. */
export interface Granularity {
  readonly name: 'element' | 'block' | 'nm' | 'neuron' | 'filter';
  /** Units in a parameter of this shape (row-major; last axis = outputs). */
  readonly numUnits: (shape: readonly number[]) => number;
  /** Unit of every element of the parameter, in flat order. For nm: the group of m neighbours along the input axis. */
  readonly unitOf: (shape: readonly number[]) => Uint32Array;
  /** Null, or why this parameter cannot be pruned so, with the cure. */
  readonly refuse: (parameter: ParameterSpec) => string | null;
}

/** Elements in a parameter of this shape. */
export function numElements(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

/** A kernel [..., inputs, outputs] as a matrix of (all taps x inputs) rows by outputs, flat order unchanged. */
export function asMatrix(shape: readonly number[]): { readonly rows: number; readonly columns: number } {
  const columns = shape.at(-1) ?? 1;
  return { rows: numElements(shape.slice(0, -1)), columns };
}

/** `dense_1/kernel [784, 300]`, for messages. */
export function tell({ name, shape }: ParameterSpec): string {
  return `${name} [${shape.join(', ')}]`;
}
