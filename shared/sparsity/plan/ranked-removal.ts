import type { Parameter } from '../../layout/parameter-space.ts';
import { rangesOf } from '../rules.ts';
import type { HistogramQuery, Scoring, Selection } from '../selection.ts';
import { countAlive, findThresholds, type Threshold } from '../threshold.ts';
import { aliveByParameter, append, type RuleState, type Selections, sum } from './rule-state.ts';

/** So many of the lowest scores of these parameters, ranked together. */
export interface Taking {
  readonly parameters: readonly Parameter[];
  readonly take: number;
}

/**
 * Takes the elements with the lowest scores by exact thresholds, which need tens of KB of counts of a server whatever
 * the model's size. `protect` leaves every parameter its minimum, and wins over the count.
 */
export async function removeLowest(
  state: RuleState,
  takings: readonly Taking[],
  alive: ReadonlyMap<Parameter, number>,
): Promise<{ readonly selections: Selection[][]; readonly protectedCount: number }> {
  const { sources, rule, prior, scoring } = state;
  const acting = takings.filter(({ take }) => take > 0);
  const by = { scoring, population: 'alive' } as const;
  const wanted = acting.map(({ parameters, take }) => ({ ranges: rangesOf(parameters), take }));
  const thresholds = await findThresholds(sources, by, wanted, prior);
  const cuts = acting.map(({ parameters }, i) => ({ parameters, ...(thresholds[i] as Threshold) }));
  const selections = toSelections(sources.length, 'remove', scoring, cuts);
  const parameters = acting.flatMap((taking) => taking.parameters);
  const minimum = rule.protect.minSurvivorsPerParameter;
  if (minimum <= 0 || parameters.length === 0) return { selections, protectedCount: 0 };

  const left = await aliveByParameter(sources, parameters, append(prior, selections));
  const kept = new Map<Parameter, number>();
  for (const parameter of parameters) {
    const enough = Math.min(minimum, alive.get(parameter) ?? 0);
    if ((left.get(parameter) ?? 0) < enough) kept.set(parameter, enough);
  }
  if (kept.size === 0) return { selections, protectedCount: 0 };

  const protectedCount = sum([...kept].map(([parameter, enough]) => enough - (left.get(parameter) ?? 0)));
  const others = await withoutParameters(state, cuts, kept);
  const own = await selectWithin(state, kept, alive);
  return { selections: append(others, own), protectedCount };
}

/** Brings the highest scores among the dead to life. */
export async function growHighest(
  state: RuleState,
  scoring: Scoring,
  takings: readonly Taking[],
  prior: Selections,
): Promise<Selection[][]> {
  const { sources } = state;
  const acting = takings.filter(({ take }) => take > 0);
  const wanted = acting.map(({ parameters, take }) => ({ ranges: rangesOf(parameters), take }));
  const population: HistogramQuery['population'] = 'dead';
  const thresholds = await findThresholds(sources, { scoring, population }, wanted, prior);
  const cuts = acting.map(({ parameters }, i) => ({ parameters, ...(thresholds[i] as Threshold) }));
  return toSelections(sources.length, 'grow', scoring, cuts);
}

interface Cut extends Threshold {
  readonly parameters: readonly Parameter[];
}

/** The selections of `cuts` restricted to the parameters not in `excluded`: the same elements of those, to the tie. */
async function withoutParameters(
  { sources, prior, scoring }: RuleState,
  cuts: readonly Cut[],
  excluded: ReadonlyMap<Parameter, number>,
): Promise<Selection[][]> {
  const parameters = [...excluded.keys()];
  const ranges = parameters.map((parameter) => rangesOf([parameter]));
  const count = (ties: boolean): Promise<number[][]> => {
    const counted = cuts.map((cut) => (ties ? cut : { ...cut, ties: cut.ties.map(() => 0) }));
    return countAlive(sources, ranges, append(prior, toSelections(sources.length, 'remove', scoring, counted)));
  };
  // Quotas of ties count along the whole group: what the excluded parameters took of them must not pass to others.
  const [withTies, withoutTies] = [await count(true), await count(false)];
  return toSelections(
    sources.length,
    'remove',
    scoring,
    cuts.map((cut) => {
      const ofGroup = parameters.flatMap((parameter, p) => (cut.parameters.includes(parameter) ? [p] : []));
      const taken = cut.ties.map((_, source) =>
        sum(ofGroup.map((p) => (withoutTies[p]?.[source] ?? 0) - (withTies[p]?.[source] ?? 0))),
      );
      return {
        parameters: cut.parameters.filter((parameter) => !excluded.has(parameter)),
        threshold: cut.threshold,
        ties: cut.ties.map((quota, source) => quota - (taken[source] ?? 0)),
      };
    }),
  );
}

/** Selections that leave each of these parameters its highest scores, as many as given. */
async function selectWithin(
  { sources, prior, scoring }: RuleState,
  kept: ReadonlyMap<Parameter, number>,
  alive: ReadonlyMap<Parameter, number>,
): Promise<Selection[][]> {
  const wanted = [...kept]
    .map(([parameter, enough]) => ({ parameter, take: (alive.get(parameter) ?? 0) - enough }))
    .filter(({ take }) => take > 0)
    .map(({ parameter, take }) => ({ parameter, ranges: rangesOf([parameter]), take }));
  const thresholds = await findThresholds(sources, { scoring, population: 'alive' }, wanted, prior);
  const cuts = wanted.map(({ parameter }, i) => ({ parameters: [parameter], ...(thresholds[i] as Threshold) }));
  return toSelections(sources.length, 'remove', scoring, cuts);
}

function toSelections(
  numSources: number,
  action: 'remove' | 'grow',
  scoring: Scoring,
  cuts: readonly Cut[],
): Selection[][] {
  return Array.from({ length: numSources }, (_, source) =>
    cuts
      .filter(({ parameters }) => parameters.length > 0)
      .map(({ parameters, threshold, ties }) => ({
        action,
        scoring,
        ranges: rangesOf(parameters),
        threshold,
        ties: ties[source] ?? 0,
      })),
  );
}
