import type { SparsityRule } from '../../config/types.ts';
import { WhittleError } from '../../errors.ts';
import type { ModelDescription } from '../../layout/model-description.ts';
import type { ParameterSpace } from '../../layout/parameter-space.ts';
import { type ModelUnits, unitGroupsOf } from '../../model-graph/unit-groups.ts';
import { granularityOf } from '../granularity/index.ts';
import { matches } from '../rules.ts';
import { unitsInPlay } from './units.ts';

/**
 * What neuron and filter rules need to know of a model; nothing where no rule asks.
 * Errors: UNSUPPORTED, by name, for a parameter that a rule matches and cannot prune as it says.
 */
export function checkModel(
  rules: readonly SparsityRule[],
  description: ModelDescription,
  space: ParameterSpace,
): ModelUnits {
  const hasUnits = rules.some(
    ({ granularity }) => typeof granularity === 'object' && !('block' in granularity || 'nm' in granularity),
  );
  const units = hasUnits ? unitGroupsOf(description) : { groups: [], refused: new Map() };
  for (const rule of rules) {
    if (unitsInPlay(rule, space, units)) continue;
    const { refuse } = granularityOf(rule.granularity);
    for (const parameter of matches(rule, space)) {
      const why = refuse(parameter);
      if (why !== null) throw new WhittleError('UNSUPPORTED', why);
    }
  }
  return units;
}
