import type { Answer, MaskVersion } from './exchange.ts';

/** What one server can answer pulls with, in one generation. */
export class KeptAnswers {
  /** Steps overlap (ssp, asp): weights change with every slice, and their clock says only what is complete. */
  readonly #overlap: boolean;
  /** Encoded weights of clock t-1 and t: a worker that lags, or a slice lost between servers, needs the older. */
  #newest: readonly Answer[] = [];
  /** ssp, asp: weights of exactly the newest evaluation steps, which later slices change at once. */
  #exact: readonly Answer[] = [];
  #masks: readonly MaskVersion[] = [];

  constructor(overlap: boolean) {
    this.#overlap = overlap;
  }

  /** Oldest first. */
  get newest(): readonly Answer[] {
    return this.#newest;
  }
  /** With those that are kept for their exact clock. */
  get all(): readonly Answer[] {
    return [...this.#exact, ...this.#newest];
  }
  get masks(): readonly MaskVersion[] {
    return this.#masks;
  }
  get clock(): number {
    return this.#newest.at(-1)?.clock ?? 0;
  }
  get maskEpoch(): number {
    return this.#newest.at(-1)?.maskEpoch ?? 0;
  }

  /** `mask`: the shard's bitmap where its epoch is new. */
  add(answer: Answer, mask: Uint8Array | null): void {
    if (mask) this.#masks = [...this.#masks.slice(-1), { epoch: answer.maskEpoch, bits: mask }];
    if (this.#overlap && this.clock !== answer.clock) this.#exact = [...this.#exact.slice(-1), answer];
    this.#newest = this.#overlap ? [answer] : [...this.#newest.slice(-1), answer];
  }

  /** Those that a push may be answered with: they are newer than what it was computed with. */
  after({ clock, maskEpoch }: { readonly clock: number; readonly maskEpoch: number }): readonly Answer[] {
    if (clock > 0) return this.#newest;
    return this.#newest.filter((answer) => answer.maskEpoch > maskEpoch || answer.clock > 0);
  }
}
