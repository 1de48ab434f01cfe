import type { DyadicNode } from '../../shared/layout/dyadic.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import type { PeerParts } from './peer-parts.ts';
import type { Push } from './push.ts';

/** What the step that is made now waits for: its slices, or the other servers' parts of a sum. */
export type Stage = 'collecting' | 'norm' | 'groups';

/** A step that all slices have gone into. */
export interface MadeStep {
  readonly loss: number;
  /** Who sent each slice. */
  readonly workers: readonly number[];
}

/** The gradient of a step before the optimizer, packed over `set`. */
export interface ReducedGradient {
  readonly set: Uint8Array;
  readonly values: Float32Array;
}

/** How slices become steps: all of one before any of the next (`Lockstep`), or each by itself (`Overlapping`). */
export interface Steps {
  /** Pushes of later steps than the next are taken too. */
  readonly overlap: boolean;
  readonly stage: Stage;
  /** The latest step of which anything is applied. */
  readonly newest: number;
  /** The other servers' parts of sums over the whole model; null where no step needs any. */
  readonly peers: { readonly norm: PeerParts<DyadicNode>; readonly groups: PeerParts<RowNode> } | null;
  /** What scores by gradient rank while the shard holds, or null. */
  readonly reduced: ReducedGradient | null;

  /** All steps up to this clock are made: those of a checkpoint. */
  startAt(clock: number): void;
  /** Begins to collect a step whose pushes cover `set`. */
  begin(set: Uint8Array): void;
  /** Whether this slice is taken already, or can only be a copy of one that was. */
  has(push: Push): boolean;
  wait(push: Push): void;
  /** Goes on with `step` as far as what has arrived allows, touching no step beyond `cut`; null until it is made. */
  make(step: number, cut: number): MadeStep | null;
}
