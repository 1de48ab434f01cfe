/** The proximal step of an L1 penalty: moves weights [begin, end) towards 0 by `by` and stops there, at +0. */
export function softThreshold(weights: Float32Array, begin: number, end: number, by: number): void {
  if (by === 0) return;
  for (let i = begin; i < end; i++) {
    const weight = weights[i] as number;
    weights[i] = weight > by ? weight - by : weight < -by ? weight + by : 0;
  }
}
