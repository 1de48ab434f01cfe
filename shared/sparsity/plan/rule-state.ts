import type { SparsityRule } from '../../config/types.ts';
import type { Parameter } from '../../layout/parameter-space.ts';
import type { AllocationGroup } from '../allocation/allocation.ts';
import { rangesOf } from '../rules.ts';
import { sparsityAt } from '../schedule/index.ts';
import type { Scoring, Selection, SelectionSource } from '../selection.ts';
import { countAlive } from '../threshold.ts';

/** Selections by source, in the order in which they act. */
export type Selections = readonly (readonly Selection[])[];

/** One rule at one update, and what the rules before it have decided. */
export interface RuleState {
  readonly rule: SparsityRule;
  readonly step: number;
  readonly sources: readonly SelectionSource[];
  /** Flat indices between which the sources' shards lie: sources + 1 of them. */
  readonly cuts: readonly number[];
  readonly parameters: readonly Parameter[];
  readonly groups: readonly AllocationGroup[];
  readonly scoring: Scoring;
  readonly prior: Selections;
}

/** What a rule does. Counts are of units: elements, unless the granularity says otherwise. */
export interface Decision {
  readonly selections: Selections;
  /** Units of the matched parameters that are dead afterwards. */
  readonly removed: number;
  readonly newlyRemoved: number;
  /** Elements that regrowth brought to life. */
  readonly grown: number;
  /** Units that `protect` kept though they ranked among those to remove. */
  readonly protectedCount: number;
  readonly pastTarget: boolean;
}

export function append(lists: Selections, more: Selections): Selection[][] {
  return lists.map((list, i) => [...list, ...(more[i] ?? [])]);
}

/** The same selection for every source. */
export function everywhere(numSources: number, selections: readonly Selection[]): Selection[][] {
  return Array.from({ length: numSources }, () => [...selections]);
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

export async function aliveByParameter(
  sources: readonly SelectionSource[],
  parameters: readonly Parameter[],
  prior: Selections,
): Promise<Map<Parameter, number>> {
  const ranges = parameters.map((parameter) => rangesOf([parameter]));
  const counts = await countAlive(sources, ranges, prior);
  return new Map(parameters.map((parameter, i) => [parameter, sum(counts[i] ?? [])]));
}

export function aliveIn(group: AllocationGroup, alive: ReadonlyMap<Parameter, number>): number {
  return sum(group.parameters.map((parameter) => alive.get(parameter) ?? 0));
}

/** Whether the rule ranks anew what it has removed: straight-through at every update, cyclic in its dense phases. */
export function comesBack({ rule: { straightThrough, schedule }, step }: RuleState): boolean {
  return (
    (straightThrough === true && step <= schedule.endStep) ||
    (schedule.kind === 'cyclic' && sparsityAt(schedule, step) === 0)
  );
}
