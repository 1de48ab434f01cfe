import type { SparsityRule } from '../shared/config/types.ts';
import type { ParameterSpace } from '../shared/layout/parameter-space.ts';
import { countBits, fullBitmap } from '../shared/sparsity/bitmap.ts';
import { pushedSet } from '../shared/sparsity/gradient-set.ts';

/** What a worker knows of the servers' shards: their ranges, the mask, and so where each one's packed values lie. */
export class ShardView {
  readonly cuts: readonly number[];
  readonly size: number;
  #mask: Uint8Array;
  /** Survivors of each server. */
  readonly counts: number[];

  constructor(cuts: readonly number[]) {
    this.cuts = cuts;
    this.size = cuts.at(-1) ?? 0;
    this.#mask = fullBitmap(this.size);
    this.counts = cuts.slice(1).map((cut, server) => cut - (cuts[server] ?? 0));
  }

  get servers(): number {
    return this.counts.length;
  }

  /** A copy of the bitmap over the whole parameter space. */
  mask(): Uint8Array {
    return this.#mask.slice();
  }

  /** Takes a server's bitmap. Cuts are multiples of 64, so it begins at a byte. */
  setMask(server: number, bits: Uint8Array): void {
    const start = this.cuts[server] ?? 0;
    // Copied, so that sets made of it can tell that it changed.
    this.#mask = this.#mask.slice();
    this.#mask.set(bits, start / 8);
    this.counts[server] = countBits(bits, 0, (this.cuts[server + 1] ?? start) - start);
  }

  /** Where `server`'s values begin and end in the packed values of the whole space. */
  packedRange(server: number): readonly [begin: number, end: number] {
    let begin = 0;
    for (let i = 0; i < server; i += 1) begin += this.counts[i] ?? 0;
    return [begin, begin + (this.counts[server] ?? 0)];
  }

  /**
   * Where each server's values begin in a packed gradient of `step`, and where the last ends: [servers + 1]. Gradients
   * cover the survivors, and at some steps dead elements that a rule looks at.
   */
  pushCuts(rules: readonly SparsityRule[], space: ParameterSpace, step: number): number[] {
    const set = pushedSet(this.#mask, 0, this.size, rules, space, step);
    const counts =
      set === this.#mask ? this.counts : this.cuts.slice(1).map((cut, i) => countBits(set, this.cuts[i], cut));
    const cuts = [0];
    for (const count of counts) cuts.push((cuts.at(-1) ?? 0) + count);
    return cuts;
  }
}
