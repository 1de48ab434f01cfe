import type { CriterionName } from '../../config/types.ts';
import { WhittleError } from '../../errors.ts';

/** What a criterion may look at: values of a shard, all packed over the same set. */
export interface CriterionInputs {
  /** Values packed over the ranked set; 0 where nothing is stored. */
  readonly weights: Float32Array;
  /** The criterion's own running statistic, packed alike; empty where it has none. */
  readonly statistic: Float32Array;
  /** Reduced gradient of the newest step (unclipped), packed alike; null where it is not at hand. */
  readonly gradients: Float32Array | null;
  /** The optimizer's second moment (adam `v`, rmsprop square average, adagrad accumulator), packed alike; null without one. */
  readonly secondMoment: Float32Array | null;
  /** Flat index of each packed element (float64 numbers, may exceed 2^32). */
  readonly indices: () => Float64Array;
  /** The run's seed combined with the rule's index. */
  readonly seed: number;
}

/** A value that a criterion keeps for every stored element from step to step; 0 at first. */
export interface Statistic {
  /** The slot's name in checkpoints, such as `saliency`. */
  readonly name: string;
  /**
   * Takes one step into elements [begin, end), in place, before the optimizer. All arrays are packed alike; the
   * gradients were computed at these weights.
   */
  update(statistic: Float32Array, weights: Float32Array, gradients: Float32Array, begin: number, end: number): void;
}

/** Gives every element a score; the lowest scores are removed first. */
export interface Criterion {
  readonly name: CriterionName;
  /** What must be at hand beside weights. */
  readonly needs: 'weights' | 'gradients' | 'secondMoment' | 'activations';
  readonly statistic?: Statistic;
  /**
   * Scores of all elements of `inputs`, in a new array of the same length, float32, finite for finite inputs. It must
   * depend on each element and on nothing about the shard, so that masks do not depend on the shard map.
   */
  readonly scores: (inputs: CriterionInputs) => Float32Array;
  /**
   * Of criteria that look at a whole parameter: turns the scores of ALL survivors of one parameter (flat order) into
   * comparable ones. Run in one place, so float64 sums are exact for any shards.
   */
  readonly normalize?: (scores: Float32Array) => Float32Array;
}

/** The largest float32: products beyond it are held here, so that finite inputs give finite scores. */
const LARGEST = 3.4028234663852886e38;

/** Within the finite numbers of float32; NaN and the infinities of bad inputs stay what they are. */
export function clampScore(exact: number): number {
  if (!Number.isFinite(exact)) return exact;
  return Math.max(-LARGEST, Math.min(LARGEST, exact));
}

/** A criterion's running statistic as its scores. Throws INTERNAL where there is not one value an element. */
export function statisticScores({ statistic, weights }: CriterionInputs): Float32Array {
  if (statistic.length !== weights.length) {
    throw new WhittleError('INTERNAL', `${statistic.length} values of a statistic for ${weights.length} elements`);
  }
  return statistic.slice();
}
