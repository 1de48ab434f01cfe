/**
 * Convolution and pooling. ONNX has channels first, [batch, channels, ...space]; TensorFlow.js as a rule has them
 * last. Inputs are transposed before and outputs after; the graph cancels what meets.
 */
import { applyActivation } from './elementwise.ts';
import type { Attributes, Graph, ValueName } from './graph.ts';
import { refuse, requireWeight, weightOf, type LayerConverter, type LayerUse } from './layer.ts';

/** Conv1D, Conv2D, Conv3D: kernels [...space, in, out] become [out, in, ...space]. */
export const convolution: LayerConverter = (graph, layer) => {
  const space = spaceOf(layer);
  const kernel = requireWeight(layer, 'kernel');
  const axes = Array.from({ length: space.length }, (_, k) => k);
  const stored = graph.weight(kernel, [space.length + 1, space.length, ...axes]);
  return convolve(graph, layer, stored, kernel.shape.slice(0, -2) as number[], { group: 1 });
};

/** DepthwiseConv2D: kernels [height, width, in, multiplier] become [in x multiplier, 1, height, width]. */
export const depthwise: LayerConverter = (graph, layer) => {
  const kernel = requireWeight(layer, 'depthwise_kernel');
  const [height = 0, width = 0, channels = 0, multiplier = 0] = kernel.shape as number[];
  const stored = graph.weight(kernel, [2, 3, 0, 1], [channels * multiplier, 1, height, width]);
  return convolve(graph, layer, stored, [height, width], { group: channels });
};

function convolve(
  graph: Graph,
  layer: LayerUse,
  kernel: ValueName,
  sizes: readonly number[],
  attributes: Attributes,
): ValueName {
  const dilations = listOf(layer.config['dilationRate'] ?? 1, sizes.length);
  const input = channelsFirst(graph, layer);
  const bias = weightOf(layer, 'bias');
  const inputs = bias === null ? [input, kernel] : [input, kernel, graph.weight(bias)];
  const output = graph.node('Conv', inputs, { ...windows(layer, sizes, dilations), ...attributes, dilations });
  return applyActivation(graph, layer, output, (value) => backFrom(graph, layer, value));
}

/** MaxPooling1D and so on. Averages leave padding out, as TensorFlow.js's do. */
export const pooling =
  (opType: 'MaxPool' | 'AveragePool'): LayerConverter =>
  (graph, layer) => {
    const rank = spaceOf(layer).length;
    const sizes = listOf(layer.config['poolSize'], rank);
    const attributes = opType === 'AveragePool' ? { count_include_pad: 0 } : {};
    const ones = sizes.map(() => 1);
    const input = channelsFirst(graph, layer);
    return backFrom(graph, layer, graph.node(opType, [input], { ...windows(layer, sizes, ones), ...attributes }));
  };

/** GlobalMaxPooling1D and so on, without a Transpose. */
export const globalPooling =
  (opType: 'ReduceMean' | 'ReduceMax'): LayerConverter =>
  (graph, layer) => {
    const [input] = layer.inputs;
    const first = isChannelsFirst(layer) ? 2 : 1;
    const axes = Array.from({ length: input.shape.length - 2 }, (_, k) => first + k);
    return graph.node(opType, [input.name], { axes, keepdims: 0 });
  };

/** kernel_shape, strides and padding. */
function windows(layer: LayerUse, sizes: readonly number[], dilations: readonly number[]): Attributes {
  const { padding } = layer.config;
  const strides = listOf(layer.config['strides'] ?? sizes, sizes.length);
  const base = { kernel_shape: sizes, strides };
  if (padding === 'valid') return { ...base, auto_pad: 'VALID' };
  if (padding !== 'same') throw refuse(layer, `padding ${JSON.stringify(padding)} is not known there`);
  const begins: number[] = [];
  const ends: number[] = [];
  for (const [k, length] of spaceOf(layer).entries()) {
    // Left to ONNX where sizes are known at run time only; its rule is the same.
    if (length === null) return { ...base, auto_pad: 'SAME_UPPER' };
    const stride = strides[k] as number;
    const extent = ((sizes[k] as number) - 1) * (dilations[k] as number) + 1;
    const total = Math.max(0, (Math.ceil(length / stride) - 1) * stride + extent - length);
    begins.push(Math.floor(total / 2));
    ends.push(Math.ceil(total / 2));
  }
  return { ...base, pads: [...begins, ...ends] };
}

function isChannelsFirst({ config }: LayerUse): boolean {
  return config['dataFormat'] === 'channelsFirst';
}

/** The input's shape without batch and channels. */
function spaceOf(layer: LayerUse): readonly (number | null)[] {
  const { shape } = layer.inputs[0];
  return isChannelsFirst(layer) ? shape.slice(2) : shape.slice(1, -1);
}

function channelsFirst(graph: Graph, layer: LayerUse): ValueName {
  const [{ name, shape }] = layer.inputs;
  const last = shape.length - 1;
  if (isChannelsFirst(layer)) return name;
  return graph.transpose(name, [0, last, ...shape.slice(2).map((_, k) => k + 1)]);
}

function backFrom(graph: Graph, layer: LayerUse, value: ValueName): ValueName {
  if (isChannelsFirst(layer)) return value;
  return graph.transpose(value, [0, ...layer.inputs[0].shape.slice(2).map((_, k) => k + 2), 1]);
}

/** A number for every axis, or a list. */
function listOf(value: unknown, length: number): number[] {
  return Array.isArray(value) ? (value as number[]) : Array.from({ length }, () => value as number);
}
