/** The entries of `list` in the order of `permutation`: axis k of the result is axis permutation[k]. */
export function permute(list: readonly number[], permutation: readonly number[]): number[] {
  return permutation.map((axis) => list[axis] as number);
}

export function inverseOf(permutation: readonly number[]): number[] {
  return permutation.map((_, axis) => permutation.indexOf(axis));
}

/** Row-major values of `shape` with axes permuted: [permute(shape, permutation)]. */
export function transposed(
  values: Float32Array,
  shape: readonly number[],
  permutation: readonly number[],
): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  const sizes = permute(shape, permutation);
  const steps = permute(strides, permutation);
  const out = new Float32Array(values.length);
  const index = sizes.map(() => 0);
  let from = 0;
  for (let to = 0; to < out.length; to++) {
    out[to] = values[from] as number;
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      const step = steps[axis] as number;
      index[axis] = (index[axis] as number) + 1;
      from += step;
      if ((index[axis] as number) < (sizes[axis] as number)) break;
      from -= step * (sizes[axis] as number);
      index[axis] = 0;
    }
  }
  return out;
}
