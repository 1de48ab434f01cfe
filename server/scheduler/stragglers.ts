import { type Move, moveOf } from './balance.ts';
import type { CompletedStep } from './step-ledger.ts';

/** Quantiles of a worker's step time in milliseconds: from the weights of the step before to its last slice. */
export interface StepTimes {
  readonly median: number;
  readonly p90: number;
}

/** Steps that quantiles are taken over, and how many must be known before slices move. */
const WINDOW = 50;
const ENOUGH = 20;
/** Looks for which the speed of a worker that lost its last slice is taken as it was; doubled each time it loses it again. */
const FIRST_PATIENCE = 8;
const MOST_PATIENCE = 64;

/** What is remembered of a worker that lost its last slice. */
interface Idle {
  readonly perSlice: number;
  /** Count of looks then. */
  readonly since: number;
  readonly patience: number;
}

/**
 * How long workers take for a step, and whether a slice of the slowest should move. It only decides who computes:
 * no bit of the run depends on it.
 */
export class Stragglers {
  readonly #times = new Map<number, { step: number; perSlice: number }[]>();
  readonly #idle = new Map<number, Idle>();
  #looks = 0;

  add({ sliceWorkers, sliceMilliseconds }: CompletedStep): void {
    if (sliceMilliseconds.length !== sliceWorkers.length) return;
    const last = new Map<number, { step: number; slices: number }>();
    sliceWorkers.forEach((worker, slice) => {
      const at = sliceMilliseconds[slice] ?? 0;
      const before = last.get(worker);
      last.set(worker, { step: Math.max(at, before?.step ?? 0), slices: (before?.slices ?? 0) + 1 });
    });
    for (const [worker, { step, slices }] of last) {
      const times = [...(this.#times.get(worker) ?? []), { step, perSlice: step / slices }];
      this.#times.set(worker, times.slice(-WINDOW));
    }
  }

  /** Null before anything is known of the worker. */
  timesOf(worker: number): StepTimes | null {
    const times = (this.#times.get(worker) ?? []).map(({ step }) => step).sort((a, b) => a - b);
    if (times.length === 0) return null;
    return { median: quantile(times, 0.5), p90: quantile(times, 0.9) };
  }

  forget(worker: number): void {
    this.#times.delete(worker);
    this.#idle.delete(worker);
  }

  /** A slice to move from the slowest worker to another, or null where that would not help; a look, see `Idle`. */
  advise(assignment: ReadonlyMap<number, readonly number[]>): Move | null {
    this.#looks += 1;
    const loads = [...assignment].map(([worker, slices]) => {
      // Of one without slices, times can still come in: of steps that were under way when it lost its last.
      const perSlice = slices.length > 0 ? this.#measured(worker) : this.#remembered(worker);
      return { worker, slices, perSlice };
    });
    return moveOf(loads);
  }

  /**
   * After a move, what was measured before it says nothing about the times to come of these two. `left`: slices that
   * `from` still has.
   */
  moved({ from, to }: Pick<Move, 'from' | 'to'>, left: number): void {
    const perSlice = this.#measured(from);
    if (left === 0 && perSlice !== null) {
      const patience = Math.min(MOST_PATIENCE, 2 * (this.#idle.get(from)?.patience ?? FIRST_PATIENCE / 2));
      this.#idle.set(from, { perSlice, since: this.#looks, patience });
    }
    this.#times.delete(from);
    this.#times.delete(to);
  }

  #measured(worker: number): number | null {
    const times = (this.#times.get(worker) ?? []).map(({ perSlice }) => perSlice).sort((a, b) => a - b);
    return times.length < ENOUGH ? null : quantile(times, 0.5);
  }

  #remembered(worker: number): number | null {
    const idle = this.#idle.get(worker);
    return idle && this.#looks - idle.since < idle.patience ? idle.perSlice : null;
  }
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
}
