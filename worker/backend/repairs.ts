/**
 * Layers that TensorFlow.js computes but cannot train as they are: their forward pass is replaced on the
 * instance, so that class, weights and configuration, and thus exported models, stay what they were.
 */
import type { Tensor, Tensor4D } from '@tensorflow/tfjs-core';
import type { LayerView } from '../model/layer-tree.ts';
import { tf } from './tf.ts';

type Weight = { read(): Tensor };
type Call = (inputs: Tensor | Tensor[], kwargs: Record<string, unknown>) => Tensor;

/** Members of the layers below that their type declarations keep private. */
interface Repairable {
  call: Call;
  readonly axis: number | number[];
  readonly center: boolean;
  readonly scale: boolean;
  gamma?: Weight | null;
  beta?: Weight | null;
  readonly rank: number;
  readonly kernel: Weight;
  readonly bias?: Weight | null;
  readonly strides: [number, number];
  readonly padding: 'same' | 'valid';
  readonly dilationRate: [number, number] | number;
  readonly dataFormat: 'channelsFirst' | 'channelsLast';
  readonly activation?: { apply(x: Tensor): Tensor; getClassName(): string } | null;
  readonly inputSpec?: { readonly axes?: Record<string, number> }[];
}

const repaired = new WeakSet<LayerView>();

/** Repairs one built layer in place; layers that need nothing stay as they are. Harmless when repeated. */
export function repairLayer(view: LayerView): void {
  if (repaired.has(view)) return;
  repaired.add(view);
  const layer = view as unknown as Repairable;
  switch (view.getClassName()) {
    case 'BatchNormalization':
      repairBatchNormalization(layer);
      break;
    case 'LayerNormalization':
      repairLayerNormalization(layer, view);
      break;
    case 'Conv2D':
      if (isDilated(view) || layer.activation?.getClassName() === 'linear') repairConvolution(layer);
      break;
  }
}

export function isDilated(view: LayerView): boolean {
  const { dilationRate } = view as unknown as { dilationRate?: number | number[] };
  return dilationRate !== undefined && [dilationRate].flat().some((rate) => rate !== 1);
}

/** Without `center` or `scale` it fails in training, as it reads the weight that it does not have. */
function repairBatchNormalization(layer: Repairable): void {
  const size = (): number => Object.values(layer.inputSpec?.[0]?.axes ?? {})[0] as number;
  if (!layer.scale) layer.gamma = { read: () => tf.ones([size()]) };
  if (!layer.center) layer.beta = { read: () => tf.zeros([size()]) };
}

/** Without `center` or `scale` its gradient fails, as core takes no missing operand. */
function repairLayerNormalization(layer: Repairable, view: LayerView): void {
  if (layer.scale && layer.center) return;
  layer.call = (inputs) =>
    tf.tidy(() => {
      const x = Array.isArray(inputs) ? (inputs[0] as Tensor) : inputs;
      const axes = [layer.axis].flat();
      const { epsilon } = view as unknown as { epsilon: number };
      const shape = x.shape.map((length, axis) => (axes.includes(axis) ? length : 1));
      const { mean, variance } = tf.moments(x, axes, true);
      let y: Tensor = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, epsilon)));
      if (layer.scale && layer.gamma) y = tf.mul(y, tf.reshape(layer.gamma.read(), shape));
      if (layer.center && layer.beta) y = tf.add(y, tf.reshape(layer.beta.read(), shape));
      return y;
    });
}

/**
 * The fused convolution of core, which TensorFlow.js trains layers without activation with, refuses the gradient
 * of dilated windows and computes that of its input even where nothing wants it. The plain one does neither.
 */
function repairConvolution(layer: Repairable): void {
  layer.call = (inputs) =>
    tf.tidy(() => {
      const first = layer.dataFormat === 'channelsFirst';
      let x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor4D;
      if (first) x = tf.transpose(x, [0, 2, 3, 1]);
      const kernel = layer.kernel.read() as Tensor4D;
      let y: Tensor = tf.conv2d(x, kernel, layer.strides, layer.padding, 'NHWC', layer.dilationRate);
      if (layer.bias) y = tf.add(y, layer.bias.read());
      if (first) y = tf.transpose(y, [0, 3, 1, 2]);
      return layer.activation ? layer.activation.apply(y) : y;
    });
}
