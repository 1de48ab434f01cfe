import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';

/** What a worker says of its model and data, as JSON in `model_description`. */
export interface WorkerDescription {
  readonly description: ModelDescription;
  readonly fingerprint: string;
  readonly evaluationChunks: number;
}

/** What the workers built; they must have built the same, or their gradients mean nothing together. */
export class WorkerDescriptions {
  readonly #warn: (message: string) => void;
  readonly #ready = new Set<number>();
  #first: WorkerDescription | null = null;
  #warned = false;

  /** `known`: what the run was described as when it began, where that is known. */
  constructor(warn: (message: string) => void, known: Omit<WorkerDescription, 'evaluationChunks'> | null = null) {
    this.#warn = warn;
    if (known) this.#first = { ...known, evaluationChunks: -1 };
  }

  /** Takes one worker's description. Errors: MODEL where it built another model or found other data than the run's. */
  add(rank: number, json: string): void {
    const added = JSON.parse(json) as WorkerDescription;
    const first = this.#first ?? added;
    if (shapeOf(added.description) !== shapeOf(first.description)) {
      throw new WhittleError(
        'MODEL',
        `worker[${rank}] built another model or found other data than the run began with; all workers need the same files`,
      );
    }
    if (added.fingerprint !== first.fingerprint && !this.#warned) {
      this.#warned = true;
      this.#warn(
        `worker[${rank}] computes with ${added.fingerprint}, the run began with ${first.fingerprint}: its digests cannot be reproduced`,
      );
    }
    this.#first = { ...first, evaluationChunks: added.evaluationChunks };
    this.#ready.add(rank);
  }

  /** A worker that is gone must describe its model again when it comes back. */
  drop(rank: number): void {
    this.#ready.delete(rank);
  }

  /** Whether this worker has built the model. */
  has(rank: number): boolean {
    return this.#ready.has(rank);
  }

  /** Chunks of the test set; 0 without one, or before any worker has said. */
  get evaluationChunks(): number {
    return Math.max(0, this.#first?.evaluationChunks ?? 0);
  }

  /** The description that all agree on. */
  agreed(): WorkerDescription {
    if (!this.#first) throw new WhittleError('INTERNAL', 'no worker has described a model');
    return this.#first;
  }
}

function shapeOf(d: ModelDescription): string {
  return JSON.stringify([d.parameters, d.states, d.trainExamples, d.testExamples]);
}
