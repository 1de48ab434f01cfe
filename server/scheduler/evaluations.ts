import type { TrainingConfig } from '../../shared/config/types.ts';
import { type ChunkResult, type Evaluation, EvaluationRound } from './evaluation.ts';
import type { Members } from './members.ts';

export interface EvaluationsOptions {
  readonly training: TrainingConfig;
  readonly members: Members;
  /** Chunks of the test set; 0 without one. */
  readonly chunks: () => number;
  /** Workers that hold the weights of the newest clock: those with slices. */
  readonly holders: () => readonly number[];
  readonly onEvaluated: (evaluation: Evaluation) => void;
  readonly warn: (message: string) => void;
  /** Hears of an evaluation that can no longer be had. */
  readonly onLost?: (clock: number) => void;
}

interface Round {
  readonly round: EvaluationRound;
  /** Workers that hold the weights of its clock. */
  readonly holders: Set<number>;
}

/** The evaluations under way beside training, one round a clock. */
export class Evaluations {
  readonly #options: EvaluationsOptions;
  readonly #rounds = new Map<number, Round>();
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

  /** True where no evaluation is under way. */
  get isIdle(): boolean {
    return this.#rounds.size === 0;
  }

  /** Shares the test set among the workers that hold the weights of every clock: those with slices. */
  begin(clock: number): void {
    const { chunks, holders } = this.#options;
    if (chunks() === 0 || this.#rounds.has(clock)) return;
    const begun: Round = { round: new EvaluationRound(clock, chunks()), holders: new Set(holders()) };
    this.#rounds.set(clock, begun);
    if (begun.holders.size === 0 && clock !== this.#options.training.steps) this.#options.onLost?.(clock);
    this.#ask(begun, begun.round.missing);
  }

  add(result: ChunkResult): void {
    const { members, training, onEvaluated } = this.#options;
    const evaluation = this.#rounds.get(result.clock)?.round.add(result) ?? null;
    if (!evaluation) return;
    this.#rounds.delete(result.clock);
    members.broadcast('worker', { evaluationOver: { clock: result.clock } });
    if (evaluation.clock === training.steps) this.#finalDone = true;
    onEvaluated(evaluation);
  }

  /** What a worker that is gone did not finish is done by the others that hold the weights. */
  lost(worker: number): void {
    for (const [clock, each] of this.#rounds) {
      if (!each.holders.delete(worker)) continue;
      if (each.holders.size > 0) this.#ask(each, each.round.missing);
      else if (clock !== this.#options.training.steps) {
        this.#rounds.delete(clock);
        this.#options.warn(`the evaluation of step ${clock} is lost with the last worker that held its weights`);
        this.#options.onLost?.(clock);
      }
    }
  }

  /** The last weights can be had by any worker, also one that came after the last step. */
  joined(worker: number): void {
    const last = this.#rounds.get(this.#options.training.steps);
    if (!last || last.holders.size > 0) return;
    last.holders.add(worker);
    this.#ask(last, last.round.missing);
  }

  #ask({ round, holders }: Round, chunks: readonly number[]): void {
    const { members } = this.#options;
    const workers = members.of('worker').filter(({ rank }) => holders.has(rank));
    const shares = round.share(
      workers.map(({ rank }) => rank),
      chunks,
    );
    for (const worker of workers) {
      const share = shares.get(worker.rank) ?? [];
      members.send(worker, { evaluate: { clock: round.clock, chunks: share } });
    }
  }
}
