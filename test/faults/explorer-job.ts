import { createHash } from 'node:crypto';
import type { ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { engineConfig } from '../fixtures/config.ts';

/** The job that is explored: as small as one with two shards, a mask update and a checkpoint in the middle can be. */
export const SERVERS = 2;
export const WORKERS = 2;
export const SLICES = 2;
export const STEPS = 3;
/** The mask update and the checkpoint that is not the first or the last fall on the same clock. */
export const UPDATE_STEP = 2;

export const SPACE = ParameterSpace.of([
  { name: 'dense_1/kernel', shape: [16, 6], layerKind: 'Dense', prunable: true },
  { name: 'dense_1/bias', shape: [32], layerKind: 'Dense', prunable: false },
]);
export const CUTS = [0, 64, 128] as const;
const SPARSITY = 0.5;
/** Dead elements after the update: half of the kernel. */
export const DEAD = 48;

export const CONFIG: RunConfig = (() => {
  const base = engineConfig({}, SLICES);
  return {
    ...base,
    training: { ...base.training, steps: STEPS },
    sparsity: [
      {
        match: '*/kernel',
        schedule: {
          kind: 'constant',
          finalSparsity: SPARSITY,
          beginStep: UPDATE_STEP,
          endStep: UPDATE_STEP,
          frequency: 1,
        },
        criterion: 'magnitude',
        granularity: 'element',
        scope: 'global',
        regrowth: 'none',
        protect: { minSurvivorsPerParameter: 1 },
      },
    ],
    checkpoint: { every: UPDATE_STEP, keep: 9 },
  };
})();

/** The same with sums over all servers in every step: of the gradient (clipping) and of output units (group lasso). */
export const CONFIG_WITH_SUMS: RunConfig = {
  ...CONFIG,
  training: { ...CONFIG.training, clipNorm: 1, decay: { ...CONFIG.training.decay, groupLasso: 0.1 } },
};

/** Numbers of no pattern, the same for the same arguments. */
export function noise(...keys: readonly number[]): number {
  let hash = 2166136261;
  for (const key of keys) hash = Math.imul(hash ^ (key + 0x9e3779b9), 16777619) ^ (hash >>> 13);
  return Math.fround((hash >>> 0) / 2 ** 31 - 1);
}

export function initialWeights(start: number, end: number): Float32Array {
  return Float32Array.from({ length: end - start }, (_, i) => noise(7, start + i));
}

/**
 * A slice's gradient on one shard, packed over the mask that the worker has. It depends on every weight that was
 * read, so that one stale or wrong read changes the bits of everything after it.
 */
export function gradient(step: number, slice: number, read: string, start: number, mask: Uint8Array): Float32Array {
  const seed = Number.parseInt(createHash('sha256').update(read).digest('hex').slice(0, 8), 16);
  const values: number[] = [];
  for (let i = 0; i < mask.length * 8; i += 1) {
    if (((mask[i >> 3] ?? 0) >> (i & 7)) & 1) values.push(noise(step, slice, start + i, seed));
  }
  return Float32Array.from(values);
}

export function digestOf(...parts: readonly (Uint8Array | Float32Array | string | number)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(ArrayBuffer.isView(part) ? part : `${part};`);
  return hash.digest('hex').slice(0, 12);
}

export function snapshotDigest(snapshot: ShardSnapshot): string {
  return digestOf(snapshot.start, snapshot.mask, snapshot.weights, ...Object.values(snapshot.slots));
}
