/** What every built-in model is: a function of the data's shape. */
import type { LayersModel } from '@tensorflow/tfjs-layers';
import type { Tf } from '../../backend/tf.ts';
import type { ModelLayer } from '../tf-types.ts';

export interface DataShape {
  /** Shape of one example, such as [28, 28, 1] or [784]. */
  readonly inputShape: readonly number[];
  /** Number of classes. */
  readonly classes: number;
}

/** Returns a model that ends in logits. Its weights are drawn from Math.random, which the caller seeds. */
export type BuiltIn = (tf: Tf, shape: DataShape) => LayersModel;

/**
 * PyTorch's default for dense and convolution layers: kernel and bias uniform in +-1/sqrt(fan in), which is
 * He et al. (2015) with a = sqrt(5). No logarithm is drawn, so the bits are the same in every Node version.
 */
export function uniformByFanIn(tf: Tf, fanIn: number) {
  const bound = 1 / Math.sqrt(fanIn);
  const draw = (): ReturnType<Tf['initializers']['randomUniform']> =>
    tf.initializers.randomUniform({ minval: -bound, maxval: bound });
  return { kernelInitializer: draw(), biasInitializer: draw() };
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The layers that turn an example of any shape into a vector: none for a vector. */
export function flattened(tf: Tf, inputShape: readonly number[]): ModelLayer[] {
  return inputShape.length === 1 ? [] : [tf.layers.flatten({ inputShape: [...inputShape] })];
}

export function dense(tf: Tf, inputs: number, units: number, activation: 'relu' | 'linear'): ModelLayer {
  return tf.layers.dense({ units, activation, inputShape: [inputs], ...uniformByFanIn(tf, inputs) });
}
