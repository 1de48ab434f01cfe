/** Result of the test set at one clock. */
export interface Evaluation {
  readonly clock: number;
  /** Share of correct examples, or null where labels are no class ids. */
  readonly accuracy: number | null;
  readonly loss: number;
}

export interface ChunkResult {
  readonly clock: number;
  readonly chunk: number;
  /** Negative where the model's labels cannot be counted as correct or not. */
  readonly correct: number;
  readonly lossSum: number;
  readonly examples: number;
}

/**
 * Collects the fixed chunks of one evaluation. Counts are whole numbers and losses are added in chunk order,
 * so the result does not depend on who computed which chunk or when.
 */
export class EvaluationRound {
  readonly clock: number;
  readonly #chunks: number;
  readonly #results = new Map<number, ChunkResult>();

  constructor(clock: number, chunks: number) {
    this.clock = clock;
    this.#chunks = chunks;
  }

  /** Chunks without a result yet. */
  get missing(): number[] {
    return Array.from({ length: this.#chunks }, (_, chunk) => chunk).filter((chunk) => !this.#results.has(chunk));
  }

  /** `chunks` shared among `workers` in turn. */
  share(workers: readonly number[], chunks: readonly number[]): Map<number, number[]> {
    const shares = new Map<number, number[]>(workers.map((worker) => [worker, []]));
    chunks.forEach((chunk, i) => {
      const worker = workers[i % workers.length];
      if (worker !== undefined) shares.get(worker)?.push(chunk);
    });
    return shares;
  }

  /** Takes a chunk's result, the first copy of each; returns the evaluation once all are in. */
  add(result: ChunkResult): Evaluation | null {
    if (result.clock !== this.clock || result.chunk >= this.#chunks || this.#results.has(result.chunk)) return null;
    this.#results.set(result.chunk, result);
    if (this.#results.size < this.#chunks) return null;
    let correct = 0;
    let loss = 0;
    let examples = 0;
    let countable = true;
    for (let chunk = 0; chunk < this.#chunks; chunk += 1) {
      const part = this.#results.get(chunk);
      if (!part) return null;
      if (part.correct < 0) countable = false;
      correct += part.correct;
      loss += part.lossSum;
      examples += part.examples;
    }
    return { clock: this.clock, accuracy: countable ? correct / examples : null, loss: loss / examples };
  }
}
