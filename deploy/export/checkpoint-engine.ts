import { basename } from 'node:path';
import { changedBehaviour, requireSameModel } from '../../shared/checkpoint/compatibility.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { readRange } from '../../shared/checkpoint/reshard.ts';
import { compact } from '../../shared/sparsity/mask-rule.ts';
import { Engine } from '../../worker/training/engine.ts';

/**
 * The engine of a checkpoint's run with the checkpoint's weights, as its workers had them; the caller's to dispose.
 * Errors: CHECKPOINT where the model has other tensors now, and what building it gives.
 */
export async function checkpointEngine(
  folder: string,
  manifest: Manifest,
  warn: (message: string) => void,
): Promise<Engine> {
  // The teacher of a run has no part in what its student computes.
  const { distillation: _, ...config } = manifest.config;
  const engine = await Engine.create({ config, left: manifest.model });
  try {
    requireSameModel(manifest.model, engine.description, folder);
    const changed = changedBehaviour(
      { ...manifest.model, ...(manifest.config.distillation === undefined ? {} : { loss: engine.description.loss }) },
      engine.description,
      basename(folder),
    );
    if (changed !== null) warn(changed);
    const size = manifest.shards.at(-1)?.end ?? 0;
    const { mask, stored, weights, state } = await readRange(folder, manifest, 0, size, { withState: true });
    engine.setMask(mask);
    engine.setWeights(compact(weights, stored, mask), state ?? new Float32Array(0), manifest.clock);
    return engine;
  } catch (reason) {
    engine.dispose();
    throw reason;
  }
}

/** Batches that the evaluation of a checkpoint by its own run recalibrated with; 0: none. */
export function batchesOfRun({ clock, config }: Manifest): number {
  const { recalibrate } = config;
  return recalibrate !== undefined && clock === config.training.steps ? recalibrate.batches : 0;
}
