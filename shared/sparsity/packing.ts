import { WhittleError } from '../errors.ts';
import { countBits } from './bitmap.ts';

/**
 * Packed values are the values of a set within a range, in flat order, with no indices.
 * In all functions bit i of a bitmap is element i of the range.
 */

/** The values of the set `bits` of the dense `values`: [range length] -> [set bits]. */
export function pack(values: Float32Array, bits: Uint8Array, out?: Float32Array): Float32Array {
  const packed = out ?? new Float32Array(countBits(bits));
  let next = 0;
  for (let byte = 0; byte < bits.length; byte++) {
    const first = byte * 8;
    const set = bits[byte] as number;
    if (set === 0xff) {
      for (let i = first; i < first + 8; i++) packed[next++] = values[i] as number;
    } else {
      for (let rest = set; rest !== 0; rest &= rest - 1) {
        packed[next++] = values[first + 31 - Math.clz32(rest & -rest)] as number;
      }
    }
  }
  return packed;
}

/** The dense form of packed values, exactly +0 outside the set: [set bits] -> [length]. */
export function unpack(packed: Float32Array, bits: Uint8Array, length: number, out?: Float32Array): Float32Array {
  const values = out === undefined ? new Float32Array(length) : out.fill(0);
  let next = 0;
  for (let byte = 0; byte < bits.length; byte++) {
    const first = byte * 8;
    const set = bits[byte] as number;
    if (set === 0xff) {
      for (let i = first; i < first + 8; i++) values[i] = packed[next++] as number;
    } else {
      for (let rest = set; rest !== 0; rest &= rest - 1) {
        values[first + 31 - Math.clz32(rest & -rest)] = packed[next++] as number;
      }
    }
  }
  if (next !== packed.length) {
    throw new WhittleError('INTERNAL', `${packed.length} packed values for a set of ${next} elements`);
  }
  return values;
}
