import type { RunFileDocument } from './schema.ts';

/** A step, `30%` of the run, or `3 epochs`. */
export type Position = number | string;

/** Steps of so many epochs of the data: ceil(epochs x examples / batchSize). */
export function epochSteps(epochs: number, examples: number, batchSize: number): number {
  return Math.ceil((epochs * examples) / batchSize);
}

/** Length of the run in steps; undefined while it depends on data not known yet. */
export function numSteps({ training, data }: RunFileDocument, trainExamples?: number): number | undefined {
  if (training.steps !== undefined) return training.steps;
  if (trainExamples === undefined || training.epochs === undefined) return undefined;
  return epochSteps(training.epochs, trainExamples, data.batchSize);
}

/** `30%` and `3 epochs` as a step; undefined while that depends on data not known yet. */
export function toStep(position: Position, document: RunFileDocument, trainExamples?: number): number | undefined {
  if (typeof position === 'number') return position;
  const amount = Number.parseFloat(position);
  if (!position.endsWith('%'))
    return trainExamples === undefined ? undefined : epochSteps(amount, trainExamples, document.data.batchSize);
  const steps = numSteps(document, trainExamples);
  return steps === undefined ? undefined : Math.round((amount / 100) * steps);
}
