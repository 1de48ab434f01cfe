import { ACTIVATIONS, ALONG_AXIS, clip } from './activations.ts';
import type { Graph, ValueName } from './graph.ts';
import { axisOf, refuse, requireWeight, type LayerConverter, type LayerUse } from './layer.ts';

/**
 * The layer's own activation. One that works on each element comes before `place`, which puts the axes where
 * TensorFlow.js has them, others after it.
 */
export function applyActivation(
  graph: Graph,
  layer: LayerUse,
  input: ValueName,
  place: (value: ValueName) => ValueName = (value) => value,
): ValueName {
  const { activation } = layer.config;
  const name = typeof activation === 'string' ? activation : 'linear';
  const apply = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (apply === undefined)
    throw refuse(layer, `activation ${name} is not among ${Object.keys(ACTIVATIONS).join(', ')}`);
  return ALONG_AXIS.has(name) ? apply(graph, place(input)) : place(apply(graph, input));
}

export const activation: LayerConverter = (graph, layer) => applyActivation(graph, layer, layer.inputs[0].name);

export const relu: LayerConverter = (graph, layer) => {
  const { maxValue } = layer.config;
  const { name } = layer.inputs[0];
  return typeof maxValue === 'number' ? clip(graph, name, maxValue) : graph.node('Relu', [name]);
};

/** LeakyRelu, Elu and ThresholdedRelu take one number. */
export const withAlpha =
  (opType: string, key: string): LayerConverter =>
  (graph, layer) =>
    graph.node(opType, [layer.inputs[0].name], { alpha: { float: layer.config[key] as number } });

export const softmax: LayerConverter = (graph, layer) => {
  const [input] = layer.inputs;
  return graph.node('Softmax', [input.name], { axis: axisOf(layer, input.shape.length) });
};

/** Dropout and noise: what they do outside of training. */
export const identity: LayerConverter = (_, layer) => layer.inputs[0].name;

/** Dense, of any rank: [..., in] x [in, out]. */
export const dense: LayerConverter = (graph, layer) => {
  const product = graph.node('MatMul', [layer.inputs[0].name, graph.weight(requireWeight(layer, 'kernel'))]);
  const sum =
    layer.config['useBias'] === false
      ? product
      : graph.node('Add', [product, graph.weight(requireWeight(layer, 'bias'))]);
  return applyActivation(graph, layer, sum);
};

/** With the moving averages. Its axis goes to the place where ONNX has channels, and back. */
export const batchNormalization: LayerConverter = (graph, layer) => {
  const [input] = layer.inputs;
  const rank = input.shape.length;
  const axis = axisOf(layer, rank);
  const size = input.shape[axis];
  if (typeof size !== 'number') throw refuse(layer, 'the size of its axis is not fixed');
  const others = input.shape.map((_, k) => k).filter((k) => k !== 0 && k !== axis);
  const permutation = [0, axis, ...others];
  const { config } = layer;
  const parameter = (isThere: boolean, suffix: string, absent: number): ValueName =>
    isThere ? graph.weight(requireWeight(layer, suffix)) : graph.floats(new Array<number>(size).fill(absent));
  const output = graph.node(
    'BatchNormalization',
    [
      graph.transpose(input.name, permutation),
      parameter(config['scale'] !== false, 'gamma', 1),
      parameter(config['center'] !== false, 'beta', 0),
      graph.weight(requireWeight(layer, 'moving_mean')),
      graph.weight(requireWeight(layer, 'moving_variance')),
    ],
    { epsilon: { float: config['epsilon'] as number } },
  );
  return graph.transpose(
    output,
    permutation.map((_, k) => permutation.indexOf(k)),
  );
};
