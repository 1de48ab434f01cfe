/** Models that the tests of couplings and of shrinking share. */
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import type { LayersModel, SymbolicTensor } from '@tensorflow/tfjs-layers';
import type { ModelDescription } from '../../../shared/layout/model-description.ts';
import { describeModel } from '../../../worker/model/describe-model.ts';

const { layers } = tfl;
type Apply = { apply(inputs: SymbolicTensor | SymbolicTensor[]): unknown };
const on = (layer: Apply, ...inputs: SymbolicTensor[]): SymbolicTensor =>
  layer.apply(inputs.length === 1 ? inputs[0]! : inputs) as SymbolicTensor;

/** Doubles its input; no layer that Whittle knows. */
class Twice extends layers.Layer {
  static className = 'Twice';
  override call(inputs: tf.Tensor | tf.Tensor[]): tf.Tensor {
    return tf.mul(Array.isArray(inputs) ? inputs[0]! : inputs, 2);
  }
  override computeOutputShape(shape: tfl.Shape): tfl.Shape {
    return shape;
  }
}
tf.serialization.registerClass(Twice);

export const MODELS = {
  dense: () =>
    tfl.sequential({
      layers: [
        layers.dense({ units: 4, activation: 'relu', inputShape: [3] }),
        layers.dropout({ rate: 0.5 }),
        layers.dense({ units: 3, activation: 'sigmoid' }),
        layers.dense({ units: 2 }),
      ],
    }),
  /** Input shapes on all layers, as the built-in models have them. */
  convolution: () =>
    tfl.sequential({
      layers: [
        layers.conv2d({ filters: 4, kernelSize: 3, activation: 'relu', inputShape: [8, 8, 1] }),
        layers.batchNormalization(),
        layers.maxPooling2d({ poolSize: 2 }),
        layers.conv2d({ filters: 3, kernelSize: 2, activation: 'tanh', inputShape: [3, 3, 4] }),
        layers.flatten(),
        layers.dense({ units: 5, activation: 'softplus', inputShape: [12] }),
        layers.dense({ units: 2 }),
      ],
    }),
  depthwise: () =>
    tfl.sequential({
      layers: [
        layers.conv2d({ filters: 3, kernelSize: 1, activation: 'relu', inputShape: [6, 6, 2] }),
        layers.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, activation: 'relu' }),
        layers.batchNormalization(),
        layers.separableConv2d({ filters: 4, kernelSize: 2, depthMultiplier: 2, activation: 'sigmoid' }),
        layers.globalAveragePooling2d({}),
        layers.dense({ units: 2 }),
      ],
    }),
  /** Two residual blocks, one of which adds to the other's units, then both kinds of units side by side. */
  residual: () => {
    const input = tfl.input({ shape: [6, 6, 2] });
    const a = on(layers.conv2d({ filters: 3, kernelSize: 3, padding: 'same', activation: 'relu' }), input);
    const b = on(layers.conv2d({ filters: 3, kernelSize: 3, padding: 'same', name: 'branch' }), a);
    const sum = on(layers.add(), a, on(layers.batchNormalization(), b));
    const c = on(layers.conv2d({ filters: 4, kernelSize: 3, padding: 'same', activation: 'relu' }), sum);
    const both = on(layers.concatenate(), sum, c);
    const flat = on(layers.flatten(), on(layers.averagePooling2d({ poolSize: 2 }), both));
    return tfl.model({ inputs: input, outputs: on(layers.dense({ units: 2 }), flat) });
  },
  /** A Sequential within a functional model within a Sequential. */
  nested: () => {
    const inside = tfl.sequential({ layers: [layers.dense({ units: 3, activation: 'relu', inputShape: [4] })] });
    const input = tfl.input({ shape: [5] });
    const hidden = on(layers.dense({ units: 4, activation: 'tanh' }), input);
    const block = tfl.model({ inputs: input, outputs: on(layers.dense({ units: 4 }), on(inside, hidden)) });
    return tfl.sequential({
      layers: [layers.dense({ units: 5, inputShape: [3], activation: 'elu' }), block, layers.dense({ units: 2 })],
    });
  },
  sequence: () =>
    tfl.sequential({
      layers: [
        layers.conv1d({ filters: 4, kernelSize: 3, activation: 'swish', inputShape: [8, 2] }),
        layers.maxPooling1d({ poolSize: 2 }),
        layers.reshape({ targetShape: [12] }),
        layers.reshape({ targetShape: [3, 4] }),
        layers.prelu({ sharedAxes: [1] }),
        layers.dense({ units: 3, activation: 'gelu' }),
        layers.globalMaxPooling1d(),
        layers.dense({ units: 2 }),
      ],
    }),
  /** The second layer is used twice, the third is not known, and softmax mixes the fifth. */
  odd: () => {
    const input = tfl.input({ shape: [3] });
    const first = on(layers.dense({ units: 4 }), input);
    const shared = layers.dense({ units: 4, name: 'twin' });
    const twice = on(shared, on(shared, first));
    const custom = on(new Twice({ name: 'doubled' }), on(layers.dense({ units: 4, name: 'before' }), twice));
    const mixed = on(layers.dense({ units: 4, activation: 'softmax', name: 'mixed' }), custom);
    const last = on(layers.dense({ units: 4, name: 'free' }), mixed);
    return tfl.model({ inputs: input, outputs: on(layers.dense({ units: 2 }), last) });
  },
} as const satisfies Record<string, () => LayersModel>;

export function descriptionOf(model: LayersModel): ModelDescription {
  return describeModel(model, { trainExamples: 1, testExamples: 1, notes: [] });
}
