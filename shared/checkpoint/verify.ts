import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { WhittleError } from '../errors.ts';
import { errorCode } from './durable.ts';
import { readManifest, stateSize } from './manifest-file.ts';
import type { Manifest, ShardEntry } from './manifest.ts';
import { ShardReader } from './shard-file.ts';

/**
 * Checks a checkpoint folder whole: manifest, every shard file's size, sha256, range, bitmaps and state. Reads every
 * byte. Errors: CHECKPOINT, naming the file and what is wrong with it.
 */
export async function verifyCheckpoint(folder: string): Promise<Manifest> {
  const manifest = await readManifest(folder);
  for (const shard of manifest.shards) {
    const path = join(folder, shard.file);
    const { bytes, sha256 } = await hashFile(path);
    if (bytes !== shard.bytes) {
      throw new WhittleError('CHECKPOINT', `${path} has ${bytes} bytes, its manifest says ${shard.bytes} (truncated)`);
    }
    if (sha256 !== shard.sha256) {
      throw new WhittleError(
        'CHECKPOINT',
        `${path} does not match its sha256 (damaged): ${sha256}, not ${shard.sha256}`,
      );
    }
    await checkShard(path, shard, stateSize(manifest));
  }
  return manifest;
}

/** Size and hex sha256 of a file. Errors: CHECKPOINT when it is missing. */
export async function hashFile(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    const handle = await open(path, 'r');
    try {
      const buffer = new Uint8Array(1 << 20);
      for (;;) {
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, bytes);
        if (bytesRead === 0) break;
        hash.update(buffer.subarray(0, bytesRead));
        bytes += bytesRead;
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    const why = errorCode(error) === 'ENOENT' ? 'is missing' : `cannot be read (${errorCode(error)})`;
    throw new WhittleError('CHECKPOINT', `${path} ${why}`, { cause: error });
  }
  return { bytes, sha256: hash.digest('hex') };
}

async function checkShard(path: string, shard: ShardEntry, states: number): Promise<void> {
  const reader = await ShardReader.open(path);
  try {
    if (reader.start !== shard.start || reader.end !== shard.end) {
      throw new WhittleError(
        'CHECKPOINT',
        `${path} covers ${reader.start} to ${reader.end}, its manifest says ${shard.start} to ${shard.end}`,
      );
    }
    const state = shard.hasState ? await reader.readState() : null;
    if (shard.hasState && state?.length !== states) {
      throw new WhittleError('CHECKPOINT', `${path} holds ${state?.length ?? 0} state values, the model has ${states}`);
    }
  } finally {
    await reader.close();
  }
}
