import { WhittleError } from '../errors.ts';
import type { ParameterSpace } from '../layout/parameter-space.ts';
import { clearBit, complement, countBits, setBit, setPositions, setRange, sliceBits } from './bitmap.ts';
import { criterionNamed } from './criterion/index.ts';
import { isFiniteKey, keysInPlace } from './criterion/key.ts';
import { repack } from './mask-rule.ts';
import type { Range } from './rules.ts';

export type { Range } from './rules.ts';

/** How elements are scored: by a criterion, or for regrowth by `regrowthGradient`, the magnitude of the newest gradient. */
export interface Scoring {
  readonly criterion: string;
  /** uint32, for criteria that draw lots. */
  readonly seed: number;
}

/**
 * A change of the mask on one server. Those of a list act one after another:
 * - `remove`: of what is alive in `ranges` all whose key is below `threshold`, and the first `ties` of those whose
 *   key equals it, in flat order, die;
 * - `grow`: of what is dead in `ranges` the same come to life, with zero weight and fresh optimizer slots, ranked by
 *   the key of the negated score, so that the highest score comes first;
 * - `revive`: all in `ranges` come to life, with the latent weight that is kept of them or else with zero;
 * - `kill`: the elements whose bit is set die; bit 0 is element `start`.
 */
export type Selection =
  | {
      readonly action: 'remove' | 'grow';
      readonly scoring: Scoring;
      /** Ascending and apart from each other. */
      readonly ranges: readonly Range[];
      /** uint32. */
      readonly threshold: number;
      readonly ties: number;
    }
  | { readonly action: 'revive'; readonly ranges: readonly Range[] }
  | { readonly action: 'kill'; readonly start: number; /** Base64. */ readonly bits: string };

/** One round of counting, to be answered for the state after `prior`. Mirrors the Histogram rpc. */
export interface HistogramQuery {
  readonly scoring: Scoring;
  /** Who is ranked: what is alive by ascending score, or what is dead by descending score. */
  readonly population: 'alive' | 'dead';
  /** One histogram each; the ranges of each ascending. */
  readonly groups: readonly (readonly Range[])[];
  /** What the same update has decided before, on this server. */
  readonly prior: readonly Selection[];
  /** 0: elements only, one count a group. 1, 2, 3: by key bits 31..21, 20..10, 9..0. */
  readonly round: HistogramRound;
  /** Per group the key bits above those counted: unused in rounds 0 and 1, 11 bits in 2, 22 bits in 3. */
  readonly prefixes: readonly number[];
}
export type HistogramRound = 0 | 1 | 2 | 3;

/** Asks for the scores themselves, for rules that rank units or whole parameters. Mirrors the Scores rpc. */
export interface ScoresQuery {
  readonly scoring: Scoring;
  /** Answered for its part within the server's shard; at most `MAX_SCORES` elements. */
  readonly range: Range;
  readonly prior: readonly Selection[];
  /** In place of scores the values of the non-trainable state in `range`, which the first source holds; all are alive. */
  readonly ofState?: boolean;
}
export interface ScoresAnswer {
  /** Bitmap of what is alive in the part; bit 0 is its first element. */
  readonly alive: Uint8Array;
  /** Packed over it. */
  readonly scores: Float32Array;
}

/** Elements of one Scores query: 1 MiB of scores. */
export const MAX_SCORES = 1 << 18;

/** A server that answers: in the same process, or behind rpcs. */
export interface SelectionSource {
  /** Counts by group: 1, 2048, 2048 or 1024 bins in rounds 0 to 3. */
  histogram(query: HistogramQuery): Promise<readonly (readonly number[])[]>;
  scores(query: ScoresQuery): Promise<ScoresAnswer>;
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
  /** Running statistics of criteria by name, and the optimizer's second moment, packed over `stored`. */
  readonly statistics?: ReadonlyMap<string, Float32Array>;
  readonly secondMoment?: Float32Array | null;
  /** Reduced gradients of the newest step, packed over a set of their own. */
  readonly gradients?: { readonly set: Uint8Array; readonly values: Float32Array } | null;
  /** Names parameters in errors. */
  readonly space?: ParameterSpace;
}

/** A ranked set with its sort keys. */
interface Ranking {
  readonly set: Uint8Array;
  /** Packed over `set`. */
  readonly keys: Uint32Array;
}

/** The mask after selections. */
export interface Selected {
  readonly mask: Uint8Array;
  /** What `grow` brought to life and is alive: zero weight, fresh slots. */
  readonly grown: Uint8Array;
}

/** Answers questions about one shard, and applies the selections that come of them. Keeps a few bytes an element. */
export class LocalSelection {
  readonly start: number;
  readonly end: number;
  readonly #shard: ShardView;
  /** By question; an update asks several rounds about the same state. */
  readonly #rankings = new Map<string, Ranking>();
  readonly #states = new Map<string, Selected>();

  constructor(shard: ShardView) {
    this.start = shard.start;
    this.end = shard.end;
    this.#shard = shard;
  }

  /** Read-only, repeatable. Throws NOT_FINITE, in round 1, where the score of a ranked element is NaN or infinite. */
  histogram(query: HistogramQuery): number[][] {
    const { round, population, scoring } = query;
    const { bins, shift, prefixShift } = ROUNDS[round];
    if (round === 0) {
      const set = this.#population(population, query.prior);
      return query.groups.map((ranges) => [
        ranges.reduce((sum, range) => sum + countBits(set, ...this.#local(range)), 0),
      ]);
    }
    const ranking = this.#ranking(scoring, population, query.prior);
    return query.groups.map((ranges, group) => {
      const counts = new Array<number>(bins).fill(0);
      const prefix = query.prefixes[group] ?? 0;
      for (const [from, to] of this.#packedRanges(ranking.set, ranges)) {
        if (round === 1) countKeys(ranking.keys, from, to, shift, counts);
        else countKeysUnder(ranking.keys, from, to, shift, prefix, prefixShift, counts);
      }
      if (round === 1) this.#refuseNonFinite(scoring.criterion, ranking, ranges, counts);
      return counts;
    });
  }

  /** Read-only, repeatable. Throws NOT_FINITE where the score of an alive element is NaN or infinite. */
  scores(query: ScoresQuery): ScoresAnswer {
    const [from, to] = this.#local(query.range);
    const alive = sliceBits(this.#population('alive', query.prior), from, to);
    const set = new Uint8Array(this.#shard.mask.length);
    for (const position of setPositions(alive)) setBit(set, from + position);
    const scores = this.#scores(query.scoring, set);
    const bad = scores.findIndex((score) => !Number.isFinite(score));
    if (bad >= 0) throw this.#notFinite(query.scoring.criterion, setPositions(set)[bad] as number);
    return { alive, scores };
  }

  /** What `selections` make of the mask. The mask itself stays as it is. */
  selected(selections: readonly Selection[]): Selected {
    const id = JSON.stringify(selections);
    const known = this.#states.get(id);
    if (known !== undefined) return known;
    const last = selections.at(-1);
    const state =
      last === undefined
        ? { mask: this.#shard.mask, grown: new Uint8Array(this.#shard.mask.length) }
        : this.#apply(this.selected(selections.slice(0, -1)), selections.slice(0, -1), last);
    if (this.#states.size >= 4) this.#states.delete([...this.#states.keys()][0] as string);
    this.#states.set(id, state);
    return state;
  }

  #population(population: 'alive' | 'dead', prior: readonly Selection[]): Uint8Array {
    const { mask } = this.selected(prior);
    return population === 'alive' ? mask : complement(mask, this.end - this.start);
  }

  #ranking(scoring: Scoring, population: 'alive' | 'dead', prior: readonly Selection[]): Ranking {
    const id = JSON.stringify([scoring, population, prior]);
    const known = this.#rankings.get(id);
    if (known !== undefined) return known;
    const set = this.#population(population, prior);
    const scores = this.#scores(scoring, set);
    if (population === 'dead') for (let i = 0; i < scores.length; i++) scores[i] = -(scores[i] as number);
    const ranking = { set, keys: keysInPlace(scores) };
    if (this.#rankings.size >= 2) this.#rankings.delete([...this.#rankings.keys()][0] as string);
    this.#rankings.set(id, ranking);
    return ranking;
  }

  /** Scores packed over `set`, in a new array. */
  #scores({ criterion: name, seed }: Scoring, set: Uint8Array): Float32Array {
    const { mask, stored = mask, weights, statistics, secondMoment, gradients } = this.#shard;
    const over = (values: Float32Array): Float32Array => (set === stored ? values : repack(values, stored, set));
    const gradient = gradients ? repack(gradients.values, gradients.set, set) : null;
    if (name === 'regrowthGradient') {
      if (!gradient)
        throw new WhittleError('PROTOCOL', 'regrowth by gradient is asked for, and no gradients are at hand');
      return gradient.map(Math.abs);
    }
    const criterion = criterionNamed(name);
    const statistic = criterion.statistic ? statistics?.get(criterion.statistic.name) : undefined;
    return criterion.scores({
      weights: over(weights),
      statistic: statistic ? over(statistic) : new Float32Array(0),
      gradients: gradient,
      secondMoment: secondMoment ? over(secondMoment) : null,
      indices: () => Float64Array.from(setPositions(set), (position) => this.start + position),
      seed,
    });
  }

  #apply(before: Selected, prior: readonly Selection[], selection: Selection): Selected {
    const mask = before.mask.slice();
    const grown = before.grown.slice();
    switch (selection.action) {
      case 'revive':
        for (const range of selection.ranges) setRange(mask, ...this.#local(range));
        break;
      case 'kill': {
        const offset = selection.start - this.start;
        for (const position of setPositions(new Uint8Array(Buffer.from(selection.bits, 'base64')))) {
          clearBit(mask, offset + position);
          clearBit(grown, offset + position);
        }
        break;
      }
      case 'remove':
        this.#choose(selection, this.#ranking(selection.scoring, 'alive', prior), (position) => {
          clearBit(mask, position);
          clearBit(grown, position);
        });
        break;
      case 'grow':
        this.#choose(selection, this.#ranking(selection.scoring, 'dead', prior), (position) => {
          setBit(mask, position);
          setBit(grown, position);
        });
    }
    return { mask, grown };
  }

  #choose(
    { ranges, threshold, ties }: { ranges: readonly Range[]; threshold: number; ties: number },
    { set, keys }: Ranking,
    chosen: (position: number) => void,
  ): void {
    let left = ties;
    for (const range of ranges) {
      const [from, to] = this.#local(range);
      if (from >= to) continue;
      let at = countBits(set, 0, from);
      for (const position of setPositions(set, from, to)) {
        const key = keys[at++] as number;
        if (key < threshold || (key === threshold && left-- > 0)) chosen(position);
      }
    }
  }

  /** The part of a flat range in this shard, counted from its start; empty where begin >= end. */
  #local([start, end]: Range): [from: number, to: number] {
    const from = Math.max(start, this.start) - this.start;
    return [from, Math.max(from, Math.min(end, this.end) - this.start)];
  }

  /** Where the elements of `ranges` lie in arrays packed over `set`. */
  *#packedRanges(set: Uint8Array, ranges: readonly Range[]): Generator<Range> {
    let position = 0;
    let before = 0;
    for (const range of ranges) {
      const [from, to] = this.#local(range);
      if (from >= to) continue;
      before = from < position ? countBits(set, 0, from) : before + countBits(set, position, from);
      const after = before + countBits(set, from, to);
      yield [before, after];
      position = to;
      before = after;
    }
  }

  #refuseNonFinite(criterion: string, ranking: Ranking, ranges: readonly Range[], counts: number[]): void {
    // Bins 0..3 and 2044..2047 of round 1 hold nothing but infinities and NaN.
    const isClean = [0, 1, 2, 3, 2044, 2045, 2046, 2047].every((bin) => counts[bin] === 0);
    if (isClean) return;
    const positions = setPositions(ranking.set);
    for (const [from, to] of this.#packedRanges(ranking.set, ranges)) {
      for (let i = from; i < to; i++) {
        if (!isFiniteKey(ranking.keys[i] as number)) throw this.#notFinite(criterion, positions[i] as number);
      }
    }
  }

  #notFinite(criterion: string, position: number): WhittleError {
    const index = this.start + position;
    const parameter = this.#shard.space?.at(index)?.name;
    return new WhittleError(
      'NOT_FINITE',
      `the ${criterion} score of element ${index}${parameter === undefined ? '' : ` (in ${parameter})`} is NaN or ` +
        'infinite, so elements cannot be ranked; lower the learning rate or set training.clipNorm',
      { data: { criterion, index, parameter: parameter ?? null } },
    );
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
