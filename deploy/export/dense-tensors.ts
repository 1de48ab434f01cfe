import { denseChunks, locatedAt } from '../../shared/checkpoint/digests.ts';
import { stateSize } from '../../shared/checkpoint/manifest-file.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { readState } from '../../shared/checkpoint/reshard.ts';
import { bytesOf, type TensorSpec } from '../../shared/checkpoint/safetensors.ts';
import { WhittleError } from '../../shared/errors.ts';
import { isActivationRange } from '../../shared/quantization/activation-range.ts';

/** Every tensor of a checkpoint, dense float32: parameters in model order, then states in model order. */
export function denseTensors({ model }: Manifest): TensorSpec[] {
  return [...model.parameters, ...model.states].map(({ name, shape }) => ({ name, dtype: 'F32', shape }));
}

/** The manifest of the same checkpoint without ranges of quantized activations, which belong to no layer and come last. */
export function withoutRanges(manifest: Manifest): Manifest {
  const { model } = manifest;
  return { ...manifest, model: { ...model, states: model.states.filter((state) => !isActivationRange(state)) } };
}

/** The bytes of `denseTensors` end to end: effective weights (dead = +0), then states. */
export async function* denseBytes(folder: string, manifest: Manifest): AsyncGenerator<Uint8Array> {
  for await (const { weights } of denseChunks(manifest, locatedAt(folder))) yield bytesOf(weights);
  yield bytesOf((await readState(folder, manifest)).subarray(0, stateSize(manifest)));
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
