import { WhittleError } from '../errors.ts';
import { countBits } from './bitmap.ts';

/**
 * Prune only: what a commit removes dies, nothing comes back (regrowth is a rule of its own).
 * Returns a new bitmap, a subset of `mask`.
 */
export function nextMask(mask: Uint8Array, removed: Uint8Array): Uint8Array {
  if (mask.length !== removed.length) {
    throw new WhittleError('INTERNAL', `a removal of ${removed.length} bytes for a mask of ${mask.length} bytes`);
  }
  return mask.map((byte, i) => byte & ~(removed[i] as number));
}

/**
 * Values packed over `oldStored`, packed over its subset `newStored`.
 * Throws INTERNAL where `newStored` holds an element that `oldStored` does not: reviving one is regrowth's work.
 */
export function compact<T extends Float32Array | Uint32Array>(
  values: T,
  oldStored: Uint8Array,
  newStored: Uint8Array,
): T {
  const kept = countBits(newStored);
  const out = (values instanceof Float32Array ? new Float32Array(kept) : new Uint32Array(kept)) as T;
  let from = 0;
  let to = 0;
  for (let byte = 0; byte < oldStored.length; byte++) {
    const before = oldStored[byte] as number;
    const after = newStored[byte] as number;
    if ((after & ~before) !== 0) {
      throw new WhittleError('INTERNAL', `an element near ${byte * 8} of the shard is stored now and was not before`);
    }
    for (let rest = before; rest !== 0; rest &= rest - 1) {
      if ((after & rest & -rest) !== 0) out[to++] = values[from] as number;
      from++;
    }
  }
  if (from !== values.length) {
    throw new WhittleError('INTERNAL', `${values.length} packed values for a set of ${from} elements`);
  }
  return out;
}
