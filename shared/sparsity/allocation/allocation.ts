import type { Parameter } from '../../layout/parameter-space.ts';
import type { Granularity } from '../granularity/granularity.ts';

/** Parameters whose units (elements, unless granularity says otherwise) are ranked together. */
export interface AllocationGroup {
  readonly parameters: readonly Parameter[];
  /** Units in all of them. */
  readonly size: number;
  /** Dead units wanted after the update, those already dead included. */
  readonly removed: number;
}

/** Divides a rule's sparsity among the parameters it matches (in flat order); every parameter is in one group. */
export type Allocation = (
  parameters: readonly Parameter[],
  sparsity: number,
  granularity: Granularity,
) => AllocationGroup[];
