import type { SparsityRule } from '../config/types.ts';
import type { Parameter, ParameterSpace } from '../layout/parameter-space.ts';
import { allocate, shareOfUnit } from './allocation/index.ts';
import { matchesGlob } from './glob.ts';
import { granularityOf } from './granularity/index.ts';
import { isUpdateStep } from './schedule/index.ts';

/** The parameters a rule covers, in flat order: those its glob matches, or else the prunable ones. */
export function matches(rule: SparsityRule, space: ParameterSpace): Parameter[] {
  const { match } = rule;
  return space.parameters.filter((parameter) =>
    match === null ? parameter.prunable : matchesGlob(match, parameter.name),
  );
}

/** Flat indices [start, end). */
export type Range = readonly [start: number, end: number];

/** Flat ranges of parameters, ascending and apart from each other; neighbours become one. */
export function rangesOf(parameters: readonly Parameter[]): Range[] {
  const ranges: [number, number][] = [];
  for (const { offset, size } of [...new Set(parameters)].sort((a, b) => a.offset - b.offset)) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === offset) last[1] = offset + size;
    else ranges.push([offset, offset + size]);
  }
  return ranges;
}

/** True where some rule has an update at `step`: servers hold for the commit. */
export function planHasWork(rules: readonly SparsityRule[], step: number): boolean {
  return rules.some((rule) => isUpdateStep(rule.schedule, step));
}

/** All steps at which some rule has an update, ascending. Each is one mask epoch. */
export function allUpdateSteps(rules: readonly SparsityRule[], totalSteps: number): number[] {
  const steps: number[] = [];
  for (let step = 0; step <= totalSteps; step++) if (planHasWork(rules, step)) steps.push(step);
  return steps;
}

/** Elements that at least one rule matches, by parameter in flat order: what run-wide sparsity counts. */
export function matchedParameters(rules: readonly SparsityRule[], space: ParameterSpace): Parameter[] {
  const names = new Set(rules.flatMap((rule) => matches(rule, space).map((parameter) => parameter.name)));
  return space.parameters.filter((parameter) => names.has(parameter.name));
}

/**
 * Whether masks come to exactly `targetSparsityAt`: neurons and filters take along what is coupled to them, and of
 * rules that overlap it is not known beforehand which elements both remove.
 */
export function isTargetExact(rules: readonly SparsityRule[], space: ParameterSpace): boolean {
  const names = rules.flatMap((rule) => matches(rule, space).map(({ name }) => name));
  const hasUnits = rules.some(({ granularity }) => ['neuron', 'filter'].includes(granularityOf(granularity).name));
  return !hasUnits && new Set(names).size === names.length;
}

/**
 * The sparsity that the rules in force at `step` ask for, over all elements that any of them matches; 0 without
 * rules. Exact where rules match different parameters. Where they overlap, what an earlier rule removes is taken
 * to be spread over its parameters like their survivors, since which elements die is not known from schedules. Of rules
 * of neurons and filters it is the share of units; what dies with them comes on top (see `isTargetExact`).
 */
export function targetSparsityAt(rules: readonly SparsityRule[], space: ParameterSpace, step: number): number {
  const dead = new Map<string, number>();
  for (const rule of rules) {
    const shareOfDead = shareOfUnit(rule.granularity);
    for (const { parameters, size, removed } of allocate(rule, matches(rule, space), step)) {
      const before = parameters.reduce((sum, { name }) => sum + (dead.get(name) ?? 0), 0);
      const elements = parameters.reduce((sum, parameter) => sum + parameter.size, 0);
      const wanted = size === 0 ? 0 : (removed * elements * shareOfDead) / size;
      if (wanted <= before) continue;
      const share = (wanted - before) / (elements - before);
      for (const parameter of parameters) {
        const gone = dead.get(parameter.name) ?? 0;
        dead.set(parameter.name, gone + (parameter.size - gone) * share);
      }
    }
  }
  const total = matchedParameters(rules, space).reduce((sum, parameter) => sum + parameter.size, 0);
  const removed = [...dead.values()].reduce((sum, count) => sum + count, 0);
  return total === 0 ? 0 : removed / total;
}
