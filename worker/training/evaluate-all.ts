import type { Engine } from './engine.ts';

export interface WholeEvaluation {
  /** Null where the labels are not classes. */
  readonly testAccuracy: number | null;
  /** Mean over the test set, without regularizers. */
  readonly testLoss: number;
  readonly examples: number;
}

/** Evaluates the weights kept for `clock` on the whole test set, in chunk order, as the run itself adds them. */
export async function evaluateAll(engine: Engine, clock: number): Promise<WholeEvaluation> {
  let correct: number | null = 0;
  let lossSum = 0;
  let examples = 0;
  for (let chunk = 0; chunk < engine.numEvaluationChunks; chunk++) {
    const part = await engine.evaluateChunk(clock, chunk);
    correct = part.correct === null || correct === null ? null : correct + part.correct;
    lossSum += part.lossSum;
    examples += part.examples;
  }
  return { testAccuracy: correct === null ? null : correct / examples, testLoss: lossSum / examples, examples };
}
