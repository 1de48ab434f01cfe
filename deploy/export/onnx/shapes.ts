import { axisOf, refuse, type LayerConverter } from './layer.ts';

export const flatten: LayerConverter = (graph, layer) => {
  const [{ name, shape }] = layer.inputs;
  const isChannelsFirst = layer.config['dataFormat'] === 'channelsFirst' && shape.length > 1;
  const input = isChannelsFirst ? graph.transpose(name, [0, ...shape.slice(2).map((_, k) => k + 2), 1]) : name;
  return graph.node('Reshape', [input, graph.integers([0, -1])]);
};

export const reshape: LayerConverter = (graph, layer) => {
  // 0: as the input has it, which is the batch.
  const sizes = layer.outputShape.slice(1).map((size) => size ?? -1);
  if (sizes.filter((size) => size < 0).length > 1) throw refuse(layer, 'more than one size is not fixed');
  return graph.node('Reshape', [layer.inputs[0].name, graph.integers([0, ...sizes])]);
};

export const add: LayerConverter = (graph, layer) => {
  const [first, ...rest] = layer.inputs;
  const odd = rest.find(({ shape }) => shape.length !== first.shape.length);
  if (odd !== undefined) throw refuse(layer, 'its inputs have different numbers of axes');
  return rest.reduce((sum, { name }) => graph.node('Add', [sum, name]), first.name);
};

export const concatenate: LayerConverter = (graph, layer) => {
  const names = layer.inputs.map(({ name }) => name);
  return graph.node('Concat', names, { axis: axisOf(layer, layer.inputs[0].shape.length) });
};
