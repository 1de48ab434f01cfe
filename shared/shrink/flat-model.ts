import type { ModelDescription } from '../layout/model-description.ts';

/** A model and everything that training keeps of it, whole: what can be shrunk. */
export interface FlatModel {
  readonly description: ModelDescription;
  /** Weights as they are stored, in flat order, one a parameter element; what is not stored is 0. */
  readonly weights: Float32Array;
  /** Optimizer slots by name, each like `weights`. */
  readonly slots: Readonly<Record<string, Float32Array>>;
  /** Bit i (least significant first) = element i is stored. */
  readonly stored: Uint8Array;
  /** Bit i = element i survives; a subset of `stored`. */
  readonly mask: Uint8Array;
  /** Non-trainable states end to end, in the description's order. */
  readonly state: Float32Array;
}

/** Sizes and offsets of arrays laid end to end. */
export function offsetsOf(
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
): ReadonlyMap<string, { readonly shape: readonly number[]; readonly offset: number; readonly size: number }> {
  const places = new Map<string, { shape: readonly number[]; offset: number; size: number }>();
  let offset = 0;
  for (const { name, shape } of tensors) {
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    places.set(name, { shape, offset, size });
    offset += size;
  }
  return places;
}
