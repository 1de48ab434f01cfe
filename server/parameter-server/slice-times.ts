/**
 * How long each slice of a step took: from the last answer to the worker that sent it until it arrived, so that waiting
 * for others is no part of it, in lockstep or not. Shows who is slow; decides nothing here.
 */
export class SliceTimes {
  readonly #arrivals = new Map<number, number[]>();

  /** A slice is here, so many milliseconds after its sender had weights to compute it with; its first copy counts. */
  arrived(step: number, slice: number, milliseconds: number): void {
    let times = this.#arrivals.get(step);
    if (!times) this.#arrivals.set(step, (times = []));
    times[slice] ??= milliseconds;
  }

  /** Milliseconds by slice; empty where nothing is known of the step. */
  take(step: number): number[] {
    const times = this.#arrivals.get(step) ?? [];
    for (const known of [...this.#arrivals.keys()]) if (known <= step) this.#arrivals.delete(known);
    return Array.from(times, (time) => time ?? 0);
  }

  reset(): void {
    this.#arrivals.clear();
  }
}
