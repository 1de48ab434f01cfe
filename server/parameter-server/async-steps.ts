import type { Push } from './shard.ts';

interface OpenStep {
  readonly slices: Set<number>;
  readonly workers: number[];
  loss: number;
}

/**
 * Which slices of which steps are applied where steps overlap (ssp, asp), and which pushes wait for a cut: at a cut,
 * all slices up to its step are applied and none of a later one.
 */
export class AsyncSteps {
  readonly #slices: number;
  readonly #open = new Map<number, OpenStep>();
  readonly #waiting = new Map<string, Push>();
  #newest = 0;

  constructor(slices: number) {
    this.#slices = slices;
  }

  /** The latest step of which anything is applied. */
  get newest(): number {
    return this.#newest;
  }

  /** Steps begun anew from a checkpoint's clock. */
  startAt(clock: number): void {
    this.#newest = clock;
  }

  /** Whether this slice is applied or waits already. */
  has(step: number, slice: number): boolean {
    return (this.#open.get(step)?.slices.has(slice) ?? false) || this.#waiting.has(`${step}/${slice}`);
  }

  wait(push: Push): void {
    this.#waiting.set(`${push.step}/${push.slice}`, push);
  }

  /** Takes out the waiting pushes of steps up to `limit`, by step and slice. */
  takeWaiting(limit: number): Push[] {
    const ready = [...this.#waiting.values()].filter(({ step }) => step <= limit);
    for (const { step, slice } of ready) this.#waiting.delete(`${step}/${slice}`);
    return ready.sort((a, b) => a.step - b.step || a.slice - b.slice);
  }

  /** Records an applied slice. `share`: its part of the global batch. */
  applied(push: Push, share: number): void {
    let open = this.#open.get(push.step);
    if (!open) this.#open.set(push.step, (open = { slices: new Set(), workers: [], loss: 0 }));
    open.slices.add(push.slice);
    open.workers[push.slice] = push.sender;
    open.loss += share * push.loss;
    this.#newest = Math.max(this.#newest, push.step);
  }

  /** Takes out the step if all its slices are applied. */
  takeComplete(step: number): { readonly loss: number; readonly workers: readonly number[] } | null {
    const open = this.#open.get(step);
    if (open?.slices.size !== this.#slices) return null;
    this.#open.delete(step);
    return open;
  }
}
