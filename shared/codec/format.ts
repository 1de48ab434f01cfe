/** Stochastic rounding: up with the probability of the fraction, so that the expected value is exact. */
export interface Rounding {
  /** From `roundingKey(seed, step, slice)`. */
  readonly key: number;
  /**
   * Position of the first value among all packed values of the model. Each value's random number belongs to
   * its position, so that the bits do not depend on how the model is cut into shards.
   */
  readonly first: number;
}

export interface EncodeOptions {
  readonly rounding?: Rounding;
  /** int8 only: the scale to use instead of that of the values given, so that all parts of a slice share one. */
  readonly scale?: number;
}

export interface Codec {
  bytesFor(count: number): number;
  encode(values: Float32Array, options: EncodeOptions): Uint8Array;
  /** `bytes` has the right length. */
  decode(bytes: Uint8Array, count: number): Float32Array;
}

/** The bits of float32 values, without a copy. */
export function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/** The bytes of a typed array, without a copy. */
export function bytesOf(values: Float32Array | Uint16Array | Int8Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

/** Two-byte values at any address. */
export function halvesOf(bytes: Uint8Array, count: number): Uint16Array {
  if (bytes.byteOffset % 2 === 0) return new Uint16Array(bytes.buffer, bytes.byteOffset, count);
  return new Uint16Array(bytes.slice().buffer, 0, count);
}
