import type { DecayConfig } from '../../../shared/config/types.ts';

/** One update of packed arrays in place. An optimizer knows nothing of masks, parameters or shards. */
export interface OptimizerStep {
  /** Packed, float32; changed in place. */
  readonly weights: Float32Array;
  /** Packed like `weights`; left as they are. */
  readonly gradients: Float32Array;
  /** In the order of `slotNames`, each packed like `weights`; changed in place. */
  readonly slots: readonly Float32Array[];
  /** Elements [begin, end) of the packed arrays. */
  readonly begin: number;
  readonly end: number;
  /** Number of this step, from 1: all that bias correction needs, so a resumed run goes on exactly. */
  readonly step: number;
  /** With schedule and `share` already in it. */
  readonly learningRate: number;
  /** Part of the global batch that the gradients are of, in (0, 1]: 1 in lockstep, less where slices are applied alone. */
  readonly share: number;
  readonly decay: Pick<DecayConfig, 'weightDecay' | 'l2' | 'l1'>;
}

export interface Optimizer {
  readonly slotNames: readonly string[];
  /** The slot that is a running mean (or sum) of squared gradients; absent where none is. */
  readonly secondMoment?: string;
  /** The value every element of a slot starts with. */
  initialSlot(name: string): number;
  /**
   * Applies one step: L2 is added to the gradient, weights decay (decoupled: w -= learningRate * weightDecay * w,
   * Loshchilov & Hutter 2019), the optimizer moves them, and L1 pulls them towards 0 by learningRate * l1.
   * Elements do not influence each other, so any division into ranges gives the same bits.
   */
  apply(step: OptimizerStep): void;
}
