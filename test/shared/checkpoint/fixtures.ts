import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  MANIFEST_VERSION,
  type Manifest,
  type ShardEntry,
  type ShardSnapshot,
} from '../../../shared/checkpoint/manifest.ts';
import { writeShardFile } from '../../../shared/checkpoint/shard-file.ts';
import type { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import type { ModelDescription } from '../../../shared/layout/model-description.ts';

/** A folder for each test, removed after it. */
export function useFolder(): () => string {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'whittle-test-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return () => folder;
}

/** Two parameters of 100 and `size` - 100 elements and one state of 3. */
export function model(size = 300): ModelDescription {
  return {
    parameters: [
      { name: 'dense_1/kernel', shape: [10, 10], layerKind: 'Dense', prunable: true },
      { name: 'dense_1/bias', shape: [size - 100], layerKind: 'Dense', prunable: false },
    ],
    states: [{ name: 'batch_normalization_1/moving_mean', shape: [3] }],
    topology: {},
    layers: [{ name: 'dense_1', className: 'Dense', outputShape: [null, 10] }],
    trainExamples: 10,
    testExamples: 0,
    notes: [],
  };
}

/** The whole space as one snapshot: element i is stored unless i % 3 = 1, survives unless also i % 5 = 2, weighs i / 7. */
export function wholeSnapshot(size = 300): ShardSnapshot {
  const elements = Array.from({ length: size }, (_, i) => i);
  const kept = elements.filter((i) => i % 3 !== 1);
  return {
    start: 0,
    end: size,
    stored: bitmap(size, (i) => i % 3 !== 1),
    mask: bitmap(size, (i) => i % 3 !== 1 && i % 5 !== 2),
    weights: Float32Array.from(kept, (i) => i / 7),
    slots: { v: Float32Array.from(kept, (i) => i * 2), m: Float32Array.from(kept, (i) => -i) },
    state: Float32Array.of(1.5, -2.5, 3.5),
  };
}

/** Bit by bit, as the definition says; slow on purpose. */
export function bitmap(size: number, isSet: (index: number) => boolean): Uint8Array {
  const bits = new Uint8Array(Math.ceil(size / 8));
  for (let i = 0; i < size; i++) if (isSet(i)) bits[i >> 3]! |= 1 << (i & 7);
  return bits;
}

export function isSet(bits: Uint8Array, index: number): boolean {
  return ((bits[index >> 3]! >> (index & 7)) & 1) === 1;
}

/** The part [start, end) of a snapshot of the whole space, element by element. */
export function cut(whole: ShardSnapshot, start: number, end: number, state: Float32Array | null): ShardSnapshot {
  const ranks: number[] = [];
  for (let i = 0, rank = 0; i < whole.end; i++) {
    if (!isSet(whole.stored, i)) continue;
    if (i >= start && i < end) ranks.push(rank);
    rank++;
  }
  const pick = (values: Float32Array): Float32Array => Float32Array.from(ranks, (rank) => values[rank]!);
  return {
    start,
    end,
    stored: bitmap(end - start, (i) => isSet(whole.stored, start + i)),
    mask: bitmap(end - start, (i) => isSet(whole.mask, start + i)),
    weights: pick(whole.weights),
    slots: Object.fromEntries(
      Object.keys(whole.slots)
        .sort()
        .map((name) => [name, pick(whole.slots[name]!)]),
    ),
    state,
  };
}

export interface WriteOptions {
  readonly clock?: number;
  readonly generation?: number;
  readonly cuts?: readonly number[];
  readonly whole?: ShardSnapshot;
  readonly description?: ModelDescription;
}

/** Writes and publishes a checkpoint the way servers and scheduler do. */
export async function writeCheckpoint(store: CheckpointStore, options: WriteOptions = {}): Promise<Manifest> {
  const { clock = 10, generation = 1, whole = wholeSnapshot(), description = model(whole.end) } = options;
  const cuts = options.cuts ?? [0, 128, whole.end];
  const folder = await store.create(clock, generation);
  const shards: ShardEntry[] = [];
  for (let rank = 0; rank + 1 < cuts.length; rank++) {
    shards.push(
      await writeShardFile(folder, rank, cut(whole, cuts[rank]!, cuts[rank + 1]!, rank === 0 ? whole.state : null)),
    );
  }
  const manifest: Manifest = {
    version: MANIFEST_VERSION,
    whittleVersion: '0.1.0',
    runId: 'test',
    generation,
    clock,
    maskEpoch: 1,
    dataPosition: clock * 8,
    shards,
    sparsity: 0.5,
    model: description,
    config: { name: 'test', sparsity: [] as RunConfig['sparsity'] } as RunConfig,
    fingerprint: 'none',
    testAccuracy: 0.75,
    writtenAt: '2026-01-01T00:00:00.000Z',
  };
  await store.publish(manifest);
  return manifest;
}

export function collectWarnings(): { warn: (message: string) => void; warnings: string[] } {
  const warnings: string[] = [];
  return { warn: (message) => warnings.push(message), warnings };
}
