import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';

/** What a worker says of its model and data, as JSON in `model_description`. */
export interface WorkerDescription {
  readonly description: ModelDescription;
  readonly fingerprint: string;
  readonly evaluationChunks: number;
}

/** What the workers built, by rank; they must have built the same, or their gradients mean nothing together. */
export class WorkerDescriptions {
  readonly #workers: number;
  readonly #warn: (message: string) => void;
  readonly #byRank = new Map<number, WorkerDescription>();
  #warned = false;

  constructor(workers: number, warn: (message: string) => void) {
    this.#workers = workers;
    this.#warn = warn;
  }

  /** Takes one worker's description; true once all are in. */
  add(rank: number, json: string): boolean {
    this.#byRank.set(rank, JSON.parse(json) as WorkerDescription);
    return this.#byRank.size === this.#workers;
  }

  /** Chunks of the test set; 0 without one. */
  get evaluationChunks(): number {
    return this.#byRank.get(0)?.evaluationChunks ?? 0;
  }

  /** The description that all agree on. Errors: MODEL where one built another model or found other data. */
  agreed(): WorkerDescription {
    const first = this.#byRank.get(0);
    if (!first) throw new WhittleError('INTERNAL', 'worker[0] described no model');
    const shape = (d: ModelDescription): string =>
      JSON.stringify([d.parameters, d.states, d.trainExamples, d.testExamples]);
    for (const [rank, other] of this.#byRank) {
      if (shape(other.description) !== shape(first.description)) {
        throw new WhittleError(
          'MODEL',
          `worker[${rank}] built another model or found other data than worker[0]; all workers need the same files`,
        );
      }
      if (other.fingerprint !== first.fingerprint && !this.#warned) {
        this.#warned = true;
        this.#warn(
          `worker[${rank}] computes with ${other.fingerprint}, worker[0] with ${first.fingerprint}: the digests of this run cannot be reproduced`,
        );
      }
    }
    return first;
  }
}
