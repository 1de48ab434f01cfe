import { uint32At } from '../kernels/random.ts';
import { bitsOf, bytesOf, halvesOf, type Codec } from './format.ts';

const INFINITY = 0x7f800000;
const LARGEST = 0x7f7f;
const NOT_A_NUMBER = 0x7fc0;

/** The upper half of a float32: its range, 8 bits of precision. */
export const bfloat16: Codec = {
  bytesFor: (count) => count * 2,

  encode(values, { rounding }) {
    const bits = bitsOf(values);
    const out = new Uint16Array(bits.length);
    for (let i = 0; i < bits.length; i++) {
      const x = bits[i] as number;
      const size = x & 0x7fffffff;
      const sign = (x >>> 16) & 0x8000;
      if (size >= INFINITY) out[i] = sign | (size > INFINITY ? NOT_A_NUMBER : INFINITY >>> 16);
      else if (rounding === undefined) out[i] = sign | ((size + 0x7fff + ((size >>> 16) & 1)) >>> 16);
      // A finite number stays finite, whatever is drawn.
      else out[i] = sign | Math.min(LARGEST, (size + (uint32At(rounding.key, rounding.first + i) >>> 16)) >>> 16);
    }
    return bytesOf(out);
  },

  decode(bytes, count) {
    const halves = halvesOf(bytes, count);
    const values = new Float32Array(count);
    const bits = bitsOf(values);
    for (let i = 0; i < count; i++) bits[i] = (halves[i] as number) << 16;
    return values;
  },
};
