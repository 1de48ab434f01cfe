import type { Parameter } from '../../layout/parameter-space.ts';

/** Parameters whose units (elements, unless granularity says otherwise) are ranked together. */
export interface AllocationGroup {
  readonly parameters: readonly Parameter[];
  /** Units in all of them. */
  readonly size: number;
  /** Dead units wanted after the update, those already dead included. For n:m: groups brought to n:m. */
  readonly removed: number;
}

/** A parameter with its number of units. */
export interface Sized {
  readonly parameter: Parameter;
  readonly size: number;
}

/** Divides a sparsity, counted in units, among parameters in flat order; every parameter is in one group. */
export type Allocation = (parameters: readonly Sized[], sparsity: number) => AllocationGroup[];
