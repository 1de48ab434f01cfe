import type { EvaluationDone } from '../protos/generated/whittle/EvaluationDone.ts';
import type { ComputeClient } from './training/compute-client.ts';

/** Evaluates the chunks asked for as soon as the weights of their clock are kept; the compute thread fits them in between slices. */
export class Evaluator {
  readonly #compute: ComputeClient;
  readonly #report: (done: EvaluationDone) => void;
  readonly #onFailure: (reason: unknown) => void;
  readonly #kept = new Set<number>();
  readonly #asked = new Map<number, readonly number[]>();

  constructor(compute: ComputeClient, report: (done: EvaluationDone) => void, onFailure: (reason: unknown) => void) {
    this.#compute = compute;
    this.#report = report;
    this.#onFailure = onFailure;
  }

  kept(clock: number): void {
    this.#kept.add(clock);
    const chunks = this.#asked.get(clock);
    if (chunks) this.#run(clock, chunks);
  }

  evaluate(clock: number, chunks: readonly number[]): void {
    if (this.#kept.has(clock)) this.#run(clock, chunks);
    else this.#asked.set(clock, chunks);
  }

  /** A new generation: the clocks of the one before mean other weights. */
  forget(): void {
    for (const clock of this.#kept) this.#compute.dropEvaluation(clock).catch(this.#onFailure);
    this.#kept.clear();
    this.#asked.clear();
  }

  over(clock: number): void {
    this.#kept.delete(clock);
    this.#asked.delete(clock);
    this.#compute.dropEvaluation(clock).catch(this.#onFailure);
  }

  #run(clock: number, chunks: readonly number[]): void {
    this.#asked.delete(clock);
    for (const chunk of chunks) {
      this.#compute
        .evaluateChunk(clock, chunk)
        .then(
          ({ correct, lossSum, examples }) => this.#report({ clock, chunk, correct: correct ?? -1, lossSum, examples }),
          this.#onFailure,
        );
    }
  }
}
