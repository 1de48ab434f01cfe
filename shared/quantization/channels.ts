import type { ParameterSpec } from '../layout/model-description.ts';

/** Which scale an element has: element `i` of the row-major values is of channel `floor(i / inner) mod count`. */
export interface Channels {
  readonly count: number;
  /** Neighbours in memory that share a channel. */
  readonly inner: number;
}

/** One scale for the whole tensor. */
export function wholeTensor(size: number): Channels {
  return { count: 1, inner: size };
}

/** A scale for each index along `axis`, counted from 0. */
export function channelsAlong(shape: readonly number[], axis: number): Channels {
  return { count: shape[axis] ?? 1, inner: sizeOf(shape.slice(axis + 1)) };
}

/**
 * The output channels of a kernel as TensorFlow.js lays it out: the last axis, but [.., out, in] for transposed
 * convolutions and [.., in, multiplier] together for depthwise kernels. Vectors have one scale: with one an element
 * nothing would be quantized.
 */
export function outputChannels({ name, shape, layerKind }: ParameterSpec): Channels {
  const rank = shape.length;
  if (rank < 2) return wholeTensor(sizeOf(shape));
  if (layerKind.endsWith('Transpose')) return channelsAlong(shape, rank - 2);
  if (name.endsWith('/depthwise_kernel')) return { count: sizeOf(shape.slice(-2)), inner: 1 };
  return channelsAlong(shape, rank - 1);
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}
