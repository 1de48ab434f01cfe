import type { ParameterSpec } from '../../layout/model-description.ts';
import { type Granularity, numElements, tell } from './granularity.ts';

/** Units are the outputs of a kernel: its last axis. */
function outputs(name: 'neuron' | 'filter', refuse: (parameter: ParameterSpec) => string | null): Granularity {
  return {
    name,
    numUnits: (shape) => shape.at(-1) ?? 1,
    unitOf(shape) {
      const columns = shape.at(-1) ?? 1;
      return Uint32Array.from({ length: numElements(shape) }, (_, i) => i % columns);
    },
    refuse,
  };
}

/** Neurons of dense layers: the weights into each, and what is coupled to it. */
export const neuron = outputs('neuron', (parameter) => {
  if (isDense(parameter)) return null;
  return isConvolution(parameter)
    ? `${tell(parameter)} is of a convolution, which has filters and no neurons; write granularity: {filter: {norm: 2}}, or leave it out of match`
    : `${tell(parameter)} is no kernel of a dense layer and has no neurons; leave it out of match`;
});

/** Filters of convolutions: the weights into each output channel, and what is coupled to it. */
export const filter = outputs('filter', (parameter) => {
  if (isConvolution(parameter)) return null;
  if (isDense(parameter)) {
    return `${tell(parameter)} is of a dense layer, which has neurons and no filters; write granularity: {neuron: {norm: 2}}, or leave it out of match`;
  }
  return parameter.layerKind.endsWith('Transpose')
    ? `${tell(parameter)} is of a ${parameter.layerKind}, whose filters cannot be removed; leave it out of match`
    : `${tell(parameter)} is no kernel of a convolution and has no filters; leave it out of match`;
});

function isDense({ layerKind, name }: ParameterSpec): boolean {
  return layerKind === 'Dense' && name.endsWith('/kernel');
}

/** A depthwise kernel makes no filters of its own: its slices belong to those before it. */
function isConvolution({ layerKind, name }: ParameterSpec): boolean {
  if (layerKind === 'SeparableConv2D') return name.endsWith('/pointwise_kernel');
  return /^Conv[123]D$/.test(layerKind) && name.endsWith('/kernel');
}
