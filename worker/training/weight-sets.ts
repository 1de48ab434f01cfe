/**
 * The model's variables as the servers see them: packed values over the survivors of the whole parameter space.
 * Weights are fresh tensors at each clock, and a variable only points at its tensor, so keeping the weights of
 * an older clock for evaluation costs their memory and no copy.
 */
import type { Tensor, Variable } from '@tensorflow/tfjs-core';
import { WhittleError } from '../../shared/errors.ts';
import type { Parameter, ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { countBits, setPositions } from '../../shared/sparsity/bitmap.ts';
import type { Tf } from '../backend/tf.ts';
import type { WeightTransform } from './weight-transforms.ts';

/** The tensors of one clock. */
export interface WeightSet {
  readonly tensors: readonly Tensor[];
  /** Who still needs it: being current counts one, each evaluation one. */
  users: number;
}

/** One parameter's place in the packed values. */
interface Slot {
  readonly parameter: Parameter;
  readonly start: number;
  readonly end: number;
  /** Surviving elements counted from the parameter's first, ascending; null where all survive. */
  readonly positions: Uint32Array | null;
  /** Dense values whose dead elements stay +0; null where all survive. */
  readonly dense: Float32Array | null;
}

export class PackedLayout {
  /** Number of packed values. */
  readonly size: number;
  readonly #slots: readonly Slot[];
  readonly #copies: boolean;

  /** @param mask bit 1 = survivor, null: all; [ceil(space.size / 8)] */
  constructor(tf: Tf, space: ParameterSpace, mask: Uint8Array | null) {
    if (mask !== null && mask.length !== Math.ceil(space.size / 8)) {
      throw new WhittleError('INTERNAL', `a mask of ${mask.length} bytes for ${space.size} parameters`);
    }
    // wasm copies into its heap at once; the other backends keep the array that a tensor is made of.
    this.#copies = tf.getBackend() !== 'wasm';
    let start = 0;
    this.#slots = space.parameters.map((parameter) => {
      const { offset, size } = parameter;
      const survivors = mask === null ? size : countBits(mask, offset, offset + size);
      const slot = { parameter, start, end: start + survivors };
      start = slot.end;
      if (mask === null || survivors === size) return { ...slot, positions: null, dense: null };
      const positions = setPositions(mask, offset, offset + size);
      for (let i = 0; i < positions.length; i++) positions[i] = (positions[i] as number) - offset;
      return { ...slot, positions, dense: new Float32Array(size) };
    });
    this.size = start;
  }

  /** Packed weights to a tensor a parameter, exactly +0 where dead, each as `transform` makes it. */
  unpack(tf: Tf, packed: Float32Array, transform: WeightTransform | null = null): Tensor[] {
    if (packed.length !== this.size) {
      throw new WhittleError(
        'INTERNAL',
        `${packed.length} packed weights for ${this.size} survivors: the mask differs`,
      );
    }
    return this.#slots.map(({ parameter, start, end, positions, dense }) => {
      const survivors = packed.subarray(start, end);
      if (positions !== null && dense !== null)
        for (let i = 0; i < positions.length; i++) dense[positions[i] as number] = survivors[i] as number;
      const values = dense ?? survivors;
      return tf.tensor(this.#owned(transform === null ? values : transform(values, parameter)), [...parameter.shape]);
    });
  }

  /** Dense gradients, one a parameter (null: no gradient), to packed values over the survivors. */
  pack(gradients: readonly (Float32Array | null)[]): Float32Array {
    const packed = new Float32Array(this.size);
    this.#slots.forEach(({ start, positions }, k) => {
      const gradient = gradients[k];
      if (gradient === null || gradient === undefined) return;
      if (positions === null) packed.set(gradient, start);
      else for (let i = 0; i < positions.length; i++) packed[start + i] = gradient[positions[i] as number] as number;
    });
    return packed;
  }

  #owned(values: Float32Array): Float32Array {
    return this.#copies ? values.slice() : values;
  }
}

/** Points variables at tensors. */
export function assignAll(variables: readonly Variable[], tensors: readonly Tensor[]): void {
  variables.forEach((variable, k) => variable.assign(tensors[k] as Tensor));
}

export function release(set: WeightSet): void {
  set.users--;
  if (set.users === 0) for (const tensor of set.tensors) tensor.dispose();
}

/** Values of a tensor without a copy where the backend allows: read them before the next op. */
export function viewOfTensor(tf: Tf, tensor: Tensor): Float32Array {
  const backend = tf.backend() as { typedArrayFromHeap?: (tensor: Tensor) => Float32Array };
  return backend.typedArrayFromHeap?.(tensor) ?? tensor.dataSync<'float32'>();
}

/** Tensors laid end to end. */
export function concatValues(tf: Tf, tensors: readonly Tensor[]): Float32Array {
  const values = new Float32Array(tensors.reduce((sum, tensor) => sum + tensor.size, 0));
  let at = 0;
  for (const tensor of tensors) {
    values.set(viewOfTensor(tf, tensor), at);
    at += tensor.size;
  }
  return values;
}
