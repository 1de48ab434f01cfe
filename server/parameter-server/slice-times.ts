/** How long after the answer of the step before each slice of a step arrived: what shows who is slow. Decides nothing here. */
export class SliceTimes {
  readonly #now: () => number;
  #answered: { readonly clock: number; readonly at: number } | null = null;
  readonly #arrivals = new Map<number, number[]>();

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** The weights of `clock` go out: the next step begins. */
  answered(clock: number): void {
    this.#answered = { clock, at: this.#now() };
  }

  /** A slice is here; its first copy counts. */
  arrived(step: number, slice: number): void {
    if (this.#answered?.clock !== step - 1) return;
    let times = this.#arrivals.get(step);
    if (!times) this.#arrivals.set(step, (times = []));
    times[slice] ??= this.#now() - this.#answered.at;
  }

  /** Milliseconds by slice; empty where nothing is known of the step. */
  take(step: number): number[] {
    const times = this.#arrivals.get(step) ?? [];
    for (const known of [...this.#arrivals.keys()]) if (known <= step) this.#arrivals.delete(known);
    return Array.from(times, (time) => time ?? 0);
  }

  reset(): void {
    this.#answered = null;
    this.#arrivals.clear();
  }
}
