import { fileURLToPath } from 'node:url';
import { MANIFEST_VERSION, type Manifest } from '../../../shared/checkpoint/manifest.ts';
import { writeShardFile } from '../../../shared/checkpoint/shard-file.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import { emptyBitmap, getBit, setBit, sliceBits } from '../../../shared/sparsity/bitmap.ts';
import type { Engine } from '../../../worker/training/engine.ts';
import { engineConfig } from '../../fixtures/config.ts';

const local = (name: string): string => fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url));

export const CONFIG = engineConfig({
  model: local('image-model.ts'),
  data: { source: local('image-data.ts'), batchSize: 8, order: 'sequential' },
});

export interface Written {
  readonly folder: string;
  readonly manifest: Manifest;
  /** Dense, in flat order; dead elements are zero. */
  readonly effective: Float32Array;
  readonly state: Float32Array;
}

/**
 * Publishes a checkpoint of the engine's model at clock 7, in two shards, with every third element pruned and every
 * sixth of them latent: stored with its weight, yet dead. The engine is left with the same weights.
 */
export async function writeCheckpoint(
  runDirectory: string,
  engine: Engine,
  changes: Partial<Manifest> = {},
): Promise<Written> {
  const { description } = engine;
  const weights = engine.initialWeights().map((weight, i) => weight + ((i % 11) - 5) / 64);
  const size = weights.length;
  const mask = emptyBitmap(size);
  for (let i = 0; i < size; i++) if (i % 3 !== 1) setBit(mask, i);
  const stored = mask.slice();
  for (let i = 0; i < size; i++) if (i % 18 === 1) setBit(stored, i);
  const effective = weights.map((weight, i) => (i % 3 === 1 ? 0 : weight));
  // Moving means and variances that change the outcome; variances are positive.
  const state = engine.initialState().map((value, i) => value + (i + 1) / 8);
  const store = new CheckpointStore(runDirectory);
  const folder = await store.create(7, 1);
  const cuts = [0, 64, size];
  const shards = [];
  for (let rank = 0; rank < 2; rank++) {
    const [start = 0, end = 0] = cuts.slice(rank);
    const part = sliceBits(stored, start, end);
    shards.push(
      await writeShardFile(folder, rank, {
        start,
        end,
        stored: part,
        mask: sliceBits(mask, start, end),
        weights: weights.slice(start, end).filter((_, i) => getBit(part, i)),
        slots: {},
        state: rank === 0 ? state : null,
      }),
    );
  }
  const manifest: Manifest = {
    version: MANIFEST_VERSION,
    whittleVersion: '0.1.0',
    runId: 'images',
    generation: 1,
    clock: 7,
    maskEpoch: 1,
    dataPosition: 56,
    sparsity: 0.25,
    model: description,
    config: CONFIG,
    fingerprint: engine.fingerprint,
    testAccuracy: 0.5,
    writtenAt: '2026-01-01T00:00:00.000Z',
    ...changes,
    shards,
  };
  await store.publish(manifest);
  engine.setMask(mask);
  engine.setWeights(
    weights.filter((_, i) => getBit(mask, i)),
    state,
  );
  return { folder, manifest, effective, state };
}
