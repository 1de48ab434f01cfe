import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { sliceBits } from '../sparsity/bitmap.ts';
import { unpack } from '../sparsity/packing.ts';
import type { Manifest } from './manifest.ts';
import { readState } from './reshard.ts';
import { bytesOf } from './safetensors.ts';
import { ShardReader } from './shard-file.ts';

/** Where the shard files of a manifest lie; a CheckpointStore is one. */
export interface CheckpointLocation {
  folderOf(manifest: Manifest): string;
}

/** The location of one folder, whatever it is called. */
export function locatedAt(folder: string): CheckpointLocation {
  return { folderOf: () => folder };
}

export interface Digests {
  readonly maskDigest: string;
  readonly weightsDigest: string;
  readonly stateDigest: string;
}

/** Elements expanded at a time: 4 MB of dense weights. A multiple of 64, so that bitmap chunks end on byte borders. */
const CHUNK = 1 << 20;

/**
 * The three digests of a checkpoint, hex sha256. They depend on its content only, not on its cuts:
 * - mask: the bitmap over the whole parameter space in flat order, bit 1 = survivor, least significant bit first;
 * - weights: dense float32 little-endian effective weights (weight x mask, dead = +0) in flat order;
 * - state: for each optimizer slot in ascending order of its name (by UTF-16 code units) the name in UTF-8, a zero
 *   byte, and its packed float32 little-endian values over the stored set in flat order; then the non-trainable
 *   state as float32 little-endian, in model order.
 * Streams shard by shard; memory is a chunk plus one shard's bitmaps.
 */
export async function digestCheckpoint(manifest: Manifest, location: CheckpointLocation): Promise<Digests> {
  const folder = location.folderOf(manifest);
  const mask = createHash('sha256');
  const weights = createHash('sha256');
  for await (const chunk of denseChunks(manifest, location)) {
    mask.update(chunk.mask);
    weights.update(bytesOf(chunk.weights));
  }
  const state = createHash('sha256');
  const slotNames = await withShard(join(folder, manifest.shards[0]!.file), (reader) =>
    Promise.resolve(reader.slotNames),
  );
  for (const name of slotNames) {
    state.update(name).update(Uint8Array.of(0));
    for (const { file } of manifest.shards) {
      await withShard(join(folder, file), async (reader) => {
        for await (const chunk of reader.slotChunks(name)) state.update(chunk);
      });
    }
  }
  state.update(bytesOf(await readState(folder, manifest)));
  return { maskDigest: mask.digest('hex'), weightsDigest: weights.digest('hex'), stateDigest: state.digest('hex') };
}

export interface DenseChunk {
  readonly start: number;
  /** Effective weights of `start .. start + length - 1`. */
  readonly weights: Float32Array;
  /** Bit i = element start + i survives. */
  readonly mask: Uint8Array;
}

/** The effective weights and the mask of the whole parameter space in flat order, in chunks of at most 2^20 elements. */
export async function* denseChunks(manifest: Manifest, location: CheckpointLocation): AsyncGenerator<DenseChunk> {
  for (const { file, start, end } of manifest.shards) {
    const reader = await ShardReader.open(join(location.folderOf(manifest), file));
    try {
      for (let from = start; from < end; from += CHUNK) {
        const to = Math.min(from + CHUNK, end);
        const firstRank = reader.rank(from);
        const packed = new Float32Array(reader.rank(to) - firstRank);
        await reader.readPacked('weights', from, packed);
        const stored = sliceBits(reader.stored, from - start, to - start);
        const mask = sliceBits(reader.mask, from - start, to - start);
        const weights = unpack(packed, stored, to - from);
        // Latent weights (stored, masked) have effective weight +0.
        for (let byte = 0; byte < mask.length; byte++) {
          for (let dead = stored[byte]! & ~mask[byte]!; dead !== 0; dead &= dead - 1)
            weights[8 * byte + 31 - Math.clz32(dead & -dead)] = 0;
        }
        yield { start: from, weights, mask };
      }
    } finally {
      await reader.close();
    }
  }
}

async function withShard<T>(path: string, use: (reader: ShardReader) => Promise<T>): Promise<T> {
  const reader = await ShardReader.open(path);
  try {
    return await use(reader);
  } finally {
    await reader.close();
  }
}
