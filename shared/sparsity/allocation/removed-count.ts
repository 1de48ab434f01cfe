/**
 * Elements removed of `n` at a sparsity: round-half-up(sparsity x n) in float64, within 0 .. n.
 * Not floor(x + 0.5), which turns 0.49999999999999994 into 1, nor a float32 count, which fails above 2^24.
 */
export function removedCount(sparsity: number, n: number): number {
  const exact = sparsity * n;
  const below = Math.floor(exact);
  // The difference is exact, so this rounds the product and nothing else.
  return Math.min(n, Math.max(0, exact - below >= 0.5 ? below + 1 : below));
}
