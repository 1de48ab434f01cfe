import { requireSameModel } from './compatibility.ts';
import type { Manifest, ShardSnapshot } from './manifest.ts';

/** A whole checkpoint in memory: its manifest, and the snapshot of the whole parameter space. */
export interface WholeCheckpoint {
  readonly manifest: Manifest;
  readonly snapshot: ShardSnapshot;
}

/**
 * The guard's restore, as a checkpoint: weights, slots, mask and non-trainable state of `saved`, the clock and all that
 * goes by it (data position, schedules, Adam's bias correction) of `now`, in a mask epoch of its own. Elements that were
 * pruned in between are back with the values they had.
 * @throws CHECKPOINT where the tensors changed in between (a physical shrink, say)
 */
export function restoreSaved(now: WholeCheckpoint, saved: WholeCheckpoint): WholeCheckpoint {
  requireSameModel(saved.manifest.model, now.manifest.model, `the checkpoint of step ${saved.manifest.clock}`);
  const { sparsity } = saved.manifest;
  return {
    manifest: { ...now.manifest, maskEpoch: now.manifest.maskEpoch + 1, sparsity },
    snapshot: saved.snapshot,
  };
}
