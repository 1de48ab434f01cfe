import type { GranularityConfig, SparsityRule } from '../../config/types.ts';
import type { Parameter } from '../../layout/parameter-space.ts';
import { granularityOf } from '../granularity/index.ts';
import { sparsityAt } from '../schedule/index.ts';
import type { Allocation, AllocationGroup, Sized } from './allocation.ts';
import { allocateEr, allocateErk } from './erk.ts';
import { allocateGlobally } from './global.ts';
import { allocateByLayer } from './layer.ts';
import { ownFinalSparsity, scaledSparsityAt } from './overrides.ts';

/** A further scope is one more file and one more line here. */
const ALLOCATIONS: Readonly<Record<SparsityRule['scope'], Allocation>> = {
  global: allocateGlobally,
  layer: allocateByLayer,
  erk: allocateErk,
  er: allocateEr,
};

/**
 * What a rule wants dead after `step` in the parameters it matches, given in flat order. Parameters with a final
 * sparsity of their own are ranked within themselves; the others share the rule's as if they were alone.
 */
export function allocate(rule: SparsityRule, parameters: readonly Parameter[], step: number): AllocationGroup[] {
  const granularity = granularityOf(rule.granularity);
  // A group of n:m dies in part: s of the elements are the s / share of the groups.
  const share = shareOfUnit(rule.granularity);
  const shared: Sized[] = [];
  const own: AllocationGroup[] = [];
  for (const parameter of parameters) {
    const sized = { parameter, size: granularity.numUnits(parameter.shape) };
    const final = ownFinalSparsity(rule, parameter.name);
    if (final === undefined) shared.push(sized);
    else own.push(...allocateByLayer([sized], scaledSparsityAt(rule, final, step) / share));
  }
  return [...ALLOCATIONS[rule.scope](shared, sparsityAt(rule.schedule, step) / share), ...own];
}

/** Share of a unit's elements that die with it: all, but of n:m groups only m - n. */
export function shareOfUnit(granularity: GranularityConfig): number {
  if (granularity === 'element' || !('nm' in granularity)) return 1;
  const [n, m] = granularity.nm;
  return 1 - n / m;
}
