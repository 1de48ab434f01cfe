import { WhittleError } from '../errors.ts';
import { getBit } from '../sparsity/bitmap.ts';
import { offsetsOf, type FlatModel } from './flat-model.ts';

/** What a model computes with: weight x mask of every parameter, and its states. */
export class EffectiveValues {
  readonly #values = new Map<string, { readonly shape: readonly number[]; readonly values: Float32Array }>();
  readonly #masks = new Map<string, (element: number) => boolean>();

  constructor({ description, weights, mask, state }: FlatModel) {
    for (const [name, { shape, offset, size }] of offsetsOf(description.parameters)) {
      const values = weights.slice(offset, offset + size);
      for (let i = 0; i < size; i++) if (!getBit(mask, offset + i)) values[i] = 0;
      this.#values.set(name, { shape, values });
      this.#masks.set(name, (element) => getBit(mask, offset + element));
    }
    for (const [name, { shape, offset, size }] of offsetsOf(description.states))
      this.#values.set(name, { shape, values: state.subarray(offset, offset + size) });
  }

  of(name: string): Float32Array {
    return this.#known(name).values;
  }

  shape(name: string): readonly number[] {
    return this.#known(name).shape;
  }

  /** True where element `element` of a parameter survives. */
  survives(name: string, element: number): boolean {
    return this.#masks.get(name)?.(element) ?? true;
  }

  #known(name: string): { readonly shape: readonly number[]; readonly values: Float32Array } {
    const known = this.#values.get(name);
    if (known === undefined) throw new WhittleError('INTERNAL', `the model has no weight ${name}`);
    return known;
  }
}

/** Calls `visit` with each element's flat index and its position on `axis`, in flat order. */
export function forEachOnAxis(
  shape: readonly number[],
  axis: number,
  visit: (element: number, position: number) => void,
): void {
  const inner = shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const length = shape[axis] ?? 0;
  const total = shape.reduce((product, size) => product * size, 1);
  for (let element = 0, position = 0; element < total; position = position + 1 === length ? 0 : position + 1) {
    for (const end = element + inner; element < end; element++) visit(element, position);
  }
}
