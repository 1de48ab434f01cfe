import { countBits, fullBitmap } from '../shared/sparsity/bitmap.ts';

/** What a worker knows of the servers' shards: their ranges, the mask, and so where each one's packed values lie. */
export class ShardView {
  readonly cuts: readonly number[];
  readonly size: number;
  readonly #mask: Uint8Array;
  /** Stored elements of each server. */
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
    this.#mask.set(bits, start / 8);
    this.counts[server] = countBits(bits, 0, (this.cuts[server + 1] ?? start) - start);
  }

  /** Where `server`'s values begin and end in the packed values of the whole space. */
  packedRange(server: number): readonly [begin: number, end: number] {
    let begin = 0;
    for (let i = 0; i < server; i += 1) begin += this.counts[i] ?? 0;
    return [begin, begin + (this.counts[server] ?? 0)];
  }
}
