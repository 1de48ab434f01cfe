/** A checkpoint as one snapshot of the whole parameter space, for what changes a whole model at once. */
import { countBits, sliceBits } from '../sparsity/bitmap.ts';
import { spaceSize } from './manifest-file.ts';
import type { Manifest, ShardEntry, ShardSnapshot } from './manifest.ts';
import { readRange } from './reshard.ts';
import { writeShardFile } from './shard-file.ts';

/** Everything a checkpoint holds, state included. Does not check hashes: verify the checkpoint first. */
export function readWhole(folder: string, manifest: Manifest): Promise<ShardSnapshot> {
  return readRange(folder, manifest, 0, spaceSize(manifest), { withState: true });
}

/**
 * Writes a snapshot of the whole space as the shard files of these cuts (see shard-map.ts) into an existing folder; the
 * first holds the state. Errors: DISK.
 */
export async function writeWhole(folder: string, whole: ShardSnapshot, cuts: readonly number[]): Promise<ShardEntry[]> {
  const entries: ShardEntry[] = [];
  for (let rank = 0; rank + 1 < cuts.length; rank++) {
    const part = partOf(whole, cuts[rank] as number, cuts[rank + 1] as number, rank === 0);
    entries.push(await writeShardFile(folder, rank, part));
  }
  return entries;
}

function partOf(whole: ShardSnapshot, start: number, end: number, withState: boolean): ShardSnapshot {
  const first = countBits(whole.stored, 0, start);
  const last = first + countBits(whole.stored, start, end);
  const slots = Object.entries(whole.slots).map(([name, values]) => [name, values.subarray(first, last)] as const);
  return {
    start,
    end,
    stored: sliceBits(whole.stored, start, end),
    mask: sliceBits(whole.mask, start, end),
    weights: whole.weights.subarray(first, last),
    slots: Object.fromEntries(slots),
    state: withState ? whole.state : null,
  };
}
