/** The largest |x|; 0 of nothing, NaN where a value is NaN or infinite. */
export function maxAbs(values: Float32Array): number {
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i] as number);
    if (!(size < Infinity)) return NaN;
    if (size > largest) largest = size;
  }
  return largest;
}
