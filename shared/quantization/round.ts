/** Near 1.5 * 2^52 the float64 numbers are 1 apart, so adding it rounds to whole numbers, halves to even. */
const ROUND_HALF_EVEN = 6755399441055744;

/** To the nearest whole number, halves to the even one; |x| < 2^51. Never -0. */
export function roundHalfEven(x: number): number {
  return x + ROUND_HALF_EVEN - ROUND_HALF_EVEN;
}
