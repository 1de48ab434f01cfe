import type { StepRecord } from '../../protos/generated/whittle/StepRecord.ts';

const FLUSH_MS = 100;
const FLUSH_STEPS = 64;

/** Gathers step records and hands them on in batches, so that reporting never costs a message a step. */
export class StepReporter {
  readonly #flush: (steps: StepRecord[]) => void;
  #steps: StepRecord[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(flush: (steps: StepRecord[]) => void) {
    this.#flush = flush;
  }

  add(record: StepRecord, isLast: boolean): void {
    this.#steps.push(record);
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
}
