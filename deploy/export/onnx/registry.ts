import { activation, batchNormalization, dense, identity, relu, softmax, withAlpha } from './elementwise.ts';
import type { LayerConverter } from './layer.ts';
import { add, concatenate, flatten, reshape } from './shapes.ts';
import { convolution, depthwise, globalPooling, pooling } from './spatial.ts';

/** What can be exported, by TensorFlow.js class name. */
export const CONVERTERS: Readonly<Record<string, LayerConverter>> = {
  Activation: activation,
  Add: add,
  AlphaDropout: identity,
  AveragePooling1D: pooling('AveragePool'),
  AveragePooling2D: pooling('AveragePool'),
  BatchNormalization: batchNormalization,
  Concatenate: concatenate,
  Conv1D: convolution,
  Conv2D: convolution,
  Dense: dense,
  DepthwiseConv2D: depthwise,
  Dropout: identity,
  ELU: withAlpha('Elu', 'alpha'),
  Flatten: flatten,
  GaussianDropout: identity,
  GaussianNoise: identity,
  GlobalAveragePooling1D: globalPooling('ReduceMean'),
  GlobalAveragePooling2D: globalPooling('ReduceMean'),
  GlobalMaxPooling1D: globalPooling('ReduceMax'),
  GlobalMaxPooling2D: globalPooling('ReduceMax'),
  LeakyReLU: withAlpha('LeakyRelu', 'alpha'),
  MaxPooling1D: pooling('MaxPool'),
  MaxPooling2D: pooling('MaxPool'),
  ReLU: relu,
  Reshape: reshape,
  Softmax: softmax,
  SpatialDropout1D: identity,
  ThresholdedReLU: withAlpha('ThresholdedRelu', 'theta'),
};
