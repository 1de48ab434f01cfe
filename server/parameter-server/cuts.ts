import type { RunConfig } from '../../shared/config/types.ts';
import { interventionCuts, interventionsOf } from '../../shared/interventions/calendar.ts';
import { isMaskStep, isRestorePoint } from '../../shared/sparsity/mask-steps.ts';

/** At which clocks all shards stand still together, which of these are checkpoints, and beyond which nothing is applied. */
export class Cuts {
  readonly #config: RunConfig;
  /** Clocks that are cut for interventions, and those beyond which this generation does not go. */
  readonly #interventions: ReadonlySet<number>;
  readonly #ends: readonly number[];
  readonly #asked = new Set<number>();
  #startedAt = -1;
  #stopAt: number | null = null;

  constructor(config: RunConfig) {
    this.#config = config;
    this.#interventions = interventionCuts(config);
    this.#ends = interventionsOf(config).map(({ step }) => step);
  }

  /** From a checkpoint's clock on: an intervention at it is behind. */
  startAt(clock: number): void {
    this.#startedAt = clock;
  }

  /** A checkpoint at a clock that no schedule knows. */
  ask(clock: number): void {
    this.#asked.add(clock);
  }

  /** Nothing is applied beyond `clock`, unless a later one is proposed; an earlier stop is forgotten. */
  propose(clock: number, stop: boolean): void {
    if (this.#stopAt !== null && clock > this.#stopAt) this.#stopAt = null;
    if (stop) this.#stopAt = clock;
  }

  /** While it does pushes wait: a later stop still needs them. */
  stopsAt(clock: number): boolean {
    if (this.#stopAt !== null && clock >= this.#stopAt) return true;
    return clock > this.#startedAt && this.#ends.includes(clock);
  }

  /** Whether a checkpoint is due; one that was asked for is due once. */
  takeCheckpoint(clock: number): boolean {
    return this.#asked.delete(clock) || this.#isCheckpoint(clock);
  }

  /** The next clock after `clock` at which all shards must stand still together: in bsp each. */
  after(clock: number): number {
    let next = clock + 1;
    while (!this.#isCut(next)) next += 1;
    return next;
  }

  /**
   * The least clock whose weights a worker goes on with after `step`, where steps overlap. What is beyond a cut waits at
   * the servers for all that is before it: a worker that ran ahead would fill its stream with it, and a slice before the
   * cut that moves to this worker could not get through.
   */
  boundAfter(step: number): number {
    if (this.#isCut(step)) return step;
    const { mode, staleness } = this.#config.consistency;
    return mode === 'ssp' ? Math.max(0, step - staleness) : 0;
  }

  #isCut(clock: number): boolean {
    const { consistency, training } = this.#config;
    return (
      consistency.mode === 'bsp' ||
      clock >= training.steps ||
      this.#isCheckpoint(clock) ||
      (training.evaluateEvery > 0 && clock % training.evaluateEvery === 0) ||
      this.#asked.has(clock) ||
      clock === this.#stopAt ||
      isMaskStep(this.#config, clock)
    );
  }

  #isCheckpoint(clock: number): boolean {
    const { checkpoint, training } = this.#config;
    if (clock === 0) return false;
    if (isRestorePoint(this.#config, clock)) return true;
    return clock % checkpoint.every === 0 || clock === training.steps || this.#interventions.has(clock);
  }
}
