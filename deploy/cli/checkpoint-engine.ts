import { basename } from 'node:path';
import { changedBehaviour, requireSameModel } from '../../shared/checkpoint/compatibility.ts';
import { readRange } from '../../shared/checkpoint/reshard.ts';
import { WhittleError } from '../../shared/errors.ts';
import { compact } from '../../shared/sparsity/mask-rule.ts';
import { Engine } from '../../worker/training/engine.ts';
import { evaluateAll, type WholeEvaluation } from '../../worker/training/evaluate-all.ts';
import type { FoundCheckpoint } from './find-run.ts';

/** A checkpoint's model, ready to be evaluated on its test set under this mask or others. */
export interface CheckpointEngine {
  readonly engine: Engine;
  /** Of the checkpoint, over the whole parameter space, bit 1 = survivor. */
  readonly mask: Uint8Array;
  /** Of its survivors, in flat order. */
  readonly weights: Float32Array;
  /** Accuracy and loss with the survivors of `mask`, a subset of the checkpoint's. */
  readonly evaluate: (mask: Uint8Array) => Promise<WholeEvaluation>;
}

/** Errors: DATA where there is no test set, CHECKPOINT where the model has other tensors now, what building it gives. */
export async function withCheckpointEngine<T>(
  { folder, manifest }: FoundCheckpoint,
  warn: (message: string) => void,
  use: (checkpoint: CheckpointEngine) => Promise<T>,
): Promise<T> {
  const engine = await Engine.create({ config: manifest.config, left: manifest.model });
  try {
    requireSameModel(manifest.model, engine.description, folder);
    const changed = changedBehaviour(manifest.model, engine.description, basename(folder));
    if (changed !== null) warn(changed);
    if (engine.numEvaluationChunks === 0) {
      throw new WhittleError(
        'DATA',
        `the data of run ${manifest.runId} has no test part; there is nothing to evaluate on`,
      );
    }
    const size = manifest.shards.at(-1)?.end ?? 0;
    const { clock } = manifest;
    const { mask, stored, weights: packed, state } = await readRange(folder, manifest, 0, size, { withState: true });
    const weights = compact(packed, stored, mask);
    return await use({
      engine,
      mask,
      weights,
      evaluate: async (other) => {
        engine.setMask(other);
        engine.setWeights(compact(weights, mask, other), state ?? new Float32Array(0), clock);
        engine.keepForEvaluation(clock);
        try {
          return await evaluateAll(engine, clock);
        } finally {
          engine.dropEvaluation(clock);
        }
      },
    });
  } finally {
    engine.dispose();
  }
}
