import { uint32At } from '../kernels/random.ts';
import { bitsOf, bytesOf, halvesOf, type Codec } from './format.ts';

const INFINITY = 0x7f800000;
/** Bits of 65520 and 2^-14: numbers from the first on round to infinity, below the second they are subnormal. */
const OVERFLOW = 0x477ff000;
const SMALLEST_NORMAL = 0x38800000;
/** What the exponent loses between float32 and float16: (127 - 15) << 23. */
const EXPONENT_SHIFT = 0x38000000;
const UNIT = 2 ** 24;

/** IEEE 754 binary16: 11 bits of precision, up to 65504; subnormal below 6e-5, 0 below 3e-8. */
export const float16: Codec = {
  bytesFor: (count) => count * 2,

  encode(values, { rounding }) {
    const bits = bitsOf(values);
    const out = new Uint16Array(bits.length);
    for (let i = 0; i < bits.length; i++) {
      const x = bits[i] as number;
      const size = x & 0x7fffffff;
      const sign = (x >>> 16) & 0x8000;
      if (size >= OVERFLOW) {
        out[i] = sign | (size > INFINITY ? 0x7e00 : 0x7c00);
      } else if (rounding === undefined) {
        out[i] = sign | (size < SMALLEST_NORMAL ? nearestUnits(values[i] as number) : nearestNormal(size));
      } else {
        const drawn = uint32At(rounding.key, rounding.first + i);
        out[i] =
          sign |
          (size < SMALLEST_NORMAL
            ? Math.floor(Math.abs(values[i] as number) * UNIT + drawn / 0x100000000)
            : Math.min(0x7bff, (size - EXPONENT_SHIFT + (drawn >>> 19)) >>> 13));
      }
    }
    return bytesOf(out);
  },

  decode(bytes, count) {
    const halves = halvesOf(bytes, count);
    const values = new Float32Array(count);
    const bits = bitsOf(values);
    for (let i = 0; i < count; i++) {
      const half = halves[i] as number;
      const size = half & 0x7fff;
      if (size < 0x0400) {
        values[i] = size / UNIT;
        bits[i] = (bits[i] as number) | ((half & 0x8000) << 16);
      } else {
        bits[i] = ((half & 0x8000) << 16) | ((size << 13) + (size >= 0x7c00 ? 2 * EXPONENT_SHIFT : EXPONENT_SHIFT));
      }
    }
    return values;
  },
};

/** Rounds the 13 bits that go away to nearest, ties to even; a carry moves into the exponent as it should. */
function nearestNormal(size: number): number {
  return (size - EXPONENT_SHIFT + 0xfff + ((size >>> 13) & 1)) >>> 13;
}

/** |value| in units of 2^-24, rounded to nearest, ties to even. */
function nearestUnits(value: number): number {
  const exact = Math.abs(value) * UNIT;
  const below = Math.floor(exact);
  const rest = exact - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
