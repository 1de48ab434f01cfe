import type { TrainingConfig } from '../../shared/config/types.ts';
import { type ChunkResult, type Evaluation, EvaluationRound } from './evaluation.ts';
import type { Members } from './members.ts';

export interface EvaluationsOptions {
  readonly training: TrainingConfig;
  readonly members: Members;
  /** Chunks of the test set; 0 without one. */
  readonly chunks: () => number;
  readonly slicesOf: (worker: number) => readonly number[];
  readonly onEvaluated: (evaluation: Evaluation) => void;
}

/** The evaluations under way beside training, one round a clock. */
export class Evaluations {
  readonly #options: EvaluationsOptions;
  readonly #rounds = new Map<number, EvaluationRound>();
  #finalDone = false;

  constructor(options: EvaluationsOptions) {
    this.#options = options;
  }

  isDue(step: number): boolean {
    const { evaluateEvery, steps } = this.#options.training;
    return step === steps || (evaluateEvery > 0 && step % evaluateEvery === 0);
  }

  /** True when the last step is evaluated, or there is nothing to evaluate on. */
  get isComplete(): boolean {
    return this.#options.chunks() === 0 || this.#finalDone;
  }

  /** Shares the test set among the workers that hold the weights of every clock: those with slices. */
  begin(clock: number): void {
    const { members, chunks, slicesOf } = this.#options;
    if (chunks() === 0) return;
    const round = new EvaluationRound(clock, chunks());
    this.#rounds.set(clock, round);
    const workers = members.of('worker').filter((worker) => slicesOf(worker.rank).length > 0);
    const shares = round.share(workers.map((worker) => worker.rank));
    for (const worker of workers) {
      members.send(worker, { evaluate: { clock, chunks: shares.get(worker.rank) ?? [] } });
    }
  }

  add(result: ChunkResult): void {
    const { members, training, onEvaluated } = this.#options;
    const evaluation = this.#rounds.get(result.clock)?.add(result) ?? null;
    if (!evaluation) return;
    this.#rounds.delete(result.clock);
    members.broadcast('worker', { evaluationOver: { clock: result.clock } });
    if (evaluation.clock === training.steps) this.#finalDone = true;
    onEvaluated(evaluation);
  }
}
