import { WhittleError } from '../errors.ts';
import {
  ROUNDS,
  type HistogramQuery,
  type Range,
  type Scoring,
  type Selection,
  type SelectionSource,
} from './selection.ts';

/** Who is ranked, and how. */
export interface RankedBy {
  readonly scoring: Scoring;
  readonly population: HistogramQuery['population'];
}

/** Elements ranked together, and how many of them to take: 1 .. elements of the population in `ranges`. */
export interface Wanted {
  readonly ranges: readonly Range[];
  readonly take: number;
}

/** The key up to which a group is taken, and how many of those with exactly this key are on each source. */
export interface Threshold {
  readonly threshold: number;
  /** In source order; they go by ascending flat index, as sources are in cut order. */
  readonly ties: readonly number[];
}

/** What every source keeps of the same state: alive elements by group, then by source. */
export async function countAlive(
  sources: readonly SelectionSource[],
  groups: readonly (readonly Range[])[],
  prior: readonly (readonly Selection[])[],
): Promise<number[][]> {
  if (groups.length === 0) return [];
  const counted = { scoring: { criterion: '', seed: 0 }, population: 'alive' } as const;
  const answers = await ask(sources, { ...counted, groups, round: 0, prefixes: groups.map(() => 0) }, prior);
  return groups.map((_, group) => answers.map((answer) => answer[group]?.[0] ?? 0));
}

/**
 * The exact thresholds of all groups at once, by radix refinement of the sort keys: three rounds fix 11, 11
 * and 10 bits each from the summed histograms of all sources, whatever the number of elements.
 * Throws PROTOCOL where the sources' counts do not add up.
 */
export async function findThresholds(
  sources: readonly SelectionSource[],
  by: RankedBy,
  wanted: readonly Wanted[],
  prior: readonly (readonly Selection[])[],
): Promise<Threshold[]> {
  if (wanted.length === 0) return [];
  const groups = wanted.map(({ ranges }) => ranges);
  /** Still to be taken among the keys with the prefix found so far. */
  const rest = wanted.map(({ take }) => take);
  const prefixes = wanted.map(() => 0);
  let equal: number[][] = [];
  for (const round of [1, 2, 3] as const) {
    const { bins } = ROUNDS[round];
    const answers = await ask(sources, { ...by, groups, round, prefixes: [...prefixes] }, prior);
    equal = groups.map((_, group) => {
      const bySource = answers.map((answer) => answer[group] ?? []);
      const bin = binOf(bySource, bins, rest, group);
      prefixes[group] = (prefixes[group] as number) * bins + bin;
      return bySource.map((counts) => counts[bin] ?? 0);
    });
  }
  return wanted.map((_, group) => {
    let left = rest[group] as number;
    const ties = (equal[group] ?? []).map((count) => {
      const taken = Math.min(count, left);
      left -= taken;
      return taken;
    });
    return { threshold: prefixes[group] as number, ties };
  });
}

/** The bin in which the last element to take lies; takes the bins below it off `rest`. */
function binOf(bySource: readonly (readonly number[])[], bins: number, rest: number[], group: number): number {
  let left = rest[group] as number;
  for (let bin = 0; bin < bins; bin++) {
    let count = 0;
    for (const counts of bySource) count += counts[bin] ?? 0;
    if (left <= count) {
      rest[group] = left;
      return bin;
    }
    left -= count;
  }
  throw new WhittleError('PROTOCOL', `the servers' histograms lack ${left} of the elements they counted`);
}

async function ask(
  sources: readonly SelectionSource[],
  query: Omit<HistogramQuery, 'prior'>,
  prior: readonly (readonly Selection[])[],
): Promise<(readonly (readonly number[])[])[]> {
  return Promise.all(sources.map((source, i) => source.histogram({ ...query, prior: prior[i] ?? [] })));
}
