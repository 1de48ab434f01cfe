import type { StepRecord } from '../../protos/generated/whittle/StepRecord.ts';

const FLUSH_MS = 100;
const FLUSH_STEPS = 64;

/**
 * Gathers step records and hands them on in batches, so that reporting never costs a message a step. Keeps them until
 * the scheduler has written them down: one that takes over is told again.
 */
export class StepReporter {
  readonly #flush: (steps: StepRecord[]) => void;
  #steps: StepRecord[] = [];
  #kept: StepRecord[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(flush: (steps: StepRecord[]) => void) {
    this.#flush = flush;
  }

  add(record: StepRecord, isLast: boolean): void {
    this.#steps.push(record);
    this.#kept.push(record);
    if (isLast || this.#steps.length >= FLUSH_STEPS) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), FLUSH_MS);
  }

  flush(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const steps = this.#steps;
    this.#steps = [];
    if (steps.length > 0) this.#flush(steps);
  }

  /** Hands on again all that is not known to be written down. */
  again(): void {
    this.#steps = [...this.#kept];
    this.flush();
  }

  /** The scheduler has written down the steps up to this one. */
  recorded(step: number): void {
    this.#kept = this.#kept.filter((record) => Number(record.step) > step);
  }

  /** A new generation: what an older one did is no longer of interest. */
  reset(): void {
    this.#steps = [];
    this.#kept = [];
    this.flush();
  }
}
