import { type DenseChunk, denseChunks, locatedAt } from '../../shared/checkpoint/digests.ts';
import { stateSize } from '../../shared/checkpoint/manifest-file.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { readState } from '../../shared/checkpoint/reshard.ts';
import { bytesOf, sizeOfShape, type TensorSpec } from '../../shared/checkpoint/safetensors.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { ParameterSpec } from '../../shared/layout/model-description.ts';
import { isOwnState } from '../../shared/layout/own-states.ts';
import { transformAt, weightTransforms, type WeightTransform } from '../../worker/training/weight-transforms.ts';
import type { ExportSource } from './format.ts';

/** Every tensor of a checkpoint, dense float32: parameters in model order, then states in model order. */
export function denseTensors({ model }: Manifest): TensorSpec[] {
  return [...model.parameters, ...model.states].map(({ name, shape }) => ({ name, dtype: 'F32', shape }));
}

/** The manifest of the same checkpoint without what the run keeps for itself, such as ranges of activations. */
export function withoutRanges(manifest: Manifest): Manifest {
  const { model } = manifest;
  return { ...manifest, model: { ...model, states: model.states.filter((state) => !isOwnState(state)) } };
}

/** The bytes of `denseTensors` end to end: effective weights (dead = +0), clustered where the run clusters, then states. */
export async function* denseBytes({
  folder,
  manifest,
  state,
}: Pick<ExportSource, 'folder' | 'manifest' | 'state'>): AsyncGenerator<Uint8Array> {
  for await (const values of clustered(manifest, denseChunks(manifest, locatedAt(folder)))) yield bytesOf(values);
  yield bytesOf((state ?? (await readState(folder, manifest))).subarray(0, stateSize(manifest)));
}

/** What float32 exports make of weights; null: nothing. Those of runs that quantize keep what is behind the whole numbers. */
export function float32Transform({ config, clock }: Manifest): WeightTransform | null {
  const { quantization: _, ...others } = config;
  return transformAt(weightTransforms(others), clock);
}

/** Chunks of weights as they are, or whole parameters where weights are clustered. */
async function* clustered(manifest: Manifest, chunks: AsyncIterable<DenseChunk>): AsyncGenerator<Float32Array> {
  const transform = float32Transform(manifest);
  if (transform === null) {
    for await (const { weights } of chunks) yield weights;
    return;
  }
  const { parameters } = manifest.model;
  let index = 0;
  let values = new Float32Array(sizeOfShape(parameters[0]?.shape ?? []));
  let filled = 0;
  for await (const { weights } of chunks) {
    for (let at = 0; at < weights.length;) {
      const part = weights.subarray(at, at + values.length - filled);
      values.set(part, filled);
      at += part.length;
      filled += part.length;
      if (filled < values.length) break;
      yield transform(values, parameters[index] as ParameterSpec);
      index++;
      values = new Float32Array(sizeOfShape(parameters[index]?.shape ?? []));
      filled = 0;
    }
  }
}

/** Throws DISK unless both streams have the same bytes, however they are cut into chunks. */
export async function requireSameBytes(
  path: string,
  expected: AsyncIterable<Uint8Array>,
  actual: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<void> {
  const rest = readBytes(actual);
  let position = 0;
  for await (const chunk of expected) {
    const read = await rest(chunk.length);
    if (Buffer.compare(chunk, read) !== 0) throw differs(path, position);
    position += chunk.length;
  }
  if ((await rest(1)).length !== 0) throw differs(path, position);
}

/** Reads a stream of chunks in pieces of the size asked for, less only at its end. */
function readBytes(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): (length: number) => Promise<Uint8Array> {
  const source = (async function* () {
    yield* chunks;
  })();
  let current: Uint8Array = new Uint8Array(0);
  return async (length) => {
    const piece = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      if (current.length === 0) {
        const next = await source.next();
        if (next.done === true) break;
        current = next.value;
        continue;
      }
      const part = current.subarray(0, length - filled);
      piece.set(part, filled);
      filled += part.length;
      current = current.subarray(part.length);
    }
    return piece.subarray(0, filled);
  };
}

function differs(path: string, position: number): WhittleError {
  return new WhittleError(
    'DISK',
    `${path}, read back, differs from the checkpoint near byte ${position} of its tensors; check the disk`,
  );
}
