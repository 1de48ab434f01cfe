import { WhittleError } from '../errors.ts';
import { sizeOfShape } from '../checkpoint/safetensors.ts';
import { countBits, fullBitmap } from '../sparsity/bitmap.ts';
import { unpack } from '../sparsity/packing.ts';

/** A tensor as its survivors and the places where they belong. */
export interface PackedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** Bit i (least significant first) = element i survives, [ceil(size / 8)]; null: all do. */
  readonly mask: Uint8Array | null;
  readonly values: PackedValues;
}

/** Values of the survivors in flat order: the numbers themselves, or whole numbers and what they stand for. */
export type PackedValues = Float32Values | Int8Values;

export interface Float32Values {
  readonly kind: 'float32';
  /** [survivors] */
  readonly data: Float32Array;
}

/** Symmetric quantization to at most 8 bits: an element is `data x scale` of its channel, rounded to float32. */
export interface Int8Values {
  readonly kind: 'int8';
  /** [survivors] */
  readonly data: Int8Array;
  /** [channels]; one for the whole tensor. Element i of the dense tensor has channel floor(i / inner) mod channels. */
  readonly scales: Float32Array;
  /** Neighbours in memory that share a channel: 1 where channels are the last axis. */
  readonly inner: number;
}

/** Survivors of a tensor. */
export function countSurvivors({ shape, mask }: Pick<PackedTensor, 'shape' | 'mask'>): number {
  return mask === null ? sizeOfShape(shape) : countBits(mask);
}

/** The dense values, exactly +0 where dead: [size]. Throws INTERNAL where values and mask do not fit. */
export function densify(tensor: PackedTensor): Float32Array {
  const size = sizeOfShape(tensor.shape);
  const mask = tensor.mask ?? fullBitmap(size);
  const { values } = tensor;
  if (values.kind === 'float32') return unpack(values.data, mask, size);
  const dense = unpack(Float32Array.from(values.data), mask, size);
  const { scales, inner } = values;
  if (scales.length === 0 || size % (scales.length * inner) !== 0) {
    throw new WhittleError('INTERNAL', `${scales.length} scales of ${inner} neighbours for ${size} elements`);
  }
  for (let i = 0; i < size;) {
    for (let channel = 0; channel < scales.length; channel++) {
      const scale = scales[channel] as number;
      // + 0: what is dead or 0 stays +0 under a negative factor too.
      for (const end = i + inner; i < end; i++) dense[i] = (dense[i] as number) * scale + 0;
    }
  }
  return dense;
}
