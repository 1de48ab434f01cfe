import { dropCount, dropFraction } from '../regrowth.ts';
import { rangesOf } from '../rules.ts';
import { hashSeeds } from '../../kernels/random.ts';
import type { Scoring } from '../selection.ts';
import { growHighest, removeLowest, type Taking } from './ranked-removal.ts';
import {
  comesBack,
  aliveByParameter,
  aliveIn,
  append,
  type Decision,
  everywhere,
  type RuleState,
  type Selections,
  sum,
} from './rule-state.ts';

/**
 * A rule over single elements whose scores depend on nothing but the element. First comes back what the rule ranks
 * anew (straight-through, a dense phase), then the lowest go; with regrowth some more go than the count asks for, and
 * as many of the dead come to life.
 */
export async function planElements(state: RuleState): Promise<Decision> {
  const { rule, step, sources, parameters, groups, prior } = state;
  const { regrowth } = rule;
  const before = await aliveByParameter(sources, parameters, prior);
  const isRanked = comesBack(state);
  const revived = everywhere(
    sources.length,
    isRanked && parameters.length > 0 ? [{ action: 'revive', ranges: rangesOf(parameters) }] : [],
  );
  const inPool = isRanked ? new Map(parameters.map((parameter) => [parameter, parameter.size])) : before;
  const survivors = groups.map((group) => group.size - group.removed);
  const isGrowing = regrowth !== 'none' && step > rule.schedule.beginStep;
  const takings = groups.map((group, i) => {
    const alive = aliveIn(group, inPool);
    const missing = Math.max(0, alive - (survivors[i] as number));
    const dropped = isGrowing ? dropCount(dropFraction(regrowth, rule.schedule, step), alive - missing) : 0;
    return { parameters: group.parameters, take: missing + dropped };
  });
  const pruning = { ...state, prior: append(prior, revived) };
  const { selections, protectedCount } = await removeLowest(pruning, takings, inPool);
  const removing = append(revived, selections);
  const growing = isGrowing ? await growthOf(state, append(prior, removing)) : [];
  const grown = sum(growing.map(({ take }) => take));
  const growth = grown > 0 ? await growHighest(state, growthScoring(state), growing, append(prior, removing)) : [];
  const pool = sum([...inPool.values()]);
  const survivorsAfter = pool - sum(takings.map(({ take }) => take)) + protectedCount;
  const total = sum(parameters.map(({ size }) => size));
  const dead = total - survivorsAfter;
  const deadBefore = total - sum([...before.values()]);
  return {
    selections: append(removing, growth),
    removed: dead - grown,
    newlyRemoved: Math.max(0, dead - deadBefore),
    grown,
    protectedCount,
    pastTarget: groups.some((group, i) => aliveIn(group, inPool) < (survivors[i] as number)) && !isGrowing,
  };
}

/** What is missing of the survivors that the schedule asks for, once the lowest are gone. */
async function growthOf({ sources, parameters, groups }: RuleState, prior: Selections): Promise<Taking[]> {
  const alive = await aliveByParameter(sources, parameters, prior);
  return groups.map((group) => ({
    parameters: group.parameters,
    take: Math.max(0, group.size - Math.max(0, group.removed) - aliveIn(group, alive)),
  }));
}

/** RigL grows by the magnitude of the gradient (Evci et al. 2020), SET at random (Mocanu et al. 2018). */
function growthScoring({ rule, step, scoring }: RuleState): Scoring {
  return rule.regrowth !== 'none' && rule.regrowth.kind === 'rigl'
    ? { criterion: 'regrowthGradient', seed: 0 }
    : { criterion: 'random', seed: hashSeeds([scoring.seed, step]) };
}
