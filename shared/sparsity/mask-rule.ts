import { WhittleError } from '../errors.ts';
import { countBits } from './bitmap.ts';

/**
 * Values packed over `from`, packed over `to`, another set of the same elements: what leaves the set is dropped, and
 * what enters it gets `fill`. Pruning makes sets smaller, regrowth makes them larger.
 */
export function repack<T extends Float32Array | Uint32Array>(values: T, from: Uint8Array, to: Uint8Array, fill = 0): T {
  if (from.length !== to.length) {
    throw new WhittleError('INTERNAL', `a set of ${to.length} bytes made from one of ${from.length} bytes`);
  }
  const size = countBits(to);
  const out = (values instanceof Float32Array ? new Float32Array(size) : new Uint32Array(size)) as T;
  if (fill !== 0) out.fill(fill);
  let read = 0;
  let written = 0;
  for (let byte = 0; byte < from.length; byte++) {
    const before = from[byte] as number;
    const after = to[byte] as number;
    for (let rest = before | after; rest !== 0; rest &= rest - 1) {
      const bit = rest & -rest;
      if ((after & bit) === 0) read++;
      else if ((before & bit) === 0) written++;
      else out[written++] = values[read++] as number;
    }
  }
  if (read !== values.length) {
    throw new WhittleError('INTERNAL', `${values.length} packed values for a set of ${read} elements`);
  }
  return out;
}

/**
 * As `repack`, where `to` must be a subset of `from`.
 * Throws INTERNAL where it holds an element that `from` does not: reviving one is the work of a regrowth record.
 */
export function compact<T extends Float32Array | Uint32Array>(values: T, from: Uint8Array, to: Uint8Array): T {
  const stray = to.findIndex((byte, i) => (byte & ~(from[i] ?? 0)) !== 0);
  if (stray >= 0) {
    throw new WhittleError('INTERNAL', `an element near ${stray * 8} of the shard is stored now and was not before`);
  }
  return repack(values, from, to);
}
