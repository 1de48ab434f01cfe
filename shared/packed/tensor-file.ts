import { WhittleError } from '../errors.ts';
import { bytesOf, SafetensorsFile, sizeOfShape, writeSafetensors, type TensorInfo } from '../checkpoint/safetensors.ts';
import {
  decodeTensor,
  encodeTensor,
  LAYOUT_IN_WORDS,
  LayoutError,
  PACKED_KEY,
  PACKED_VERSION,
  packedSchema,
  partName,
  type PackedEntry,
  type PackedPart,
} from './packed-layout.ts';
import { densify, type PackedTensor } from './packed-tensor.ts';

/**
 * Writes tensors packed, in the layout of packed-layout.ts, durably. Memory: their encoded bytes and one tensor.
 * Errors: DISK.
 * @returns size and hex sha256 of the whole file
 */
export async function writePacked(
  path: string,
  tensors: AsyncIterable<PackedTensor> | Iterable<PackedTensor>,
  metadata: Readonly<Record<string, string>>,
): Promise<{ bytes: number; sha256: string }> {
  const entries: [string, PackedEntry][] = [];
  const parts: PackedPart[] = [];
  for await (const tensor of tensors) {
    const encoded = encodeTensor(tensor);
    entries.push([tensor.name, encoded.entry]);
    parts.push(...encoded.parts);
  }
  // Float32 first, so that each lies aligned.
  const ordered = [...parts.filter(isWide), ...parts.filter((part) => !isWide(part))];
  const packed = { version: PACKED_VERSION, layout: LAYOUT_IN_WORDS, tensors: Object.fromEntries(entries) };
  return writeSafetensors(
    path,
    ordered.map(({ spec }) => spec),
    { ...metadata, [PACKED_KEY]: JSON.stringify(packed) },
    ordered.map(({ bytes }) => bytes),
  );
}

function isWide({ spec }: PackedPart): boolean {
  return spec.dtype === 'F32';
}

/**
 * A safetensors file of either kind, packed or dense float32: its tensors by name, in the file's order.
 * Errors: CHECKPOINT, naming the file and what is wrong with it; UNSUPPORTED for dense tensors of other types.
 */
export class TensorFile {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly isPacked: boolean;
  readonly #file: SafetensorsFile;
  /** Of a dense file null. */
  readonly #entries: ReadonlyMap<string, PackedEntry> | null;

  private constructor(file: SafetensorsFile, entries: ReadonlyMap<string, PackedEntry> | null) {
    this.path = file.path;
    this.metadata = file.header.metadata;
    this.isPacked = entries !== null;
    this.#file = file;
    this.#entries = entries;
  }

  static async open(path: string): Promise<TensorFile> {
    const file = await SafetensorsFile.open(path);
    try {
      return new TensorFile(file, entriesOf(file));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Names and shapes of the tensors. */
  get tensors(): ReadonlyMap<string, readonly number[]> {
    const all = this.#entries ?? this.#file.header.tensors;
    return new Map([...all].map(([name, { shape }]) => [name, shape]));
  }

  /** Dense values, exactly +0 where dead: [size]. */
  async read(name: string): Promise<Float32Array> {
    return densify(await this.readPacked(name));
  }

  /** As it lies in the file; of a dense file with all elements as survivors. */
  async readPacked(name: string): Promise<PackedTensor> {
    if (this.#entries === null) return this.#readDense(name);
    const entry = this.#entries.get(name);
    if (entry === undefined) throw this.#damaged(`has no tensor ${name}`);
    try {
      return await decodeTensor(name, entry, async (part, dtype) => {
        const info = this.#file.header.tensors.get(partName(name, part));
        return info?.dtype === dtype ? this.#bytes(info) : null;
      });
    } catch (error) {
      if (error instanceof LayoutError) throw this.#damaged(error.message, error);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #readDense(name: string): Promise<PackedTensor> {
    const info = this.#file.header.tensors.get(name);
    if (info === undefined) throw this.#damaged(`has no tensor ${name}`);
    if (info.dtype !== 'F32') {
      throw new WhittleError(
        'UNSUPPORTED',
        `${this.path}: tensor ${name} is ${info.dtype}; Whittle reads dense tensors of float32 (F32), so convert it`,
      );
    }
    const data = new Float32Array(sizeOfShape(info.shape));
    await this.#file.read(info, 0, bytesOf(data));
    return { name, shape: info.shape, mask: null, values: { kind: 'float32', data } };
  }

  async #bytes(info: TensorInfo): Promise<Uint8Array> {
    const bytes = new Uint8Array(info.end - info.begin);
    await this.#file.read(info, 0, bytes);
    return bytes;
  }

  #damaged(what: string, cause?: unknown): WhittleError {
    return new WhittleError('CHECKPOINT', `${this.path} is damaged: it ${what}`, { cause, data: { path: this.path } });
  }
}

function entriesOf({ path, header }: SafetensorsFile): ReadonlyMap<string, PackedEntry> | null {
  const text = header.metadata[PACKED_KEY];
  if (text === undefined) return null;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new WhittleError('CHECKPOINT', `${path} is damaged: its metadata ${PACKED_KEY} is not JSON`, {
      cause: error,
    });
  }
  const parsed = packedSchema.safeParse(json);
  if (parsed.success) return new Map(Object.entries(parsed.data.tensors));
  const issue = parsed.error.issues[0];
  throw new WhittleError(
    'CHECKPOINT',
    `${path}: its metadata ${PACKED_KEY} cannot be read (${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}); ` +
      `this Whittle reads version ${PACKED_VERSION}`,
  );
}
