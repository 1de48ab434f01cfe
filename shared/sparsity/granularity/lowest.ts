import { keysInPlace } from '../criterion/key.ts';

/** Indices of the `count` lowest of a few scores, ties by ascending index. For whole shards see `selection.ts`. */
export function lowestScores(scores: Float32Array, count: number): number[] {
  const keys = keysInPlace(scores.slice());
  const order = Array.from(keys, (_, index) => index);
  // Sorting is stable, so equal keys stay in ascending index.
  order.sort((a, b) => (keys[a] as number) - (keys[b] as number));
  return order.slice(0, count);
}
