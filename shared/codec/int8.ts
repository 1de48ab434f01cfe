import { uint32At } from '../kernels/random.ts';
import { maxAbs } from '../quantization/max-abs.ts';
import { roundHalfEven } from '../quantization/round.ts';
import type { Codec } from './format.ts';

const LARGEST = 127;
const HEADER_BYTES = 4;

/**
 * Whole numbers -127 .. 127 times one scale, which stands in front as a float32. Symmetric, so that 0 stays
 * exactly 0. Where any value is NaN or infinite all of them come back as NaN, so that the receiver notices.
 */
export const int8: Codec = {
  bytesFor: (count) => HEADER_BYTES + count,

  encode(values, { rounding, scale = scaleOf(values) }) {
    const bytes = new Uint8Array(HEADER_BYTES + values.length);
    new DataView(bytes.buffer).setFloat32(0, scale, true);
    const out = new Int8Array(bytes.buffer, HEADER_BYTES);
    if (!(scale > 0)) return bytes;
    for (let i = 0; i < out.length; i++) {
      const exact = Math.min(LARGEST, Math.max(-LARGEST, (values[i] as number) / scale));
      out[i] =
        rounding === undefined
          ? roundHalfEven(exact)
          : Math.floor(exact + uint32At(rounding.key, rounding.first + i) / 0x100000000);
    }
    return bytes;
  },

  decode(bytes, count) {
    const scale = new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
    const whole = new Int8Array(bytes.buffer, bytes.byteOffset + HEADER_BYTES, count);
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = (whole[i] as number) * scale;
    return values;
  },
};

/** The scale max|x| / 127 in float32; 0 for zeros alone, NaN where a value is NaN or infinite. */
export function scaleOf(values: Float32Array): number {
  return Math.fround(maxAbs(values) / LARGEST);
}
