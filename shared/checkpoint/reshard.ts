import { join } from 'node:path';
import { WhittleError } from '../errors.ts';
import { concatBits, sliceBits } from '../sparsity/bitmap.ts';
import { spaceSize } from './manifest-file.ts';
import type { Manifest, ShardSnapshot } from './manifest.ts';
import { ShardReader } from './shard-file.ts';

export interface ReadRangeOptions {
  /** Also read the non-trainable state, whichever shard holds it. Default false: `state` is null. */
  readonly withState?: boolean;
}

/**
 * Cuts any flat range [start, end) out of a checkpoint, whatever its shards were: bitmaps are re-sliced bit by bit,
 * packed arrays by rank. Reads the bitmaps of the shards concerned and of packed values only those of the range.
 * Does not check hashes: verify the checkpoint first.
 */
export async function readRange(
  folder: string,
  manifest: Manifest,
  start: number,
  end: number,
  options: ReadRangeOptions = {},
): Promise<ShardSnapshot> {
  if (start < 0 || end < start || end > spaceSize(manifest)) {
    throw new WhittleError('INTERNAL', `range ${start} to ${end} is not within 0 to ${spaceSize(manifest)}`);
  }
  const touching = manifest.shards.filter((shard) => shard.start < end && shard.end > start);
  // An empty range still has the checkpoint's slots, each empty.
  const shards = touching.length > 0 ? touching : manifest.shards.slice(0, 1);
  const readers: ShardReader[] = [];
  try {
    for (const shard of shards) readers.push(await ShardReader.open(join(folder, shard.file)));
    const parts = readers.map((reader) => {
      const from = touching.length > 0 ? Math.max(start, reader.start) : reader.start;
      const to = touching.length > 0 ? Math.min(end, reader.end) : reader.start;
      const firstRank = reader.rank(from);
      return { reader, from, to, count: reader.rank(to) - firstRank };
    });
    const bitsOf = (which: 'stored' | 'mask'): Uint8Array =>
      concatBits(
        parts.map(({ reader, from, to }) => ({
          bits: sliceBits(reader[which], from - reader.start, to - reader.start),
          length: to - from,
        })),
      );
    const total = parts.reduce((sum, { count }) => sum + count, 0);
    const slotNames = readers[0]!.slotNames;
    const weights = new Float32Array(total);
    const slots = Object.fromEntries(slotNames.map((name) => [name, new Float32Array(total)]));
    let at = 0;
    for (const { reader, from, count } of parts) {
      if (reader.slotNames.join() !== slotNames.join()) {
        throw new WhittleError(
          'CHECKPOINT',
          `${folder}: its shards have different optimizer slots (${slotNames.join()}; ${reader.slotNames.join()})`,
        );
      }
      await reader.readPacked('weights', from, weights.subarray(at, at + count));
      for (const name of slotNames) await reader.readSlot(name, from, slots[name]!.subarray(at, at + count));
      at += count;
    }
    const state = options.withState === true ? await readState(folder, manifest) : null;
    return { start, end, stored: bitsOf('stored'), mask: bitsOf('mask'), weights, slots, state };
  } finally {
    for (const reader of readers) await reader.close();
  }
}

/** The non-trainable state, all states end to end; empty where the model has none. */
export async function readState(folder: string, manifest: Manifest): Promise<Float32Array> {
  const holder = manifest.shards.find(({ hasState }) => hasState);
  if (holder === undefined) return new Float32Array(0);
  const reader = await ShardReader.open(join(folder, holder.file));
  try {
    const state = await reader.readState();
    if (state === null)
      throw new WhittleError('CHECKPOINT', `${join(folder, holder.file)} lacks the state its manifest says it holds`);
    return state;
  } finally {
    await reader.close();
  }
}
