import { WhittleError } from '../errors.ts';
import type { ParameterSpace } from '../layout/parameter-space.ts';
import { clearBit, countBits, setPositions } from './bitmap.ts';
import { isFiniteKey, keysInPlace } from './criterion/key.ts';
import { criterionNamed } from './criterion/index.ts';
import { compact, nextMask } from './mask-rule.ts';

/** Flat indices [start, end). */
export type Range = readonly [start: number, end: number];

/**
 * Which elements one server removes: of those alive in `ranges` all whose key is below `threshold`, and the
 * first `ties` of those whose key equals it, in flat order. Selections of a list act one after another.
 */
export interface Selection {
  /** Ascending and apart from each other. */
  readonly ranges: readonly Range[];
  /** uint32. */
  readonly threshold: number;
  readonly ties: number;
}

/** One round of counting, to be answered for the state after `prior`. Mirrors the Histogram rpc. */
export interface HistogramQuery {
  readonly criterion: string;
  /** One histogram each; the ranges of each ascending. */
  readonly groups: readonly (readonly Range[])[];
  /** What earlier rules of the same update remove, on this server. */
  readonly prior: readonly Selection[];
  /** 0: alive elements only, one count a group. 1, 2, 3: by key bits 31..21, 20..10, 9..0. */
  readonly round: HistogramRound;
  /** Per group the key bits above those counted: unused in rounds 0 and 1, 11 bits in 2, 22 bits in 3. */
  readonly prefixes: readonly number[];
}
export type HistogramRound = 0 | 1 | 2 | 3;

/** A server that answers rounds: in the same process, or behind the Histogram rpc. */
export interface SelectionSource {
  /** Counts by group: 1, 2048, 2048 or 1024 bins in rounds 0 to 3. */
  histogram(query: HistogramQuery): Promise<readonly (readonly number[])[]>;
}

/** How the key is cut: the bins of a round are `(key >>> shift) & (bins - 1)`, among keys with the prefix. */
export const ROUNDS = [
  { bins: 1, shift: 0, prefixShift: 0 },
  { bins: 2048, shift: 21, prefixShift: 0 },
  { bins: 2048, shift: 10, prefixShift: 21 },
  { bins: 1024, shift: 0, prefixShift: 10 },
] as const;

/** What a server knows of its shard when it holds for a mask update. Nothing of it is changed. */
export interface ShardView {
  /** Flat range [start, end) of the shard; bit i of the bitmaps is element start + i. */
  readonly start: number;
  readonly end: number;
  readonly mask: Uint8Array;
  /** A superset of the mask; left out where it is the mask, as pruning compacts at once. */
  readonly stored?: Uint8Array;
  /** Packed over `stored`. */
  readonly weights: Float32Array;
  /** Names parameters in errors. */
  readonly space?: ParameterSpace;
}

/** Alive elements of a shard with their sort keys. */
interface Ranking {
  readonly alive: Uint8Array;
  /** Packed over `alive`. */
  readonly keys: Uint32Array;
}

/** Answers histogram rounds on one shard, and applies the selections that come of them. Keeps 4 bytes a survivor. */
export class LocalSelection {
  readonly start: number;
  readonly end: number;
  readonly #shard: ShardView;
  /** Rankings by criterion and prior selections; an update asks several rounds about the same state. */
  readonly #rankings = new Map<string, Ranking>();

  constructor(shard: ShardView) {
    this.start = shard.start;
    this.end = shard.end;
    this.#shard = shard;
  }

  /** Read-only, repeatable. Throws NOT_FINITE, in round 1, where the score of an alive element is NaN or infinite. */
  histogram(query: HistogramQuery): number[][] {
    const ranking = this.#ranking(query.criterion, query.prior);
    const { bins, shift, prefixShift } = ROUNDS[query.round];
    return query.groups.map((ranges, group) => {
      const counts = new Array<number>(bins).fill(0);
      const prefix = query.prefixes[group] ?? 0;
      for (const [from, to] of this.#packedRanges(ranking.alive, ranges)) {
        if (query.round === 0) counts[0] = (counts[0] as number) + to - from;
        else if (query.round === 1) countKeys(ranking.keys, from, to, shift, counts);
        else countKeysUnder(ranking.keys, from, to, shift, prefix, prefixShift, counts);
      }
      if (query.round === 1) this.#refuseNonFinite(query.criterion, ranking, ranges, counts);
      return counts;
    });
  }

  /** Bitmap of what `selections` remove from the mask. The mask itself stays as it is. */
  removed(selections: readonly Selection[], criterion = 'magnitude'): Uint8Array {
    return nextMask(this.#shard.mask, this.#ranking(criterion, selections).alive);
  }

  #ranking(criterion: string, prior: readonly Selection[]): Ranking {
    const id = JSON.stringify([criterion, prior]);
    const known = this.#rankings.get(id);
    if (known !== undefined) return known;
    const ranking =
      prior.length === 0
        ? this.#rank(criterion)
        : prior.reduce((state, selection) => this.#apply(state, selection), this.#ranking(criterion, []));
    // The first entry is the state before any selection, from which all others are made.
    if (this.#rankings.size >= 3) this.#rankings.delete([...this.#rankings.keys()][1] as string);
    this.#rankings.set(id, ranking);
    return ranking;
  }

  #rank(criterion: string): Ranking {
    const { mask, stored, weights } = this.#shard;
    const survivors = stored === undefined ? weights : compact(weights, stored, mask);
    const scores = criterionNamed(criterion).scores({
      weights: survivors,
      statistic: new Float32Array(0),
      gradients: null,
      secondMoment: null,
      indices: () => Float64Array.from(setPositions(mask), (position) => this.start + position),
      seed: 0,
    });
    return { alive: mask, keys: keysInPlace(scores) };
  }

  #apply(ranking: Ranking, selection: Selection): Ranking {
    const alive = ranking.alive.slice();
    let ties = selection.ties;
    for (const [start, end] of selection.ranges) {
      const from = Math.max(start, this.start) - this.start;
      const to = Math.min(end, this.end) - this.start;
      if (from >= to) continue;
      let at = countBits(ranking.alive, 0, from);
      for (const position of setPositions(ranking.alive, from, to)) {
        const key = ranking.keys[at++] as number;
        if (key < selection.threshold || (key === selection.threshold && ties-- > 0)) clearBit(alive, position);
      }
    }
    return { alive, keys: compact(ranking.keys, ranking.alive, alive) };
  }

  /** Where the alive elements of `ranges` lie in arrays packed over `alive`. */
  *#packedRanges(alive: Uint8Array, ranges: readonly Range[]): Generator<Range> {
    let position = 0;
    let before = 0;
    for (const [start, end] of ranges) {
      const from = Math.max(start, this.start) - this.start;
      const to = Math.min(end, this.end) - this.start;
      if (from >= to) continue;
      before = from < position ? countBits(alive, 0, from) : before + countBits(alive, position, from);
      const after = before + countBits(alive, from, to);
      yield [before, after];
      position = to;
      before = after;
    }
  }

  #refuseNonFinite(criterion: string, ranking: Ranking, ranges: readonly Range[], counts: number[]): void {
    // Bins 0..3 and 2044..2047 of round 1 hold nothing but infinities and NaN.
    const isClean = [0, 1, 2, 3, 2044, 2045, 2046, 2047].every((bin) => counts[bin] === 0);
    if (isClean) return;
    const positions = setPositions(ranking.alive);
    for (const [from, to] of this.#packedRanges(ranking.alive, ranges)) {
      for (let i = from; i < to; i++) {
        if (isFiniteKey(ranking.keys[i] as number)) continue;
        const index = this.start + (positions[i] as number);
        const parameter = this.#shard.space?.at(index)?.name;
        throw new WhittleError(
          'NOT_FINITE',
          `the ${criterion} score of element ${index}${parameter === undefined ? '' : ` (in ${parameter})`} is NaN or ` +
            'infinite, so elements cannot be ranked; lower the learning rate or set training.clipNorm',
          { data: { criterion, index, parameter: parameter ?? null } },
        );
      }
    }
  }
}

function countKeys(keys: Uint32Array, from: number, to: number, shift: number, counts: number[]): void {
  for (let i = from; i < to; i++) {
    const bin = (keys[i] as number) >>> shift;
    counts[bin] = (counts[bin] as number) + 1;
  }
}

function countKeysUnder(
  keys: Uint32Array,
  from: number,
  to: number,
  shift: number,
  prefix: number,
  prefixShift: number,
  counts: number[],
): void {
  const lastBin = counts.length - 1;
  for (let i = from; i < to; i++) {
    const key = keys[i] as number;
    if (key >>> prefixShift !== prefix) continue;
    const bin = (key >>> shift) & lastBin;
    counts[bin] = (counts[bin] as number) + 1;
  }
}
