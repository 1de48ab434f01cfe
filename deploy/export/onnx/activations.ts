import type { Attributes, Graph, ValueName } from './graph.ts';

type Activation = (graph: Graph, input: ValueName) => ValueName;

const unary =
  (opType: string, attributes: Attributes = {}): Activation =>
  (graph, input) =>
    graph.node(opType, [input], attributes);

/** TensorFlow.js's activations by name. Those of `ALONG_AXIS` work on the last axis, others on each element. */
export const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  linear: (_, input) => input,
  relu: unary('Relu'),
  relu6: (graph, input) => clip(graph, input, 6),
  sigmoid: unary('Sigmoid'),
  tanh: unary('Tanh'),
  elu: unary('Elu'),
  selu: unary('Selu'),
  softplus: unary('Softplus'),
  softsign: unary('Softsign'),
  hardSigmoid: unary('HardSigmoid', { alpha: { float: 0.2 }, beta: { float: 0.5 } }),
  swish: (graph, input) => graph.node('Mul', [input, graph.node('Sigmoid', [input])]),
  mish: (graph, input) => graph.node('Mul', [input, graph.node('Tanh', [graph.node('Softplus', [input])])]),
  softmax: unary('Softmax', { axis: -1 }),
  logSoftmax: unary('LogSoftmax', { axis: -1 }),
};

export const ALONG_AXIS: ReadonlySet<string> = new Set(['softmax', 'logSoftmax']);

/** min(max(x, 0), most) */
export function clip(graph: Graph, input: ValueName, most: number): ValueName {
  return graph.node('Clip', [input, graph.floats(0), graph.floats(most)]);
}
