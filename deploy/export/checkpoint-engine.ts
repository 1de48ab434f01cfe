import { basename } from 'node:path';
import { changedBehaviour, requireSameModel } from '../../shared/checkpoint/compatibility.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { readRange } from '../../shared/checkpoint/reshard.ts';
import { WhittleError } from '../../shared/errors.ts';
import { compact } from '../../shared/sparsity/mask-rule.ts';
import { Engine } from '../../worker/training/engine.ts';
import { evaluateAll, type WholeEvaluation } from '../../worker/training/evaluate-all.ts';

/** A checkpoint's model in the engine of its run, with the checkpoint's weights, as its workers had them. */
export interface CheckpointEngine {
  readonly manifest: Manifest;
  /** The caller's to dispose. */
  readonly engine: Engine;
  /** Over the whole parameter space, bit 1 = survivor. */
  readonly mask: Uint8Array;
  /** Of the survivors, in flat order. */
  readonly weights: Float32Array;
  /** Non-trainable. */
  readonly state: Float32Array;
}

/** Errors: CHECKPOINT where the model has other tensors now, and what building it gives. */
export async function checkpointEngine(
  folder: string,
  manifest: Manifest,
  warn: (message: string) => void,
): Promise<CheckpointEngine> {
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
    const { mask, stored, weights: packed, state } = await readRange(folder, manifest, 0, size, { withState: true });
    const checkpoint = {
      manifest,
      engine,
      mask,
      weights: compact(packed, stored, mask),
      state: state ?? new Float32Array(0),
    };
    engine.setMask(mask);
    engine.setWeights(checkpoint.weights, checkpoint.state, manifest.clock);
    return checkpoint;
  } catch (reason) {
    engine.dispose();
    throw reason;
  }
}

/**
 * Accuracy and loss on the whole test set with the survivors of `mask`, the checkpoint's own or a subset, which the
 * engine then has. `recalibrate`: batches to measure normalisation with; default: as the run's own evaluation did.
 * Errors: DATA where there is no test set.
 */
export async function evaluateCheckpoint(
  { manifest, engine, mask: own, weights, state }: CheckpointEngine,
  { mask = own, recalibrate }: { readonly mask?: Uint8Array; readonly recalibrate?: number | undefined } = {},
): Promise<WholeEvaluation> {
  const { clock, runId } = manifest;
  if (engine.numEvaluationChunks === 0)
    throw new WhittleError('DATA', `the data of run ${runId} has no test part; there is nothing to evaluate on`);
  engine.setMask(mask);
  engine.setWeights(compact(weights, own, mask), state, clock);
  engine.keepForEvaluation(clock, recalibrate);
  try {
    return await evaluateAll(engine, clock);
  } finally {
    engine.dropEvaluation(clock);
  }
}

/** Batches that the evaluation of a checkpoint by its own run recalibrated with; 0: none. */
export function batchesOfRun({ clock, config }: Manifest): number {
  const { recalibrate } = config;
  return recalibrate !== undefined && clock === config.training.steps ? recalibrate.batches : 0;
}
