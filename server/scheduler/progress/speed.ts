import type { CompletedStep } from '../step-ledger.ts';

/** Steps over which speed and bytes are averaged for display. */
const WINDOW = 50;

/** How fast the newest steps were. */
export class Speed {
  readonly #recent: CompletedStep[] = [];

  add(step: CompletedStep): void {
    this.#recent.push(step);
    if (this.#recent.length > WINDOW) this.#recent.shift();
  }

  /** Null where no step was timed. */
  get secondsPerStep(): number | null {
    const timed = this.#recent.filter((step) => step.seconds > 0);
    if (timed.length === 0) return null;
    return timed.reduce((sum, step) => sum + step.seconds, 0) / timed.length;
  }

  /** Of the last step; null before the first. */
  get bytesPerStep(): number | null {
    const last = this.#recent.at(-1);
    return last ? last.bytesPushed + last.bytesPulled : null;
  }
}
