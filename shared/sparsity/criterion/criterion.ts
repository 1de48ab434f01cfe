/** What a criterion may look at: values of a shard, all packed over the same set. */
export interface CriterionInputs {
  readonly weights: Float32Array;
}

/** Gives every element a score; the lowest scores are removed first. */
export interface Criterion {
  readonly name: string;
  /**
   * Scores of all elements of `inputs`, in a new array of the same length, float32. It must depend on each
   * element and on nothing about the shard, so that masks do not depend on the shard map.
   */
  scores(inputs: CriterionInputs): Float32Array;
}
