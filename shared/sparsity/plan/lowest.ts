import { keysInPlace } from '../criterion/key.ts';

/** One flag a score: 1 for the `count` lowest, ties by ascending position. */
export function flagLowest(scores: Float32Array, count: number): Uint8Array {
  const flags = new Uint8Array(scores.length);
  if (count <= 0) return flags;
  const keys = keysInPlace(scores.slice());
  const sorted = keys.slice().sort();
  const threshold = sorted[Math.min(count, sorted.length) - 1] as number;
  let ties = Math.min(count, sorted.length) - lowerBound(sorted, threshold);
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] as number;
    if (key < threshold || (key === threshold && ties-- > 0)) flags[i] = 1;
  }
  return flags;
}

/** Elements of ascending `sorted` below `value`. */
function lowerBound(sorted: Uint32Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
