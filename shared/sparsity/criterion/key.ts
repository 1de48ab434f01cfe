/**
 * Sort keys: a uint32 for each float32 score, in the same order. Positive numbers get their sign bit set,
 * negative ones all bits flipped; -0 equals +0. Infinities and NaN lie outside the keys of finite numbers.
 */

/** Finite scores have keys in (LOWEST_KEY, HIGHEST_KEY), both excluded. */
export const LOWEST_KEY = 0x007fffff;
export const HIGHEST_KEY = 0xff800000;

const POSITIVE_ZERO = 0x80000000;

/** Turns scores into keys; the keys take over the memory of `scores`, which must not be used afterwards. */
export function keysInPlace(scores: Float32Array): Uint32Array {
  const keys = new Uint32Array(scores.buffer, scores.byteOffset, scores.length);
  for (let i = 0; i < keys.length; i++) {
    const bits = keys[i] as number;
    keys[i] = bits < POSITIVE_ZERO ? bits | POSITIVE_ZERO : bits === POSITIVE_ZERO ? POSITIVE_ZERO : ~bits;
  }
  return keys;
}

/** The key of one score. */
export function keyOf(score: number): number {
  return keysInPlace(Float32Array.of(score))[0] as number;
}

/** False for the keys of NaN and the infinities. */
export function isFiniteKey(key: number): boolean {
  return key > LOWEST_KEY && key < HIGHEST_KEY;
}
