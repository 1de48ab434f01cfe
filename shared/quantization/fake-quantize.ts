import { WhittleError } from '../errors.ts';
import type { Channels } from './channels.ts';
import { roundHalfEven } from './round.ts';

/** The whole numbers there are. */
export interface Limits {
  readonly quantMin: number;
  readonly quantMax: number;
}

/** Affine quantization to whole numbers quantMin .. quantMax: q = round(x / scale) + zeroPoint. */
export interface QuantizeOptions extends Limits {
  readonly scale: number;
  readonly zeroPoint: number;
}

/**
 * Fake quantization of a tensor: the float32 values that the nearest representable whole numbers stand for.
 * Multiplies by the float32 reciprocal of the scale, as torch.fake_quantize_per_tensor_affine does, and rounds
 * halves to even.
 */
export function fakeQuantize(values: Float32Array, options: QuantizeOptions): Float32Array {
  const { zeroPoint, quantMin, quantMax } = options;
  const scale = Math.fround(options.scale);
  const inverse = reciprocal(scale);
  const out = new Float32Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const q = zeroPoint + roundHalfEven(Math.fround((values[i] as number) * inverse));
    out[i] = (Math.min(quantMax, Math.max(quantMin, q)) - zeroPoint) * scale;
  }
  return out;
}

/*
 * Loops over channels: nested, without calls, because a model's weights go through them at every step.
 */

/** The same with a scale a channel and zero point 0: symmetric quantization, torch.fake_quantize_per_channel_affine. */
export function fakeQuantizePerChannel(
  values: Float32Array,
  channels: Channels,
  scales: Float32Array,
  { quantMin, quantMax }: Limits,
): Float32Array {
  const { count, inner } = channels;
  const out = new Float32Array(values.length);
  const inverses = reciprocals(channels, scales);
  for (let i = 0; i < out.length;) {
    for (let channel = 0; channel < count; channel++) {
      const scale = scales[channel] as number;
      const inverse = inverses[channel] as number;
      for (const end = i + inner; i < end; i++) {
        const q = roundHalfEven(Math.fround((values[i] as number) * inverse));
        out[i] = (q < quantMin ? quantMin : q > quantMax ? quantMax : q) * scale;
      }
    }
  }
  return out;
}

/** The whole numbers themselves, at most 8 bits: `fakeQuantizePerChannel` is these times their scales. */
export function quantizePerChannel(
  values: Float32Array,
  channels: Channels,
  scales: Float32Array,
  { quantMin, quantMax }: Limits,
): Int8Array {
  const { count, inner } = channels;
  const out = new Int8Array(values.length);
  const inverses = reciprocals(channels, scales);
  for (let i = 0; i < out.length;) {
    for (let channel = 0; channel < count; channel++) {
      const inverse = inverses[channel] as number;
      for (const end = i + inner; i < end; i++) {
        const q = roundHalfEven(Math.fround((values[i] as number) * inverse));
        out[i] = q < quantMin ? quantMin : q > quantMax ? quantMax : q;
      }
    }
  }
  return out;
}

/** The values that whole numbers stand for. */
export function dequantizePerChannel(whole: Int8Array, { count, inner }: Channels, scales: Float32Array): Float32Array {
  const out = new Float32Array(whole.length);
  for (let i = 0; i < out.length;) {
    for (let channel = 0; channel < count; channel++) {
      const scale = scales[channel] as number;
      for (const end = i + inner; i < end; i++) out[i] = (whole[i] as number) * scale;
    }
  }
  return out;
}

function reciprocals(channels: Channels, scales: Float32Array): Float32Array {
  if (scales.length !== channels.count) {
    throw new WhittleError('INTERNAL', `${scales.length} scales for ${channels.count} channels`);
  }
  return scales.map(reciprocal);
}

/** In float32. Of a scale of 0, or one so small that it has none, 0: every value becomes 0. */
function reciprocal(scale: number): number {
  const inverse = Math.fround(1 / scale);
  return Math.abs(inverse) === Infinity ? 0 : inverse;
}
