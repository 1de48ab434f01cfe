import type { LayerVariable } from '@tensorflow/tfjs-layers';
import { WhittleError } from '../../../shared/errors.ts';
import type { Graph, ValueName } from './graph.ts';

/** A value of the graph, and its shape as TensorFlow.js has it: null where it depends on the batch. */
export interface Value {
  readonly name: ValueName;
  readonly shape: readonly (number | null)[];
}

/** One use of a layer. */
export interface LayerUse {
  readonly name: string;
  readonly className: string;
  /** As the layer's getConfig gives it. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly weights: readonly LayerVariable[];
  /** At least one. */
  readonly inputs: readonly [Value, ...Value[]];
  readonly outputShape: readonly (number | null)[];
}

/** Adds what a layer computes to the graph and answers the name of its output. Throws UNSUPPORTED, naming the layer. */
export type LayerConverter = (graph: Graph, layer: LayerUse) => ValueName;

/** The weight whose name ends so, such as `kernel`; null where the layer has none. */
export function weightOf({ weights }: LayerUse, suffix: string): LayerVariable | null {
  return weights.find(({ originalName }) => originalName.endsWith(`/${suffix}`)) ?? null;
}

export function requireWeight(layer: LayerUse, suffix: string): LayerVariable {
  const weight = weightOf(layer, suffix);
  if (weight === null) throw new WhittleError('INTERNAL', `layer ${layer.name} has no weight ${suffix}`);
  return weight;
}

export function refuse({ name, className }: LayerUse, what: string): WhittleError {
  return new WhittleError(
    'UNSUPPORTED',
    `layer ${name} (${className}) cannot be exported as ONNX: ${what}; export with --format tfjs or safetensors`,
    { data: { layer: name, className } },
  );
}

/** An axis counted from the first, of a layer that may count from the last. */
export function axisOf(layer: LayerUse, rank: number): number {
  const { axis = -1 } = layer.config;
  if (typeof axis !== 'number') throw refuse(layer, `it has several axes ([${String(axis)}]), ONNX's takes one`);
  return axis < 0 ? rank + axis : axis;
}
