import type { SparsityRule } from '../config/types.ts';
import { hashSeeds } from '../kernels/random.ts';
import type { ParameterSpace } from '../layout/parameter-space.ts';
import type { ModelUnits } from '../model-graph/unit-groups.ts';
import type { AllocationGroup } from './allocation/allocation.ts';
import { allocate } from './allocation/index.ts';
import { criterionNamed } from './criterion/index.ts';
import { planElements } from './plan/elements.ts';
import { planGathered } from './plan/gathered.ts';
import { append, type Decision, everywhere, type RuleState, type Selections, sum } from './plan/rule-state.ts';
import { planUnits, unitsInPlay } from './plan/units.ts';
import { matches } from './rules.ts';
import { isUpdateStep, sparsityAt } from './schedule/index.ts';
import type { SelectionSource } from './selection.ts';

export interface MaskUpdate {
  readonly rules: readonly SparsityRule[];
  readonly space: ParameterSpace;
  /** Of the model that the run began with, where units have left it since; default: `space`. Shares are of it. */
  readonly begun?: ParameterSpace;
  /** What is coupled to what, for neuron and filter rules; see model-graph. */
  readonly units: ModelUnits;
  /** Those rules act whose schedule has an update at this step. */
  readonly step: number;
  /** The run's, for criteria that draw lots. */
  readonly seed: number;
  /** The servers, in cut order. */
  readonly sources: readonly SelectionSource[];
  /** Flat indices between which their shards lie: sources + 1 of them. */
  readonly cuts: readonly number[];
}

/** What a mask commit carries, and what the report says of it. */
export interface MaskPlan {
  /** Per source, in the order in which they act. */
  readonly selections: Selections;
  /** One for each rule that acted, in list order. */
  readonly reports: readonly RuleReport[];
}

/** Counts are of units: elements, unless the rule's granularity says otherwise. */
export interface RuleReport {
  /** Index of the rule in the run file. */
  readonly rule: number;
  /** Sparsity in force at this step. */
  readonly sparsity: number;
  /** Units that the rule matches. */
  readonly matched: number;
  /** Of these, what the schedule wants dead. */
  readonly targetRemoved: number;
  /** Dead units among those matched, after this rule. */
  readonly removed: number;
  readonly newlyRemoved: number;
  /** Elements that regrowth brought to life; absent without regrowth. */
  readonly grown?: number;
  /** Units that `protect` kept though they ranked among those to remove. */
  readonly protectedCount: number;
  /** True where more was already dead than the rule wants, in any of its groups; there it removes nothing. */
  readonly pastTarget: boolean;
}

/** Tells the lots that rules draw from the run's other random numbers. */
const LOTS = 0x5ba751;

/**
 * Decides one mask update from counts and scores: which of the servers' elements die, and which come to life. Rules
 * act in list order, each on what the ones before left. What is dead already counts first and is never ranked, unless
 * the rule says that the dead may come back.
 *
 * A pure function of the held state: it may be repeated at any point and gives the same plan for any shard map.
 */
export async function planMaskUpdate(update: MaskUpdate): Promise<MaskPlan> {
  const { rules, space, begun = space, step, sources, cuts, seed } = update;
  let selections: Selections = everywhere(sources.length, []);
  const reports: RuleReport[] = [];
  for (const [index, rule] of rules.entries()) {
    if (!isUpdateStep(rule.schedule, step)) continue;
    const units = unitsInPlay(rule, space, update.units);
    const parameters = units?.parameters ?? matches(rule, space);
    const wanted = allocate(rule, units?.parameters ?? matches(rule, begun), step);
    const groups = begun === space ? wanted : wanted.map((group) => withoutLeft(group, space));
    const scoring = { criterion: criterionAt(rule, step), seed: hashSeeds([seed, LOTS, index]) };
    const state: RuleState = { rule, step, sources, cuts, parameters, groups, scoring, prior: selections };
    const decision = units ? await planUnits(state, units) : await plan(state);
    selections = append(selections, decision.selections);
    reports.push({
      rule: index,
      sparsity: sparsityAt(rule.schedule, step),
      matched: sum(wanted.map((group) => group.size)),
      targetRemoved: sum(wanted.map((group) => group.removed)),
      removed: decision.removed + sum(wanted.map((group, i) => group.size - (groups[i]?.size ?? 0))),
      newlyRemoved: decision.newlyRemoved,
      ...(rule.regrowth === 'none' ? {} : { grown: decision.grown }),
      protectedCount: decision.protectedCount,
      pastTarget: decision.pastTarget,
    });
  }
  return { selections, reports };
}

/** The same of what is left of the model: elements that have left it are removed already, be they more than wanted. */
function withoutLeft({ parameters, size, removed }: AllocationGroup, space: ParameterSpace): AllocationGroup {
  const present = parameters.flatMap(({ name }) => space.byName(name) ?? []);
  const left = sum(parameters.map((parameter) => parameter.size)) - sum(present.map((parameter) => parameter.size));
  return { parameters: present, size: size - left, removed: removed - left };
}

function plan(state: RuleState): Promise<Decision> {
  const { granularity, criterion } = state.rule;
  const isLocal = granularity === 'element' && criterionNamed(criterion).normalize === undefined;
  return isLocal ? planElements(state) : planGathered(state);
}

/** The first update of a rule with regrowth only removes, by a criterion of its own. */
function criterionAt({ regrowth, schedule, criterion }: SparsityRule, step: number): string {
  return regrowth !== 'none' && step === schedule.beginStep ? regrowth.initial : criterion;
}
