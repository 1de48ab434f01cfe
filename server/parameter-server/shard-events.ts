import type { ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import type { DyadicNode } from '../../shared/layout/dyadic.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import type { Push } from './push.ts';

/** What happened, for the world outside: the shard itself sends nothing, and nobody calls it back from here. */
export interface ShardEvents {
  /** Clock reached: `weights` is the encoded answer, `mask` the shard's bitmap when its epoch is new. */
  published(clock: number, maskEpoch: number, weights: Uint8Array, mask: Uint8Array | null): void;
  /** Applied `step`, waits for the mask commit. */
  hold(step: number): void;
  /** This server's part of the gradient norm of `step`. */
  norm(step: number, nodes: readonly DyadicNode[]): void;
  /** This server's part of the norms of weights into output units after the optimizer's step `step`. */
  groups?(step: number, nodes: readonly RowNode[]): void;
  /** A copy of the shard at a cut, to be written in the background. */
  snapshot(clock: number, maskEpoch: number, snapshot: ShardSnapshot): void;
  /** A push is reduced (or was a repeat): its bytes no longer wait. */
  consumed(push: Push): void;
  /** So many values of a late push were for elements that have died since; they had no effect (ssp, asp). */
  dropped?(push: Push, values: number): void;
  stepDone(step: number, loss: number, sliceWorkers: readonly number[]): void;
}
