/**
 * One server's part of a checkpoint, `shard-<rank>.safetensors`: `weights` and `slots/<name>` packed over the stored
 * set (F32), `state` (F32, on one shard), the bitmaps `stored` and `mask` (U8, bit i least significant first =
 * element start + i). Its metadata names the flat range.
 */
import { basename, join } from 'node:path';
import { WhittleError } from '../errors.ts';
import { failpoint } from '../telemetry/failpoints.ts';
import { bitmapBytes, countBits } from '../sparsity/bitmap.ts';
import { parseCheckpointName } from './manifest-file.ts';
import type { ShardEntry, ShardSnapshot } from './manifest.ts';
import { bytesOf, SafetensorsFile, writeSafetensors, type TensorInfo, type TensorSpec } from './safetensors.ts';

const FORMAT = 'whittle-shard-1';
const SLOT = 'slots/';

/**
 * Writes a snapshot durably into an existing checkpoint folder. Neither the snapshot nor any older file is changed.
 * Errors: DISK when it cannot be written, INTERNAL when the snapshot contradicts itself.
 */
export async function writeShardFile(folder: string, rank: number, snapshot: ShardSnapshot): Promise<ShardEntry> {
  checkSnapshot(snapshot);
  const { start, end, stored, mask, weights, slots, state } = snapshot;
  const f32 = (name: string, array: Float32Array): [TensorSpec, ArrayBufferView] => [
    { name, dtype: 'F32', shape: [array.length] },
    array,
  ];
  const u8 = (name: string, array: Uint8Array): [TensorSpec, ArrayBufferView] => [
    { name, dtype: 'U8', shape: [array.length] },
    array,
  ];
  const tensors = [
    f32('weights', weights),
    ...Object.keys(slots)
      .sort()
      .map((name) => f32(SLOT + name, slots[name]!)),
    ...(state === null ? [] : [f32('state', state)]),
    u8('stored', stored),
    u8('mask', mask),
  ];
  const file = `shard-${rank}.safetensors`;
  const { bytes, sha256 } = await writeSafetensors(
    join(folder, file),
    tensors.map(([spec]) => spec),
    { format: FORMAT, start: String(start), end: String(end) },
    bodyOf(tensors, parseCheckpointName(folder)?.clock ?? 0),
  );
  return { file, start, end, bytes, sha256, hasState: state !== null };
}

/** What follows the last chunk runs when the file is whole and still has its temporary name. */
function* bodyOf(tensors: readonly [TensorSpec, ArrayBufferView][], clock: number): Iterable<Uint8Array> {
  for (const [, array] of tensors) yield bytesOf(array);
  failpoint('checkpoint.shard-unrenamed', clock);
}

/** Reads a whole shard back. Errors: CHECKPOINT. */
export async function readShardFile(path: string): Promise<ShardSnapshot> {
  const reader = await ShardReader.open(path);
  try {
    const slots: [string, Float32Array][] = [];
    const weights = new Float32Array(reader.storedCount);
    await reader.readPacked('weights', reader.start, weights);
    for (const name of reader.slotNames) {
      const values = new Float32Array(reader.storedCount);
      await reader.readPacked(SLOT + name, reader.start, values);
      slots.push([name, values]);
    }
    const { start, end, stored, mask } = reader;
    return { start, end, stored, mask, weights, slots: Object.fromEntries(slots), state: await reader.readState() };
  } finally {
    await reader.close();
  }
}

/** A shard file open for reading in parts. Holds its two bitmaps in memory and nothing else. */
export class ShardReader {
  readonly start: number;
  readonly end: number;
  readonly stored: Uint8Array;
  readonly mask: Uint8Array;
  readonly storedCount: number;
  /** In ascending order. */
  readonly slotNames: readonly string[];
  readonly #file: SafetensorsFile;
  /** The last rank asked for: reads that go forward count each bit once. */
  #known = { bit: 0, rank: 0 };

  private constructor(file: SafetensorsFile, start: number, end: number, stored: Uint8Array, mask: Uint8Array) {
    this.#file = file;
    this.start = start;
    this.end = end;
    this.stored = stored;
    this.mask = mask;
    this.storedCount = countBits(stored, 0, end - start);
    const names = [...file.header.tensors.keys()].filter((name) => name.startsWith(SLOT));
    this.slotNames = names.map((name) => name.slice(SLOT.length)).sort();
  }

  static async open(path: string): Promise<ShardReader> {
    const file = await SafetensorsFile.open(path);
    try {
      const { format, start: from, end: to } = file.header.metadata;
      const [start, end] = [Number(from), Number(to)];
      if (format !== FORMAT || !Number.isSafeInteger(start) || !Number.isSafeInteger(end) || start < 0 || end < start) {
        throw damaged(path, `it is not a shard file (format ${format ?? 'missing'}, range ${from} to ${to})`);
      }
      const bitmaps: Uint8Array[] = [];
      for (const name of ['stored', 'mask']) {
        const info = file.tensor(name, 'U8');
        if (info.end - info.begin !== bitmapBytes(end - start))
          throw damaged(path, `its bitmap ${name} does not fit its range`);
        const bitmap = new Uint8Array(info.end - info.begin);
        await file.read(info, 0, bitmap);
        bitmaps.push(bitmap);
      }
      const [stored, mask] = bitmaps as [Uint8Array, Uint8Array];
      const wrong = checkBitmaps(start, end, stored, mask);
      if (wrong !== null) throw damaged(path, wrong);
      const reader = new ShardReader(file, start, end, stored, mask);
      for (const name of ['weights', ...reader.slotNames.map((slot) => SLOT + slot)]) {
        const info = file.tensor(name, 'F32');
        if (info.end - info.begin !== 4 * reader.storedCount)
          throw damaged(path, `its ${name} do not fit its stored set`);
      }
      return reader;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Number of stored elements among `[start, element)`. */
  rank(element: number): number {
    const bit = element - this.start;
    const from = bit >= this.#known.bit ? this.#known : { bit: 0, rank: 0 };
    this.#known = { bit, rank: from.rank + countBits(this.stored, from.bit, bit) };
    return this.#known.rank;
  }

  /** Fills `target` with packed values from the first stored element at or after `element` on. */
  async readPacked(name: string, element: number, target: Float32Array): Promise<void> {
    await this.#file.read(this.#file.tensor(name, 'F32'), 4 * this.rank(element), bytesOf(target));
  }

  async readSlot(slot: string, element: number, target: Float32Array): Promise<void> {
    await this.readPacked(SLOT + slot, element, target);
  }

  /** All packed values of a slot as little-endian bytes, in flat order. */
  slotChunks(slot: string): AsyncGenerator<Uint8Array> {
    return this.#file.chunks(this.#file.tensor(SLOT + slot, 'F32'));
  }

  async readState(): Promise<Float32Array | null> {
    const info: TensorInfo | undefined = this.#file.header.tensors.get('state');
    if (info === undefined) return null;
    const state = new Float32Array((info.end - info.begin) / 4);
    await this.#file.read(this.#file.tensor('state', 'F32'), 0, bytesOf(state));
    return state;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function checkSnapshot({ start, end, stored, mask, weights, slots }: ShardSnapshot): void {
  const wrong = checkBitmaps(start, end, stored, mask);
  if (wrong !== null) throw new WhittleError('INTERNAL', `snapshot of [${start}, ${end}): ${wrong}`);
  const count = countBits(stored, 0, end - start);
  for (const [name, values] of [['weights', weights] as const, ...Object.entries(slots)]) {
    if (values.length !== count) {
      throw new WhittleError(
        'INTERNAL',
        `snapshot of [${start}, ${end}): ${values.length} ${name} for ${count} stored elements`,
      );
    }
  }
}

/** What is wrong with a pair of bitmaps, or null. Invariant: mask is a subset of stored; unused bits are 0. */
function checkBitmaps(start: number, end: number, stored: Uint8Array, mask: Uint8Array): string | null {
  const bytes = bitmapBytes(end - start);
  if (stored.length !== bytes || mask.length !== bytes)
    return `bitmaps of ${stored.length} and ${mask.length} bytes, not ${bytes}`;
  for (let byte = 0; byte < bytes; byte++) {
    if ((mask[byte]! & ~stored[byte]!) !== 0) return `a survivor near element ${start + 8 * byte} is not stored`;
  }
  const unused = 8 * bytes - (end - start);
  return unused > 0 && stored[bytes - 1]! >> (8 - unused) !== 0 ? 'bits beyond the end of the bitmap are set' : null;
}

function damaged(path: string, what: string): WhittleError {
  return new WhittleError('CHECKPOINT', `${path} is damaged: ${what}`, { data: { path, file: basename(path) } });
}
