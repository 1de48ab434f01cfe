import type { SparsityRule } from '../../config/types.ts';
import type { ParameterSpace } from '../../layout/parameter-space.ts';
import { matches } from '../rules.ts';
import { allocate, shareOfUnit } from './index.ts';

/**
 * The sparsity that each parameter has at the end, by name, where it is ranked within itself (layer, erk, er,
 * overrides): what a global ranking makes of a parameter is known only from its weights. Of several rules the largest
 * counts. Units are left out: which of them a model can spare, its couplings say.
 */
export function ownTargets(rules: readonly SparsityRule[], space: ParameterSpace): Map<string, number> {
  const targets = new Map<string, number>();
  for (const rule of rules) {
    const { granularity } = rule;
    if (typeof granularity === 'object' && ('neuron' in granularity || 'filter' in granularity)) continue;
    for (const { parameters, size, removed } of allocate(rule, matches(rule, space), rule.schedule.endStep)) {
      const [parameter, another] = parameters;
      if (parameter === undefined || another !== undefined || size === 0) continue;
      const sparsity = (removed * shareOfUnit(granularity)) / size;
      targets.set(parameter.name, Math.max(sparsity, targets.get(parameter.name) ?? 0));
    }
  }
  return targets;
}
