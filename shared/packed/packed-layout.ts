/**
 * How packed tensors lie in a safetensors file. A tensor `dense_1/kernel` is up to three of the file's:
 *
 * - `dense_1/kernel.values`: the survivors in flat order, float32 or int8;
 * - `dense_1/kernel.mask`: the bitmap over all elements in flat order, bit 1 = survivor, least significant bit first,
 *   deflated (zlib, RFC 1950); left out where all survive;
 * - `dense_1/kernel.scales`: of int8 values, float32 [channels]: element i of the dense tensor stands for
 *   value x scales[floor(i / inner) mod channels].
 *
 * A part that deflate makes smaller is kept so, as U8; others as they are. The metadata key `whittle.packed` has
 * what a reader needs: `{ version: 1, layout: <this in words>, tensors: { name: { shape, survivors, values, inner?, deflated: [parts] } } }`.
 */
import { constants, deflateSync, inflateSync } from 'node:zlib';
import { z } from 'zod';
import { bytesOf, sizeOfShape, type Dtype, type TensorSpec } from '../checkpoint/safetensors.ts';
import { bitmapBytes, countBits } from '../sparsity/bitmap.ts';
import { countSurvivors, type PackedTensor } from './packed-tensor.ts';

export const PACKED_KEY = 'whittle.packed';
export const PACKED_VERSION = 1;
export const LAYOUT_IN_WORDS =
  'NAME.values: survivors in flat (row-major) order; NAME.mask: bitmap of survivors, least significant bit first, ' +
  'absent where all survive; NAME.scales: dense[i] = value * scales[floor(i / inner) % len(scales)]; parts listed ' +
  'under deflated are zlib streams (RFC 1950) in U8';

export type PartName = 'values' | 'mask' | 'scales';
const PARTS = ['values', 'mask', 'scales'] as const satisfies readonly PartName[];

/** A tensor of the file and its bytes. */
export interface PackedPart {
  readonly spec: TensorSpec;
  readonly bytes: Uint8Array;
}

const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const entrySchema = z.strictObject({
  shape: z.array(count).max(16),
  survivors: count,
  values: z.enum(['float32', 'int8']),
  /** Of int8 values. */
  inner: count.min(1).optional(),
  deflated: z.array(z.enum(PARTS)),
});
/** What the metadata says of one tensor. */
export type PackedEntry = z.infer<typeof entrySchema>;

export const packedSchema = z.object({
  version: z.literal(PACKED_VERSION),
  tensors: z.record(z.string().min(1).max(1024), entrySchema),
});

export function partName(tensor: string, part: PartName): string {
  return `${tensor}.${part}`;
}

/** A tensor's parts in the file, wide types first, and its entry in the metadata. */
export function encodeTensor(tensor: PackedTensor): { entry: PackedEntry; parts: PackedPart[] } {
  const { name, shape, mask, values } = tensor;
  const survivors = countSurvivors(tensor);
  const deflated: PartName[] = [];
  const parts: PackedPart[] = [];
  const add = (part: PartName, dtype: Dtype, length: number, raw: Uint8Array): void => {
    const small = deflate(raw);
    const isSmaller = part === 'mask' || small.length < raw.length;
    if (isSmaller) deflated.push(part);
    const spec = isSmaller
      ? { name: partName(name, part), dtype: 'U8' as const, shape: [small.length] }
      : { name: partName(name, part), dtype, shape: [length] };
    parts.push({ spec, bytes: isSmaller ? small : raw });
  };
  if (values.kind === 'int8') add('scales', 'F32', values.scales.length, bytesOf(values.scales));
  add('values', values.kind === 'int8' ? 'I8' : 'F32', values.data.length, bytesOf(values.data));
  if (mask !== null && survivors < sizeOfShape(shape)) add('mask', 'U8', mask.length, mask);
  const entry: PackedEntry = {
    shape: [...shape],
    survivors,
    values: values.kind,
    ...(values.kind === 'int8' ? { inner: values.inner } : {}),
    deflated,
  };
  return { entry, parts };
}

/** Thrown by `decodeTensor`; the reader adds the path. */
export class LayoutError extends Error {}

/** The bytes of a part as they lie in the file; null where it has none. */
export type ReadPart = (part: PartName, dtype: Dtype) => Promise<Uint8Array | null>;

/** @throws LayoutError where a part is missing, damaged or does not fit the others */
export async function decodeTensor(name: string, entry: PackedEntry, read: ReadPart): Promise<PackedTensor> {
  const { shape, survivors } = entry;
  const size = sizeOfShape(shape);
  if (survivors > size) throw new LayoutError(`counts ${survivors} survivors of ${size} elements of ${name}`);
  const mask = survivors === size ? null : await readExactly('mask', 'U8', bitmapBytes(size));
  if (mask !== null && (countBits(mask) !== survivors || countBits(mask, 0, size) !== survivors)) {
    throw new LayoutError(`has a mask of ${name} that is not one of ${survivors} survivors`);
  }
  if (entry.values === 'float32') {
    const data = float32Of(await readExactly('values', 'F32', 4 * survivors));
    return { name, shape, mask, values: { kind: 'float32', data } };
  }
  const data = new Int8Array(await readExactly('values', 'I8', survivors));
  const { inner = 1 } = entry;
  const scales = float32Of(await readAtMost('scales', 'F32', 4 * Math.max(1, size)));
  if (scales.length === 0 || size % (scales.length * inner) !== 0) {
    throw new LayoutError(`has ${scales.length} scales of ${name}, which do not divide its ${size} elements`);
  }
  return { name, shape, mask, values: { kind: 'int8', data, scales, inner } };

  async function readAtMost(part: PartName, dtype: Dtype, most: number): Promise<Uint8Array> {
    const isDeflated = entry.deflated.includes(part);
    const found = await read(part, isDeflated ? 'U8' : dtype);
    if (found === null) throw new LayoutError(`lacks ${partName(name, part)}`);
    return isDeflated ? inflate(partName(name, part), found, most) : found;
  }

  async function readExactly(part: PartName, dtype: Dtype, bytes: number): Promise<Uint8Array> {
    const raw = await readAtMost(part, dtype, bytes);
    if (raw.length === bytes) return raw;
    throw new LayoutError(`holds ${raw.length} bytes of ${partName(name, part)}, ${bytes} belong there`);
  }
}

function float32Of(bytes: Uint8Array): Float32Array {
  if (bytes.length % 4 !== 0) throw new LayoutError(`has ${bytes.length} bytes where float32 belong`);
  return new Float32Array(bytes.slice().buffer);
}

/** The smallest of what zlib's strategies give; all are read alike. Random masks compress best without matches. */
function deflate(raw: Uint8Array): Uint8Array {
  const { Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY, Z_RLE, Z_FILTERED } = constants;
  return [Z_DEFAULT_STRATEGY, Z_HUFFMAN_ONLY, Z_RLE, Z_FILTERED]
    .map((strategy) => deflateSync(raw, { level: 9, memLevel: 9, strategy }))
    .reduce((best, each) => (each.length < best.length ? each : best));
}

/** Never more than was announced, whatever the stream holds. */
function inflate(name: string, bytes: Uint8Array, most: number): Uint8Array {
  try {
    return new Uint8Array(inflateSync(bytes, { maxOutputLength: Math.max(1, most) }));
  } catch (error) {
    throw new LayoutError(`has a damaged ${name} (${error instanceof Error ? error.message : String(error)})`, {
      cause: error,
    });
  }
}
