import type { GroupNorm, SparsityRule } from '../../config/types.ts';
import { WhittleError } from '../../errors.ts';
import type { Parameter, ParameterSpace } from '../../layout/parameter-space.ts';
import { elementsOfUnit, type ModelUnits, sliceElements, type UnitGroup } from '../../model-graph/unit-groups.ts';
import { activationStatistics, layerOf } from '../../model-graph/activation-statistics.ts';
import { activationScore } from '../criterion/activation.ts';
import { criterionNamed } from '../criterion/index.ts';
import { unitScores } from '../granularity/group-norm.ts';
import { granularityOf } from '../granularity/index.ts';
import { matches } from '../rules.ts';
import type { Candidates } from './candidates.ts';
import { gatherScores, packedScores } from './gather.ts';
import { choose, Kills } from './gathered.ts';
import { type Decision, type RuleState, sum } from './rule-state.ts';

/** The units that a neuron or filter rule ranks. */
export interface UnitsInPlay {
  readonly space: ParameterSpace;
  readonly norm: GroupNorm;
  /** One a group: the kernel that speaks for it in allocation, its last axis as long as there are units to remove. */
  readonly parameters: readonly Parameter[];
  readonly groups: readonly UnitGroup[];
  readonly states: ModelUnits['states'];
}

/**
 * The units of the kernels that a rule matches, without those of the output layer; null for a rule that is not about
 * neurons or filters. Errors: UNSUPPORTED, by name, for a kernel whose units cannot be removed.
 */
export function unitsInPlay(rule: SparsityRule, space: ParameterSpace, model: ModelUnits): UnitsInPlay | null {
  const { granularity } = rule;
  if (granularity === 'element' || 'block' in granularity || 'nm' in granularity) return null;
  const { norm } = 'neuron' in granularity ? granularity.neuron : granularity.filter;
  const { refuse } = granularityOf(granularity);
  const kernels = matches(rule, space).filter((parameter) => {
    const why = parameter.prunable ? refuse(parameter) : `${parameter.name} is no kernel and has no units of its own`;
    // What a rule without `match` covers is what it can cover.
    if (why !== null && rule.match !== null) throw new WhittleError('UNSUPPORTED', why);
    return why === null;
  });
  const names = new Set(kernels.map(({ name }) => name));
  for (const name of names) {
    const refused = model.refused.get(name);
    if (refused !== undefined && !refused.isOutput) {
      throw new WhittleError(
        'UNSUPPORTED',
        `units of ${name} cannot be removed: ${refused.why}; leave it out of match`,
      );
    }
  }
  const groups = model.groups.filter(({ producers }) => producers.some((name) => names.has(name)));
  for (const { producers } of groups) {
    const missing = producers.filter((name) => !names.has(name));
    if (missing.length === 0) continue;
    throw new WhittleError(
      'UNSUPPORTED',
      `units of ${producers.join(' and ')} are coupled, since their outputs are added, and the rule matches not ${missing.join(', ')}; match all of them or none`,
    );
  }
  const parameters = groups.map(({ producers, units }): Parameter => {
    const kernel = space.byName(producers[0] ?? '') as Parameter;
    return { ...kernel, shape: [...kernel.shape.slice(0, -1), units] };
  });
  return { space, norm, parameters, groups, states: model.states };
}

/** A unit dies as a whole: its kernel slices, bias, gamma and beta, and what the next layers make of it. */
export async function planUnits(
  state: RuleState,
  { space, groups, parameters, norm, states }: UnitsInPlay,
): Promise<Decision> {
  const lists = new Map<Parameter, { group: UnitGroup; units: readonly number[]; candidates: Candidates }>();
  for (const [i, group] of groups.entries()) {
    const byWeight = await scoreUnits(state, space, group, norm);
    const isActive = criterionNamed(state.rule.criterion).needs === 'activations';
    const scored = isActive ? { ...byWeight, scores: await activationScores(state, group, states) } : byWeight;
    const units = [...scored.alive.keys()].filter((unit) => scored.alive[unit] === 1);
    const candidates: Candidates = {
      scores: Float32Array.from(units, (unit) => scored.scores[unit] as number),
      elements: (k, dies) => elementsOfUnit(space, group, units[k] as number).forEach(dies),
      dead: group.units - units.length,
      minimum: state.rule.protect.minSurvivorsPerParameter,
    };
    lists.set(parameters[i] as Parameter, { group, units, candidates });
  }
  const killed = new Kills(state.cuts);
  let removed = 0;
  let newlyRemoved = 0;
  let protectedCount = 0;
  let pastTarget = false;
  for (const { parameters: ranked, removed: wanted } of state.groups) {
    const members = ranked.flatMap((parameter) => lists.get(parameter) ?? []);
    const dead = sum(members.map(({ candidates }) => candidates.dead));
    const { flags, spared } = choose(
      members.map(({ candidates }) => candidates),
      wanted - dead,
    );
    members.forEach(({ candidates }, k) => {
      (flags[k] as Uint8Array).forEach((chosen, unit) => {
        if (chosen === 0) return;
        newlyRemoved++;
        candidates.elements(unit, (index) => killed.add(index));
      });
    });
    removed += dead;
    protectedCount += spared;
    pastTarget ||= dead > wanted;
  }
  return {
    selections: killed.selections(),
    removed: removed + newlyRemoved,
    newlyRemoved,
    grown: 0,
    protectedCount,
    pastTarget,
  };
}

/** Group norms over the kernel slices that make each unit, and which units have any survivor there. */
async function scoreUnits(
  { rule, sources, cuts, scoring, prior }: RuleState,
  space: ParameterSpace,
  group: UnitGroup,
  norm: GroupNorm,
): Promise<{ readonly scores: Float32Array; readonly alive: Uint8Array }> {
  const { normalize, needs } = criterionNamed(rule.criterion);
  // Weights tell which units live, also where their outputs say how much they count.
  const looked = needs === 'activations' ? { ...scoring, criterion: 'magnitude' } : scoring;
  const scores: number[] = [];
  const unitOf: number[] = [];
  const alive = new Uint8Array(group.units);
  for (const member of group.members.filter(({ role }) => role === 'kernel')) {
    const parameter = space.byName(member.parameter) as Parameter;
    const gathered = await gatherScores(sources, cuts, looked, parameter, prior);
    const packed = packedScores(gathered);
    const comparable = normalize ? normalize(packed) : packed;
    const owner = new Int32Array(parameter.size).fill(-1);
    member.positions.forEach((positions, unit) => {
      for (const element of sliceElements(parameter.shape, member.axis, positions)) owner[element] = unit;
    });
    let at = 0;
    for (let element = 0; element < parameter.size; element++) {
      if (gathered.alive[element] === 0) continue;
      const score = comparable[at++] as number;
      const unit = owner[element] as number;
      if (unit < 0) continue;
      alive[unit] = 1;
      scores.push(score);
      unitOf.push(unit);
    }
  }
  return { scores: unitScores(Float32Array.from(scores), Uint32Array.from(unitOf), group.units, norm), alive };
}

/** What each unit gives out, by the statistics of its layer; the mean where a unit is made in several places. */
async function activationScores(
  { sources, scoring }: RuleState,
  group: UnitGroup,
  states: UnitsInPlay['states'],
): Promise<Float32Array> {
  const read = async (name: string): Promise<Float32Array> => {
    const range = states?.get(name);
    const [source] = sources;
    if (range === undefined || source === undefined)
      throw new WhittleError('UNSUPPORTED', `criterion activation: the run keeps no ${name}`);
    return (await source.scores({ scoring, range, prior: [], ofState: true })).scores;
  };
  const sums = new Float64Array(group.units);
  const places = new Float64Array(group.units);
  for (const { parameter, positions } of group.members.filter(({ role }) => role === 'kernel')) {
    const names = activationStatistics(layerOf(parameter));
    const [mean, zeros] = [await read(names.mean), await read(names.zeros)];
    for (const [unit, own] of positions.entries()) {
      for (const position of own) {
        sums[unit] = (sums[unit] as number) + activationScore(mean[position] as number, zeros[position] as number);
        places[unit] = (places[unit] as number) + 1;
      }
    }
  }
  return Float32Array.from(sums, (total, unit) => total / Math.max(1, places[unit] as number));
}
