import type { WireFormat } from '../config/types.ts';
import { WhittleError } from '../errors.ts';
import { hashSeeds, STREAMS } from '../kernels/random.ts';
import { bfloat16 } from './bfloat16.ts';
import { float16 } from './float16.ts';
import { float32 } from './float32.ts';
import type { Codec, EncodeOptions } from './format.ts';
import { int8 } from './int8.ts';

export type { EncodeOptions } from './format.ts';
export { scaleOf } from './int8.ts';

const CODECS: Readonly<Record<WireFormat, Codec>> = { float32, bfloat16, float16, int8 };

/** Bytes of `count` values in a format. */
export function bytesFor(format: WireFormat, count: number): number {
  return CODECS[format].bytesFor(count);
}

/**
 * Packed values to bytes, little-endian. Rounds to nearest, ties to even, or stochastically with
 * `options.rounding`. The bytes of `float32` are the memory of `values` itself: copy them where it changes.
 */
export function encode(format: WireFormat, values: Float32Array, options: EncodeOptions = {}): Uint8Array {
  return CODECS[format].encode(values, options);
}

/**
 * Bytes back to `count` packed values. `float32` bytes at an address that is a multiple of 4 are not copied.
 * Throws PROTOCOL where the number of bytes does not fit.
 */
export function decode(format: WireFormat, bytes: Uint8Array, count: number): Float32Array {
  const codec = CODECS[format];
  if (bytes.length !== codec.bytesFor(count)) {
    throw new WhittleError(
      'PROTOCOL',
      `${bytes.length} bytes for ${count} ${format} values, which take ${codec.bytesFor(count)}`,
    );
  }
  return codec.decode(bytes, count);
}

/** Key of the random numbers that round the push of one slice; never the same for two pushes of a run. */
export function roundingKey(seed: number, step: number, slice: number): number {
  return hashSeeds([STREAMS.rounding, seed, step, slice]);
}
