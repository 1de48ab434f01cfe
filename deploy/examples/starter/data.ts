/**
 * The examples: points of a square, their class is the ring they lie in. Replace `points` by reading your files.
 * Every process imports this module and must find the same examples in the same order.
 */
export const train = points(3000, 1);
export const test = points(600, 2);
/** Labels are 0 .. classes - 1. The built-in models need it to know how many outputs they have. */
export const classes = 3;

function points(size: number, seed: number) {
  const places = new Float32Array(2 * size);
  const rings = new Int32Array(size);
  let state = seed;
  // Numerical Recipes' generator: Math.random would differ between the processes of the run.
  const random = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  for (let k = 0; k < size; k++) {
    const x = 2 * random() - 1;
    const y = 2 * random() - 1;
    places.set([x, y], 2 * k);
    const radius = Math.sqrt(x * x + y * y);
    rings[k] = radius < 0.5 ? 0 : radius < 0.85 ? 1 : 2;
  }
  return {
    size,
    /** The examples at these positions. `random` is seeded from the step, for augmentation. */
    batch(indices: Int32Array, _random: () => number) {
      const inputs = new Float32Array(2 * indices.length);
      const labels = new Int32Array(indices.length);
      indices.forEach((index, k) => {
        inputs.set(places.subarray(2 * index, 2 * index + 2), 2 * k);
        labels[k] = rings[index]!;
      });
      return {
        inputs: { data: inputs, shape: [indices.length, 2] },
        labels: { data: labels, shape: [indices.length] }, // whole numbers of shape [n] are class ids
      };
    },
  };
}
