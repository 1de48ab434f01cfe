/** Runs the cases of test/golden/layers.json: builds the layers, takes the tape's gradients. */
import { readFileSync } from 'node:fs';
import type { LayersModel, SymbolicTensor } from '@tensorflow/tfjs-layers';
import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import { assertSupported } from '../../../worker/backend/supported.ts';
import type { Tf } from '../../../worker/backend/tf.ts';

export interface Values {
  readonly shape: number[];
  readonly data: number[];
}

type LayerSpec = readonly [factory: string, args: Record<string, unknown>];

export interface LayerCase {
  readonly name: string;
  readonly layers: readonly LayerSpec[];
  readonly training: boolean;
  readonly inputs: readonly Values[];
  readonly weights: readonly Values[];
  readonly output: Values;
  readonly upstream: Values;
  /** Null for inputs that take no gradient (indices). */
  readonly inputGrads: readonly (Values | null)[];
  readonly weightGrads: readonly Values[];
  readonly dtypes?: readonly ('int32' | 'float32')[];
}

interface AnyLayer {
  apply(x: unknown): SymbolicTensor;
}

export function readCases(): LayerCase[] {
  return JSON.parse(readFileSync(new URL('../../golden/layers.json', import.meta.url), 'utf8')) as LayerCase[];
}

/** Nested layers are written `{ $layer: [factory, args] }`. */
function build(tf: Tf, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => build(tf, item));
  if (typeof value !== 'object' || value === null) return value;
  if ('$layer' in value) return layerOf(tf, value.$layer as LayerSpec);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, build(tf, item)]));
}

function layerOf(tf: Tf, [factory, args]: LayerSpec): AnyLayer {
  return (tf.layers as unknown as Record<string, (args: unknown) => AnyLayer>)[factory]?.(build(tf, args)) as AnyLayer;
}

/** A model of the case's layers with the case's weights. */
export function modelOf(tf: Tf, layerCase: LayerCase): LayersModel {
  const inputs = layerCase.inputs.map(({ shape }, index) =>
    tf.input({ shape: shape.slice(1), dtype: layerCase.dtypes?.[index] ?? 'float32' }),
  );
  let flow: SymbolicTensor | SymbolicTensor[] = inputs.length === 1 ? (inputs[0] as SymbolicTensor) : inputs;
  for (const spec of layerCase.layers) flow = layerOf(tf, spec).apply(flow);
  const model = tf.model({ inputs, outputs: flow });
  assertSupported(model);
  trainable(model).forEach((variable, index) => {
    const weight = layerCase.weights[index] as Values;
    variable.assign(tf.tensor(weight.data, weight.shape));
  });
  return model;
}

export function trainable(model: LayersModel): Variable[] {
  return model.trainableWeights.map((weight) => (weight as unknown as { val: Variable }).val);
}

export interface Result {
  readonly output: Values;
  /** The same outside a tape, where TensorFlow.js fuses kernels. */
  readonly inference: Values;
  readonly inputGrads: readonly (Values | null)[];
  readonly weightGrads: readonly Values[];
}

/** Output and gradients of sum(output x upstream). */
export function runCase(tf: Tf, layerCase: LayerCase): Result {
  tf.engine().startScope();
  try {
    const model = modelOf(tf, layerCase);
    const weights = trainable(model);
    if (weights.length !== layerCase.weights.length) throw new Error(`the model has ${weights.length} weights`);
    const inputs = layerCase.inputs.map(({ data, shape }, index) =>
      tf.variable(tf.tensor(data, shape, layerCase.dtypes?.[index] ?? 'float32')),
    );
    const upstream = tf.tensor(layerCase.upstream.data, layerCase.upstream.shape);
    const forward = (): Tensor => model.apply(inputs, { training: layerCase.training }) as Tensor;
    let output: Tensor | undefined;
    const wanted = [...inputs.filter((_, index) => layerCase.inputGrads[index] !== null), ...weights];
    const { grads } = tf.variableGrads(() => {
      const y = forward();
      output = tf.keep(y.clone());
      return tf.sum(tf.mul(y, upstream));
    }, wanted);
    const inference = forward();
    const values = (x: Tensor | undefined): Values => {
      if (x === undefined || x === null) throw new Error('no gradient');
      return { shape: x.shape, data: Array.from(x.dataSync()) };
    };
    const gradient = (variable: Variable): Values => values(grads[variable.name]);
    const result: Result = {
      output: values(output),
      inference: values(inference),
      inputGrads: inputs.map((variable, index) => (layerCase.inputGrads[index] === null ? null : gradient(variable))),
      weightGrads: weights.map(gradient),
    };
    output?.dispose();
    inputs.forEach((variable) => variable.dispose());
    model.dispose();
    return result;
  } finally {
    tf.engine().endScope();
  }
}

/** Largest |actual - expected| / (1 + |expected|), or a reason why the two cannot be compared. */
export function difference(actual: Values, expected: Values): number | string {
  if (actual.shape.join() !== expected.shape.join()) return `shape [${actual.shape}] instead of [${expected.shape}]`;
  let worst = 0;
  expected.data.forEach((value, index) => {
    const error = Math.abs((actual.data[index] as number) - value) / (1 + Math.abs(value));
    if (!(error <= worst)) worst = error;
  });
  return worst;
}
