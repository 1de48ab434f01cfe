import { makeFolder } from '../../shared/checkpoint/durable.ts';
import { writeManifest } from '../../shared/checkpoint/manifest-file.ts';
import { verifyCheckpoint } from '../../shared/checkpoint/verify.ts';
import { readWhole, writeWhole } from '../../shared/checkpoint/whole.ts';
import { cutEvenly } from '../../shared/layout/shard-map.ts';
import type { Shrunk } from '../../shared/shrink/shrink.ts';
import { shrinkCheckpoint } from '../../shared/shrink/shrink-checkpoint.ts';

/** What left the model, by the kernels that made it, and what had to stay. */
export type ShrinkReport = Pick<Shrunk, 'units' | 'refused'>;

/**
 * Writes the checkpoint of `folder` without its useless units into the new folder `into`, for formats to read. Memory:
 * the whole model, twice. `state`: in place of the checkpoint's; null: as it is. Errors: CHECKPOINT (it does not verify), MODEL, DISK.
 */
export async function writeShrunk(folder: string, into: string, state: Float32Array | null): Promise<ShrinkReport> {
  const manifest = await verifyCheckpoint(folder);
  // Exports hold no optimizer slots.
  const read = await readWhole(folder, manifest);
  const content = { ...read, slots: {}, state: state ?? read.state };
  const { manifest: shrunk, whole, units, refused } = shrinkCheckpoint(manifest, content, 'useless');
  await makeFolder(into);
  const shards = await writeWhole(into, whole, cutEvenly(whole.end, 1));
  const { maskEpoch, generation, writtenAt } = manifest;
  await writeManifest(into, { ...shrunk, maskEpoch, generation, writtenAt, shards });
  return { units, refused };
}
