import type { ModelDescription } from '../layout/model-description.ts';
import type { Activation } from './activation.ts';
import type { GraphNode, Json, ModelGraph } from './graph.ts';

/** How a layer treats the channels, the positions of the last axis, of what it takes. */
export type LayerRule =
  /** New channels, each a weighted sum of all of the input's: dense and convolution. */
  | {
      readonly kind: 'weighted';
      readonly kernel: string;
      readonly inputAxis: number;
      readonly outputAxis: number;
      readonly bias: string | null;
      readonly activation: Activation;
      /** True where some outputs see padding, or not all taps, instead of the input. */
      readonly isPadded: boolean;
      /** Key of the config that holds the number of output channels. */
      readonly sizeKey: 'units' | 'filters';
    }
  /** Channel c becomes channels c * multiplier .. + multiplier - 1; the kernel is [..., in, multiplier]. */
  | {
      readonly kind: 'depthwise';
      readonly kernel: string;
      readonly axis: number;
      readonly multiplier: number;
      readonly bias: string | null;
      readonly activation: Activation;
      readonly isPadded: boolean;
    }
  /** A depthwise step without bias, then a weighted one over its channels. */
  | {
      readonly kind: 'separable';
      readonly depthwise: string;
      readonly pointwise: string;
      readonly axis: number;
      readonly multiplier: number;
      readonly bias: string | null;
      readonly activation: Activation;
      readonly isPadded: boolean;
    }
  | {
      readonly kind: 'normalization';
      readonly gamma: string | null;
      readonly beta: string | null;
      readonly mean: string;
      readonly variance: string;
      readonly epsilon: number;
    }
  /** alpha is [..., channels]. */
  | { readonly kind: 'prelu'; readonly alpha: string; readonly axis: number }
  | { readonly kind: 'activation'; readonly activation: Activation }
  /** A channel of one value everywhere keeps it: pooling, cropping, dropout when it is off. */
  | { readonly kind: 'keep' }
  /** As `keep`, with zeros put around. */
  | { readonly kind: 'zeroPadding' }
  | { readonly kind: 'reshape' }
  | { readonly kind: 'merge'; readonly operation: 'Add' | 'Average' | 'Maximum' | 'Minimum' | 'Multiply' }
  | { readonly kind: 'concatenate' }
  /** Not known, or known to mix channels. */
  | { readonly kind: 'opaque'; readonly why: string };

const KEEP = new Set([
  'Dropout',
  'SpatialDropout1D',
  'GaussianNoise',
  'GaussianDropout',
  'AlphaDropout',
  'MaxPooling1D',
  'MaxPooling2D',
  'MaxPooling3D',
  'AveragePooling1D',
  'AveragePooling2D',
  'AveragePooling3D',
  'GlobalAveragePooling1D',
  'GlobalAveragePooling2D',
  'GlobalMaxPooling1D',
  'GlobalMaxPooling2D',
  'Cropping2D',
  'UpSampling2D',
  'RepeatVector',
]);

/** Spatial axes of the convolutions. */
const CONVOLUTIONS: Readonly<Record<string, number>> = {
  Conv1D: 1,
  Conv2D: 2,
  Conv3D: 3,
  Conv2DTranspose: 2,
  Conv3DTranspose: 3,
};

/** The rule of a layer; layers without one are refused by name. */
export function ruleOf({ layer, inputs }: GraphNode, graph: ModelGraph, description: ModelDescription): LayerRule {
  const { name, className, config } = layer;
  const called = `layer ${name} (${className})`;
  const opaque = (why: string): LayerRule => ({ kind: 'opaque', why: `${called} ${why}` });
  const rule = readRule(className, config, weightsOf(name, description), graph.shapes[inputs[0]!]?.length ?? null);
  if (rule === null) return opaque('is not one whose couplings are known');
  if (rule === 'missing') return opaque('has weights that the run does not train');
  if (rule === 'channelsFirst') return opaque('does not have its channels in the last axis');
  const keepsShape = rule.kind === 'activation' || rule.kind === 'merge' || rule.kind === 'concatenate';
  if (layer.calls > 1 && !keepsShape) return opaque(`is shared: the model uses it ${layer.calls} times`);
  if (!layer.hasOwnName) return opaque('has a name that something else in the model has too');
  return rule;
}

interface Weights {
  /** Full name of a layer's weight. */
  readonly name: (weight: string) => string;
  /** Its shape, where it is trained or written by training. */
  readonly find: (weight: string) => readonly number[] | undefined;
}

function weightsOf(layer: string, { parameters, states }: ModelDescription): Weights {
  const name = (weight: string): string => `${layer}/${weight}`;
  const find: Weights['find'] = (weight) =>
    [...parameters, ...states].find((each) => each.name === name(weight))?.shape;
  return { name, find };
}

function readRule(
  className: string,
  config: Json,
  { name, find }: Weights,
  inputRank: number | null,
): LayerRule | null | 'missing' | 'channelsFirst' {
  if (config['data_format'] === 'channels_first' || config['data_format'] === 'channelsFirst') return 'channelsFirst';
  const needs = (...weights: (string | false)[]): boolean =>
    weights.every((weight) => weight === false || find(weight) !== undefined);
  const hasBias = config['use_bias'] !== false;
  const bias = hasBias ? name('bias') : null;
  const { activation: named = 'linear' } = config;
  const activation: Activation = { name: typeof named === 'string' ? named : 'custom' };
  const kernelSize = [config['kernel_size'] ?? 1].flat() as number[];
  const isPadded = config['padding'] !== 'valid' && kernelSize.some((size) => size > 1);
  const spatial = CONVOLUTIONS[className];
  if (className === 'Dense') {
    if (!needs('kernel', hasBias && 'bias')) return 'missing';
    const axes = { inputAxis: 0, outputAxis: 1, isPadded: false, sizeKey: 'units' } as const;
    return { kind: 'weighted', kernel: name('kernel'), bias, activation, ...axes };
  }
  if (spatial !== undefined) {
    if (!needs('kernel', hasBias && 'bias')) return 'missing';
    const isTransposed = className.endsWith('Transpose');
    return {
      kind: 'weighted',
      kernel: name('kernel'),
      // Transposed kernels are [..., out, in], and their borders see fewer taps whatever the padding.
      inputAxis: isTransposed ? spatial + 1 : spatial,
      outputAxis: isTransposed ? spatial : spatial + 1,
      bias,
      activation,
      isPadded: isTransposed || isPadded,
      sizeKey: 'filters',
    };
  }
  // From the kernel: topologies of older checkpoints lack it for SeparableConv2D.
  const multiplier = find('depthwise_kernel')?.[3] ?? 1;
  switch (className) {
    case 'DepthwiseConv2D':
      if (!needs('depthwise_kernel', hasBias && 'bias')) return 'missing';
      return { kind: 'depthwise', kernel: name('depthwise_kernel'), axis: 2, multiplier, bias, activation, isPadded };
    case 'SeparableConv2D':
      if (!needs('depthwise_kernel', 'pointwise_kernel', hasBias && 'bias')) return 'missing';
      return {
        kind: 'separable',
        depthwise: name('depthwise_kernel'),
        pointwise: name('pointwise_kernel'),
        axis: 2,
        multiplier,
        bias,
        activation,
        isPadded,
      };
    case 'BatchNormalization': {
      const [scale, center] = [config['scale'] !== false, config['center'] !== false];
      if (!needs('moving_mean', 'moving_variance', scale && 'gamma', center && 'beta')) return 'missing';
      if (!isLastAxis(config, inputRank)) return 'channelsFirst';
      return {
        kind: 'normalization',
        gamma: scale ? name('gamma') : null,
        beta: center ? name('beta') : null,
        mean: name('moving_mean'),
        variance: name('moving_variance'),
        epsilon: Number(config['epsilon'] ?? 1e-3),
      };
    }
    case 'PReLU': {
      const shape = find('alpha');
      return shape === undefined ? 'missing' : { kind: 'prelu', alpha: name('alpha'), axis: shape.length - 1 };
    }
    case 'Activation':
      return { kind: 'activation', activation };
    case 'ReLU': {
      const bound = config['max_value'];
      return {
        kind: 'activation',
        activation: { name: 'ReLU', ...(typeof bound === 'number' ? { parameter: bound } : {}) },
      };
    }
    case 'LeakyReLU':
      return { kind: 'activation', activation: { name: className, parameter: Number(config['alpha'] ?? 0.3) } };
    case 'ELU':
      return { kind: 'activation', activation: { name: className, parameter: Number(config['alpha'] ?? 1) } };
    case 'ThresholdedReLU':
      return { kind: 'activation', activation: { name: className, parameter: Number(config['theta'] ?? 1) } };
    case 'Softmax':
      return { kind: 'activation', activation: { name: 'softmax' } };
    case 'Flatten':
    case 'Reshape':
      return { kind: 'reshape' };
    case 'ZeroPadding2D':
      return { kind: 'zeroPadding' };
    case 'Add':
    case 'Average':
    case 'Maximum':
    case 'Minimum':
    case 'Multiply':
      return { kind: 'merge', operation: className };
    case 'Concatenate':
      return isLastAxis(config, inputRank) ? { kind: 'concatenate' } : 'channelsFirst';
    default:
      return KEEP.has(className) ? { kind: 'keep' } : null;
  }
}

/** `axis` counts the batch; `rank` does not. */
function isLastAxis({ axis }: Json, rank: number | null): boolean {
  return axis === undefined || axis === null || axis === -1 || (rank !== null && axis === rank);
}
