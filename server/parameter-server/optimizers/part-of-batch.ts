/**
 * How optimizers that divide by a running mean of squared gradients take a part of a global batch by itself (ssp, asp),
 * so that all parts together move weights as the whole would: the square-root scaling rule of Malladi et al. 2022 ("On
 * the SDEs and Scaling Rules for Adaptive Gradient Algorithms"). With a share k of the batch the learning rate is
 * scaled by sqrt(k), the weight of a new value in running means by k, and epsilon by 1 / sqrt(k). Exactly nothing
 * changes at k = 1.
 */
export function partOfBatch(share: number): {
  /** Factor of a learning rate that has the share in it already, and of epsilon. */
  readonly rate: number;
  /** The weight of a new value in a running mean, from that of a whole batch. */
  readonly average: (weight: number) => number;
} {
  return { rate: 1 / Math.sqrt(share), average: (weight) => share * weight };
}
