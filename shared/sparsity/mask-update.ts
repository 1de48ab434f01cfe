import type { SparsityRule } from '../config/types.ts';
import type { Parameter, ParameterSpace } from '../layout/parameter-space.ts';
import type { AllocationGroup } from './allocation/allocation.ts';
import { allocate } from './allocation/index.ts';
import { matches } from './rules.ts';
import { isUpdateStep, sparsityAt } from './schedule/index.ts';
import type { Range, Selection, SelectionSource } from './selection.ts';
import { countAlive, findThresholds, type Threshold } from './threshold.ts';

export { matches } from './rules.ts';

export interface MaskUpdate {
  readonly rules: readonly SparsityRule[];
  readonly space: ParameterSpace;
  /** Those rules act whose schedule has an update at this step. */
  readonly step: number;
  /** The servers, in cut order. */
  readonly sources: readonly SelectionSource[];
}

/** What a mask commit carries, and what the report says of it. */
export interface MaskPlan {
  /** Per source, in the order in which they act. */
  readonly selections: readonly (readonly Selection[])[];
  /** One for each rule that acted, in list order. */
  readonly reports: readonly RuleReport[];
}

export interface RuleReport {
  /** Index of the rule in the run file. */
  readonly rule: number;
  /** Sparsity in force at this step. */
  readonly sparsity: number;
  /** Elements that the rule matches. */
  readonly matched: number;
  /** Of these, what the schedule wants dead. */
  readonly targetRemoved: number;
  /** Dead elements among those matched, after this rule. */
  readonly removed: number;
  readonly newlyRemoved: number;
  /** Elements that `protect` kept though they ranked among those to remove. */
  readonly protectedCount: number;
  /** True where more was already dead than the rule wants, in any of its groups; there it removes nothing. */
  readonly pastTarget: boolean;
}

/** The selections of one rule by source, and how many elements `protect` kept. */
interface Decision {
  readonly selections: readonly (readonly Selection[])[];
  readonly protectedCount: number;
}

/**
 * Decides one mask update from counts alone: which of the servers' elements die. Rules act in list order, each
 * on what the ones before left alive. What is dead already counts first and is never ranked.
 *
 * A pure function of the held state: it may be repeated at any point and gives the same plan for any shard map.
 * Each rule takes a count and three histogram rounds; with `protect`, one more count, and where a parameter
 * would fall below its minimum another count and three rounds.
 */
export async function planMaskUpdate(update: MaskUpdate): Promise<MaskPlan> {
  const { rules, space, step, sources } = update;
  const selections: Selection[][] = sources.map(() => []);
  const reports: RuleReport[] = [];
  for (const [index, rule] of rules.entries()) {
    if (!isUpdateStep(rule.schedule, step)) continue;
    const parameters = matches(rule, space);
    const sparsity = sparsityAt(rule.schedule, step);
    const alive = await aliveByParameter(sources, rule, parameters, selections);
    const groups = allocate(rule, parameters, step);
    const decision = await decide(sources, rule, groups, alive, selections);
    const targetRemoved = sum(groups.map((group) => group.removed));
    const matched = sum(groups.map((group) => group.size));
    const dead = matched - sum([...alive.values()]);
    const wanted = sum(groups.map((group) => missing(group, alive)));
    reports.push({
      rule: index,
      sparsity,
      matched,
      targetRemoved,
      removed: dead + wanted - decision.protectedCount,
      newlyRemoved: wanted - decision.protectedCount,
      protectedCount: decision.protectedCount,
      pastTarget: groups.some((group) => group.size - aliveIn(group, alive) > group.removed),
    });
    decision.selections.forEach((added, source) => selections[source]?.push(...added));
  }
  return { selections, reports };
}

async function decide(
  sources: readonly SelectionSource[],
  rule: SparsityRule,
  groups: readonly AllocationGroup[],
  alive: ReadonlyMap<Parameter, number>,
  prior: readonly (readonly Selection[])[],
): Promise<Decision> {
  const acting = groups.filter((group) => missing(group, alive) > 0);
  const wanted = acting.map((group) => ({ ranges: rangesOf(group.parameters), remove: missing(group, alive) }));
  const thresholds = await findThresholds(sources, rule.criterion, wanted, prior);
  const selections = toSelections(
    sources.length,
    acting.map((group, i) => ({ parameters: group.parameters, ...(thresholds[i] as Threshold) })),
  );
  const parameters = acting.flatMap((group) => group.parameters);
  const minimum = rule.protect.minSurvivorsPerParameter;
  if (minimum <= 0 || parameters.length === 0) return { selections, protectedCount: 0 };

  const left = await aliveByParameter(sources, rule, parameters, append(prior, selections));
  const kept = new Map<Parameter, number>();
  for (const parameter of parameters) {
    const enough = Math.min(minimum, alive.get(parameter) ?? 0);
    if ((left.get(parameter) ?? 0) < enough) kept.set(parameter, enough);
  }
  if (kept.size === 0) return { selections, protectedCount: 0 };

  const protectedCount = sum([...kept].map(([parameter, enough]) => enough - (left.get(parameter) ?? 0)));
  const others = await withoutParameters(sources, rule, acting, thresholds, kept, prior);
  const own = await selectWithin(sources, rule, kept, alive, prior);
  return { selections: append(others, own), protectedCount };
}

/** The selections of `groups` restricted to the parameters not in `excluded`: the same elements of those, to the tie. */
async function withoutParameters(
  sources: readonly SelectionSource[],
  rule: SparsityRule,
  groups: readonly AllocationGroup[],
  thresholds: readonly Threshold[],
  excluded: ReadonlyMap<Parameter, number>,
  prior: readonly (readonly Selection[])[],
): Promise<Selection[][]> {
  const parameters = [...excluded.keys()];
  const ranges = parameters.map((parameter) => rangesOf([parameter]));
  const count = (ties: boolean): Promise<number[][]> => {
    const cuts = groups.map((group, i) => {
      const { threshold, ties: quotas } = thresholds[i] as Threshold;
      return { parameters: group.parameters, threshold, ties: ties ? quotas : quotas.map(() => 0) };
    });
    return countAlive(sources, rule.criterion, ranges, append(prior, toSelections(sources.length, cuts)));
  };
  // Quotas of ties count along the whole group: what the excluded parameters took of them must not pass to others.
  const [withTies, withoutTies] = [await count(true), await count(false)];
  return toSelections(
    sources.length,
    groups.map((group, i) => {
      const { threshold, ties } = thresholds[i] as Threshold;
      const ofGroup = parameters.flatMap((parameter, p) => (group.parameters.includes(parameter) ? [p] : []));
      const taken = ties.map((_, source) =>
        sum(ofGroup.map((p) => (withoutTies[p]?.[source] ?? 0) - (withTies[p]?.[source] ?? 0))),
      );
      return {
        parameters: group.parameters.filter((parameter) => !excluded.has(parameter)),
        threshold,
        ties: ties.map((quota, source) => quota - (taken[source] ?? 0)),
      };
    }),
  );
}

/** Selections that leave each of these parameters its highest scores, as many as given. */
async function selectWithin(
  sources: readonly SelectionSource[],
  rule: SparsityRule,
  kept: ReadonlyMap<Parameter, number>,
  alive: ReadonlyMap<Parameter, number>,
  prior: readonly (readonly Selection[])[],
): Promise<Selection[][]> {
  const wanted = [...kept]
    .map(([parameter, enough]) => ({ parameter, remove: (alive.get(parameter) ?? 0) - enough }))
    .filter(({ remove }) => remove > 0)
    .map(({ parameter, remove }) => ({ parameter, ranges: rangesOf([parameter]), remove }));
  const thresholds = await findThresholds(sources, rule.criterion, wanted, prior);
  const cuts = wanted.map(({ parameter }, i) => ({ parameters: [parameter], ...(thresholds[i] as Threshold) }));
  return toSelections(sources.length, cuts);
}

function toSelections(
  numSources: number,
  cuts: readonly { parameters: readonly Parameter[]; threshold: number; ties: readonly number[] }[],
): Selection[][] {
  return Array.from({ length: numSources }, (_, source) =>
    cuts
      .filter(({ parameters }) => parameters.length > 0)
      .map(({ parameters, threshold, ties }) => ({
        ranges: rangesOf(parameters),
        threshold,
        ties: ties[source] ?? 0,
      })),
  );
}

async function aliveByParameter(
  sources: readonly SelectionSource[],
  rule: SparsityRule,
  parameters: readonly Parameter[],
  prior: readonly (readonly Selection[])[],
): Promise<Map<Parameter, number>> {
  const ranges = parameters.map((parameter) => rangesOf([parameter]));
  const counts = await countAlive(sources, rule.criterion, ranges, prior);
  return new Map(parameters.map((parameter, i) => [parameter, sum(counts[i] ?? [])]));
}

/** What of a group is still to be removed; 0 where it is past its target. */
function missing(group: AllocationGroup, alive: ReadonlyMap<Parameter, number>): number {
  return Math.max(0, group.removed - (group.size - aliveIn(group, alive)));
}

function aliveIn(group: AllocationGroup, alive: ReadonlyMap<Parameter, number>): number {
  return sum(group.parameters.map((parameter) => alive.get(parameter) ?? 0));
}

/** Flat ranges of parameters in flat order; neighbours become one. */
function rangesOf(parameters: readonly Parameter[]): Range[] {
  const ranges: [number, number][] = [];
  for (const { offset, size } of parameters) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === offset) last[1] = offset + size;
    else ranges.push([offset, offset + size]);
  }
  return ranges;
}

function append<T>(lists: readonly (readonly T[])[], more: readonly (readonly T[])[]): T[][] {
  return lists.map((list, i) => [...list, ...(more[i] ?? [])]);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
