/**
 * The safetensors format (Hugging Face, 2022): a little-endian u64 with the header's length, the header as JSON
 * `{ name: { dtype, shape, data_offsets: [begin, end] }, __metadata__: { key: string } }` padded with spaces to a
 * multiple of 8, then the tensors' bytes, contiguous, little-endian, without holes.
 */
import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { endianness } from 'node:os';
import { WhittleError } from '../errors.ts';
import { errorCode, writeDurably } from './durable.ts';

/** Largest header, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;
const CHUNK_BYTES = 1 << 20;

export const DTYPE_BYTES = { F32: 4, I32: 4, I64: 8, U8: 1, I8: 1, BF16: 2, F16: 2 } as const;
export type Dtype = keyof typeof DTYPE_BYTES;

export interface TensorSpec {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

export interface TensorInfo extends TensorSpec {
  /** Byte range within the file. */
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/** Elements of a shape; 1 for a scalar. */
export function sizeOfShape(shape: readonly number[]): number {
  return shape.reduce((size, dimension) => size * dimension, 1);
}

/** The bytes of a typed array, not copied. Whittle's files are little-endian, as is every machine it runs on. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  if (endianness() !== 'LE')
    throw new WhittleError('UNSUPPORTED', 'this machine is big-endian; use a little-endian one');
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/**
 * Writes a file durably, hashing it on the way.
 * @param tensors in the order in which their bytes come; put wide types first so that each lies aligned
 * @param body the tensors' bytes end to end, in chunks of any size
 * @returns size and hex sha256 of the whole file
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSpec[],
  metadata: Readonly<Record<string, string>>,
  body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<{ bytes: number; sha256: string }> {
  const entries: [string, unknown][] = [['__metadata__', metadata]];
  let bodyBytes = 0;
  for (const { name, dtype, shape } of tensors) {
    const begin = bodyBytes;
    bodyBytes += sizeOfShape(shape) * DTYPE_BYTES[dtype];
    entries.push([name, { dtype, shape, data_offsets: [begin, bodyBytes] }]);
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  header.writeBigUInt64LE(BigInt(header.length - 8));
  json.copy(header, 8);
  const bytes = header.length + bodyBytes;
  const hash = createHash('sha256');
  await writeDurably(path, bytes, async (sink) => {
    let written = 0;
    const put = async (whole: Uint8Array): Promise<void> => {
      for (let from = 0; from < whole.length; from += CHUNK_BYTES) {
        const chunk = whole.subarray(from, from + CHUNK_BYTES);
        hash.update(chunk);
        await sink(chunk);
        written += chunk.length;
      }
    };
    await put(header);
    for await (const chunk of body) await put(chunk);
    if (written !== bytes) {
      throw new WhittleError(
        'INTERNAL',
        `${path}: the body has ${written - header.length} bytes, its header says ${bodyBytes}`,
      );
    }
  });
  return { bytes, sha256: hash.digest('hex') };
}

/** A file open for reading; every read is checked against its header. Errors are WhittleError CHECKPOINT. */
export class SafetensorsFile {
  readonly path: string;
  readonly header: SafetensorsHeader;
  readonly #handle: FileHandle;

  private constructor(path: string, header: SafetensorsHeader, handle: FileHandle) {
    this.path = path;
    this.header = header;
    this.#handle = handle;
  }

  static async open(path: string): Promise<SafetensorsFile> {
    let handle: FileHandle;
    try {
      handle = await open(path, 'r');
    } catch (error) {
      const why = errorCode(error) === 'ENOENT' ? 'is missing' : `cannot be opened (${errorCode(error)})`;
      throw new WhittleError('CHECKPOINT', `${path} ${why}`, { cause: error });
    }
    try {
      const { size } = await handle.stat();
      const length = new Uint8Array(8);
      if (size < 8) throw damaged(path, `has ${size} bytes, too few for a header`);
      await readFully(handle, path, length, 0);
      const headerBytes = new DataView(length.buffer).getBigUint64(0, true);
      if (headerBytes > BigInt(MAX_HEADER_BYTES)) throw damaged(path, `announces a header of ${headerBytes} bytes`);
      if (8 + Number(headerBytes) > size)
        throw damaged(path, `announces a header of ${headerBytes} bytes in ${size} (truncated)`);
      const json = new Uint8Array(Number(headerBytes));
      await readFully(handle, path, json, 8);
      return new SafetensorsFile(path, parseHeader(path, json, size), handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  tensor(name: string, dtype: Dtype): TensorInfo {
    const info = this.header.tensors.get(name);
    if (info?.dtype !== dtype) throw damaged(this.path, `has no tensor ${name} of type ${dtype}`);
    return info;
  }

  /** Fills `target` with the tensor's bytes from byte `offset` of the tensor on. */
  async read(info: TensorInfo, offset: number, target: Uint8Array): Promise<void> {
    if (offset < 0 || info.begin + offset + target.length > info.end) {
      throw damaged(this.path, `is read beyond the end of ${info.name}`);
    }
    await readFully(this.#handle, this.path, target, info.begin + offset);
  }

  /** The tensor's bytes in order, in chunks of at most 1 MiB that are valid until the next one is asked for. */
  async *chunks(info: TensorInfo): AsyncGenerator<Uint8Array> {
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, info.end - info.begin));
    for (let offset = 0; info.begin + offset < info.end; offset += buffer.length) {
      const chunk = buffer.subarray(0, Math.min(buffer.length, info.end - info.begin - offset));
      await this.read(info, offset, chunk);
      yield chunk;
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

function parseHeader(path: string, json: Uint8Array, fileBytes: number): SafetensorsHeader {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (error) {
    throw new WhittleError('CHECKPOINT', `${path} is damaged: its header is not JSON`, { cause: error });
  }
  if (!isRecord(parsed)) throw damaged(path, 'its header is not an object');
  const bodyBegin = 8 + json.length;
  const tensors = new Map<string, TensorInfo>();
  const metadata = new Map<string, string>();
  for (const [name, value] of Object.entries(parsed)) {
    if (!isRecord(value)) throw damaged(path, `its header entry ${name} is not an object`);
    if (name === '__metadata__') {
      for (const [key, text] of Object.entries(value)) {
        if (typeof text !== 'string') throw damaged(path, `its metadata ${key} is not a string`);
        metadata.set(key, text);
      }
      continue;
    }
    const { dtype, shape, data_offsets: offsets } = value;
    if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype)) {
      throw damaged(path, `tensor ${name} has the unknown type ${String(dtype)}`);
    }
    if (!isCounts(shape) || !isCounts(offsets) || offsets.length !== 2) {
      throw damaged(path, `tensor ${name} has a wrong shape or offsets`);
    }
    const [begin, end] = [offsets[0]!, offsets[1]!];
    if (end - begin !== sizeOfShape(shape) * DTYPE_BYTES[dtype as Dtype]) {
      throw damaged(path, `tensor ${name} of shape [${shape.join(', ')}] lies at bytes ${begin} to ${end}`);
    }
    tensors.set(name, { name, dtype: dtype as Dtype, shape, begin: bodyBegin + begin, end: bodyBegin + end });
  }
  let next = bodyBegin;
  for (const info of [...tensors.values()].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    if (info.begin !== next) throw damaged(path, `tensor ${info.name} overlaps another or leaves a hole`);
    next = info.end;
  }
  if (next !== fileBytes) throw damaged(path, `has ${fileBytes} bytes, its header says ${next}`);
  return { metadata: Object.fromEntries(metadata), tensors };
}

async function readFully(handle: FileHandle, path: string, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.length;) {
    const length = Math.min(target.length - done, CHUNK_BYTES);
    const { bytesRead } = await handle.read(target, done, length, position + done);
    if (bytesRead === 0) throw damaged(path, `ends at byte ${position + done} (truncated)`);
    done += bytesRead;
  }
}

function damaged(path: string, what: string): WhittleError {
  return new WhittleError('CHECKPOINT', `${path} is damaged: ${what}`, { data: { path } });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0);
}
