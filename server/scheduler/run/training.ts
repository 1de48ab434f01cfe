import type { SocketBytes__Output } from '../../../protos/generated/whittle/SocketBytes.ts';
import type { StepRecord__Output } from '../../../protos/generated/whittle/StepRecord.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { isMaskStep } from '../../../shared/sparsity/mask-steps.ts';
import type { ChunkResult, Evaluation } from '../evaluation.ts';
import { Evaluations } from '../evaluations.ts';
import { StepLedger } from '../step-ledger.ts';
import type { WorkerDescriptions } from '../worker-descriptions.ts';
import type { GuardDesk } from './guard-desk.ts';
import type { RunEnd } from './run-end.ts';
import type { RunOptions } from './run-options.ts';
import type { Workforce } from './workforce.ts';

/** Longest time without a step, and with the last one done but not everything that follows it. */
const STEP_MS = 600_000;
const FINISH_MS = 300_000;

export interface TrainingOptions {
  readonly run: RunOptions;
  readonly end: RunEnd;
  readonly descriptions: WorkerDescriptions;
  readonly workforce: Workforce;
  readonly guard: GuardDesk | null;
  /** Told when steps or an evaluation were completed: the generation may have reached its end. */
  readonly onProgress: () => void;
}

/** The steps of a generation as they become complete, with the evaluations beside them. */
export class Training {
  readonly evaluations: Evaluations;
  readonly #options: TrainingOptions;
  readonly #ledger: StepLedger;
  #isOn = false;
  #lastStepAt = performance.now();

  constructor(options: TrainingOptions) {
    this.#options = options;
    const { config, members, log, restored, takeover } = options.run;
    this.#ledger = new StepLedger(config.cluster.servers, takeover?.recorded ?? restored?.clock ?? 0);
    this.evaluations = new Evaluations({
      training: config.training,
      members,
      chunks: () => options.descriptions.evaluationChunks,
      holders: () => options.workforce.holders,
      onEvaluated: (evaluation) => this.#evaluated(evaluation),
      warn: (message) => log.warn(message),
      ...(options.guard ? { onLost: (clock) => this.#evaluationLost(clock) } : {}),
    });
  }

  /** Whether workers were told to begin. */
  get isOn(): boolean {
    return this.#isOn;
  }

  begin(clock: number): void {
    const { run, workforce, onProgress } = this.#options;
    this.#isOn = true;
    this.#lastStepAt = performance.now();
    run.progress.started();
    workforce.begin(clock);
    // A guard goes by all evaluations, and that of the clock of a checkpoint is not in it.
    const isMissing = this.#options.guard !== null && clock > 0 && this.evaluations.isDue(clock);
    if (clock < run.config.training.steps && !isMissing) return;
    this.evaluations.begin(clock);
    onProgress();
  }

  /** Goes on where the scheduler before was lost. Servers report again what it may not have taken in. */
  takeUp(): void {
    const { progress } = this.#options.run;
    for (let step = progress.evaluatedAt + 1; step <= progress.step; step += 1)
      if (this.evaluations.isDue(step)) this.evaluations.begin(step);
    this.advance();
    this.#options.onProgress();
  }

  reported(server: number, steps: readonly StepRecord__Output[], socket: SocketBytes__Output | null): void {
    for (const step of steps) this.#ledger.add(server, step);
    if (socket) this.#options.run.progress.setSocketBytes(server, socket);
    this.advance();
  }

  evaluated(result: ChunkResult): void {
    this.evaluations.add(result);
  }

  /** Takes up the steps that became complete. */
  advance(): void {
    const { run, workforce, onProgress } = this.#options;
    const steps = this.#ledger.takeCompleted();
    if (steps.length === 0) return;
    this.#lastStepAt = performance.now();
    for (const step of steps) {
      run.progress.stepCompleted(step, isMaskStep(run.config, step.step));
      if (this.evaluations.isDue(step.step)) this.evaluations.begin(step.step);
    }
    workforce.completed(steps);
    onProgress();
  }

  /** Fails the run where no step came for too long. */
  watch(): void {
    const { run, end } = this.#options;
    const { config, progress, members } = run;
    if (!this.#isOn || end.isOver) return;
    const waited = performance.now() - this.#lastStepAt;
    if (waited < (progress.step >= config.training.steps ? FINISH_MS : STEP_MS)) return;
    const laggards = members.all().map(({ role, rank, clock }) => `${role}[${rank}] is at clock ${clock}`);
    const message = `no step was completed for ${Math.round(waited / 1000)} s after step ${progress.step}: ${laggards.join(', ')}`;
    end.failHere(new WhittleError('DEADLINE', message));
  }

  /** The guard decides by every evaluation: without one of them the run goes back to where all can be had. */
  #evaluationLost(clock: number): void {
    const message = `the evaluation of step ${clock}, which the guard needs, is lost with the last worker that held its weights`;
    this.#options.end.rollBack(new WhittleError('ROLE_LOST', message));
  }

  #evaluated(evaluation: Evaluation): void {
    const { run, guard, onProgress } = this.#options;
    const { clock: step, accuracy, loss } = evaluation;
    run.progress.evaluated(evaluation);
    run.log.info({ step, accuracy, loss }, 'evaluated');
    guard?.evaluated(evaluation);
    onProgress();
  }
}
