import { WhittleError } from '../errors.ts';

/** Affine quantization to whole numbers quantMin .. quantMax: q = round(x / scale) + zeroPoint. */
export interface QuantizeOptions {
  readonly scale: number;
  readonly zeroPoint: number;
  readonly quantMin: number;
  readonly quantMax: number;
}

/**
 * Fake quantization of a tensor: the float32 values that the nearest representable whole numbers stand for.
 * Multiplies by the float32 reciprocal of the scale, as torch.fake_quantize_per_tensor_affine does, and rounds
 * halves to even.
 */
export function fakeQuantize(values: Float32Array, options: QuantizeOptions): Float32Array {
  const out = new Float32Array(values.length);
  fakeQuantizeRange(values, options, 0, values.length, out);
  return out;
}

/**
 * The same with a scale for each index along `axis` of `shape` (row-major), zero point 0: symmetric
 * quantization by output channel.
 */
export function fakeQuantizePerChannel(
  values: Float32Array,
  shape: readonly number[],
  axis: number,
  scales: readonly number[],
  limits: Pick<QuantizeOptions, 'quantMin' | 'quantMax'>,
): Float32Array {
  const channels = shape[axis];
  if (channels === undefined || channels !== scales.length) {
    throw new WhittleError('INTERNAL', `${scales.length} scales for axis ${axis} of shape [${shape.join(', ')}]`);
  }
  const inner = shape.slice(axis + 1).reduce((product, dimension) => product * dimension, 1);
  const out = new Float32Array(values.length);
  for (let start = 0; start < values.length; start += inner) {
    const scale = scales[(start / inner) % channels] as number;
    fakeQuantizeRange(values, { ...limits, scale, zeroPoint: 0 }, start, start + inner, out);
  }
  return out;
}

function fakeQuantizeRange(
  values: Float32Array,
  options: QuantizeOptions,
  start: number,
  end: number,
  out: Float32Array,
): void {
  const { zeroPoint, quantMin, quantMax } = options;
  const scale = Math.fround(options.scale);
  const inverse = Math.fround(1 / scale);
  for (let i = start; i < end; i++) {
    const q = zeroPoint + roundHalfEven(Math.fround((values[i] as number) * inverse));
    out[i] = (Math.min(quantMax, Math.max(quantMin, q)) - zeroPoint) * scale;
  }
}

/** To the nearest whole number, halves to the even one. */
export function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}
