import type { SparsityRule } from '../../config/types.ts';
import type { Parameter } from '../../layout/parameter-space.ts';
import { GRANULARITIES } from '../granularity/index.ts';
import type { Allocation, AllocationGroup } from './allocation.ts';
import { allocateGlobally } from './global.ts';
import { allocateByLayer } from './layer.ts';

/** A further scope is one more file and one more line here. */
const ALLOCATIONS: Readonly<Record<SparsityRule['scope'], Allocation>> = {
  global: allocateGlobally,
  layer: allocateByLayer,
};

/** What a rule at `sparsity` wants dead in the parameters it matches, given in flat order. */
export function allocate(rule: SparsityRule, parameters: readonly Parameter[], sparsity: number): AllocationGroup[] {
  return ALLOCATIONS[rule.scope](parameters, sparsity, GRANULARITIES[rule.granularity]);
}
