import { outputChannels, wholeTensor } from './channels.ts';
import type { Channels } from './channels.ts';
import { fakeQuantizePerChannel } from './fake-quantize.ts';
import type { Limits } from './fake-quantize.ts';
import type { ParameterSpec } from '../layout/model-description.ts';

export type Bits = 8 | 4;

/** How weights become whole numbers. */
export interface WeightPrecision {
  readonly bits: Bits;
  /** A scale for each output channel, or one for the tensor. */
  readonly perChannel: boolean;
}

/** Narrow range, as TensorFlow Lite has it: -127 .. 127 or -7 .. 7, so that x and -x are equally exact. */
export function symmetricLimits(bits: Bits): Limits {
  const quantMax = bits === 8 ? 127 : 7;
  return { quantMin: -quantMax, quantMax };
}

/** max|x| / 127 (or 7) of each channel in float32; 0 for zeros alone, NaN where a value is NaN or infinite. */
export function symmetricScales(values: Float32Array, { count, inner }: Channels, bits: Bits): Float32Array {
  const largest = new Float64Array(count);
  for (let i = 0; i < values.length;) {
    for (let channel = 0; channel < count; channel++) {
      let most = largest[channel] as number;
      for (const end = i + inner; i < end; i++) {
        const size = Math.abs(values[i] as number);
        // Written so that NaN, once met, stays.
        if (!(size <= most)) most = size < Infinity && most >= 0 ? size : NaN;
      }
      largest[channel] = most;
    }
  }
  return Float32Array.from(largest, (size) => size / symmetricLimits(bits).quantMax);
}

/** The channels that share a scale. */
export function channelsOf(parameter: ParameterSpec, { perChannel }: WeightPrecision): Channels {
  return perChannel ? outputChannels(parameter) : wholeTensor(parameter.shape.reduce((a, b) => a * b, 1));
}

/**
 * Symmetric fake quantization of a parameter's values (Jacob et al. 2018, "Quantization and Training of Neural
 * Networks for Efficient Integer-Arithmetic-Only Inference"). Zeros stay +0.
 */
export function fakeQuantizeWeights(
  values: Float32Array,
  parameter: ParameterSpec,
  precision: WeightPrecision,
): Float32Array {
  const channels = channelsOf(parameter, precision);
  const scales = symmetricScales(values, channels, precision.bits);
  return fakeQuantizePerChannel(values, channels, scales, symmetricLimits(precision.bits));
}
