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

/** The same with a scale a channel and zero point 0: symmetric quantization, torch.fake_quantize_per_channel_affine. */
export function fakeQuantizePerChannel(
  values: Float32Array,
  channels: Channels,
  scales: Float32Array,
  limits: Limits,
): Float32Array {
  const out = new Float32Array(values.length);
  const inverses = reciprocals(channels, scales);
  forEachRun(values.length, channels, (start, end, channel) => {
    const scale = scales[channel] as number;
    const inverse = inverses[channel] as number;
    for (let i = start; i < end; i++) out[i] = wholeNumber(values[i] as number, inverse, limits) * scale;
  });
  return out;
}

/** The whole numbers themselves, at most 8 bits: `fakeQuantizePerChannel` is these times their scales. */
export function quantizePerChannel(
  values: Float32Array,
  channels: Channels,
  scales: Float32Array,
  limits: Limits,
): Int8Array {
  const out = new Int8Array(values.length);
  const inverses = reciprocals(channels, scales);
  forEachRun(values.length, channels, (start, end, channel) => {
    const inverse = inverses[channel] as number;
    for (let i = start; i < end; i++) out[i] = wholeNumber(values[i] as number, inverse, limits);
  });
  return out;
}

/** The values that whole numbers stand for. */
export function dequantizePerChannel(whole: Int8Array, channels: Channels, scales: Float32Array): Float32Array {
  const out = new Float32Array(whole.length);
  forEachRun(whole.length, channels, (start, end, channel) => {
    const scale = scales[channel] as number;
    for (let i = start; i < end; i++) out[i] = (whole[i] as number) * scale;
  });
  return out;
}

/** Neighbours of one channel, [start, end), in ascending order. */
export function forEachRun(
  size: number,
  { count, inner }: Channels,
  visit: (start: number, end: number, channel: number) => void,
): void {
  let channel = 0;
  for (let start = 0; start < size; start += inner) {
    visit(start, start + inner, channel);
    channel = channel + 1 === count ? 0 : channel + 1;
  }
}

function wholeNumber(value: number, inverse: number, { quantMin, quantMax }: Limits): number {
  return Math.min(quantMax, Math.max(quantMin, roundHalfEven(Math.fround(value * inverse))));
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
