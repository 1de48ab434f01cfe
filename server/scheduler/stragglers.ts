import type { CompletedStep } from './step-ledger.ts';

/** Quantiles of a worker's step time in milliseconds: from the weights of the step before to its last slice. */
export interface StepTimes {
  readonly median: number;
  readonly p90: number;
}

/** Steps that quantiles are taken over, and how many must be known before slices move. */
const WINDOW = 50;
const ENOUGH = 20;
/** A slice moves only where the slowest worker's step becomes shorter by this share: less is noise. */
const WORTH_MOVING = 0.15;

/**
 * How long workers take for a step, and whether a slice of the slowest should move. It only decides who computes:
 * no bit of the run depends on it.
 */
export class Stragglers {
  readonly #times = new Map<number, { step: number; perSlice: number }[]>();

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
  }

  /** A slice to move from the slowest worker to another, or null where that would not help. */
  advise(
    assignment: ReadonlyMap<number, readonly number[]>,
  ): { readonly from: number; readonly to: number; readonly slice: number } | null {
    const loads: { worker: number; slices: readonly number[]; perSlice: number }[] = [];
    for (const [worker, slices] of assignment) {
      // Nothing is known of one without slices: it gets some when the others are told apart no more.
      if (slices.length === 0) continue;
      const times = (this.#times.get(worker) ?? []).map(({ perSlice }) => perSlice).sort((a, b) => a - b);
      if (times.length < ENOUGH) return null;
      loads.push({ worker, slices, perSlice: quantile(times, 0.5) });
    }
    const slowest = most(loads, ({ slices, perSlice }) => slices.length * perSlice);
    const slice = slowest?.slices.at(-1);
    if (!slowest || slice === undefined) return null;
    const to = most(
      loads.filter((load) => load !== slowest),
      ({ slices, perSlice }) => -(slices.length + 1) * perSlice,
    );
    if (!to) return null;
    const now = slowest.slices.length * slowest.perSlice;
    const then = Math.max((slowest.slices.length - 1) * slowest.perSlice, (to.slices.length + 1) * to.perSlice);
    return then < (1 - WORTH_MOVING) * now ? { from: slowest.worker, to: to.worker, slice } : null;
  }

  /** After a move, what was measured before it says nothing about the times to come of these two. */
  moved(from: number, to: number): void {
    this.#times.delete(from);
    this.#times.delete(to);
  }
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
}

function most<T>(items: readonly T[], weight: (item: T) => number): T | undefined {
  return items.reduce<T | undefined>((a, b) => (a === undefined || weight(b) > weight(a) ? b : a), undefined);
}
