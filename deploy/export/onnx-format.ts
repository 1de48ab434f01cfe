import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadLayersModel, type LayersModel } from '@tensorflow/tfjs-layers';
import { writeDurably } from '../../shared/checkpoint/durable.ts';
import { bytesOf, sizeOfShape } from '../../shared/checkpoint/safetensors.ts';
import { WhittleError } from '../../shared/errors.ts';
import { loadBackend } from '../../worker/backend/backend.ts';
import { assertSupported } from '../../worker/backend/supported.ts';
import { disposeVariables, variablesOf } from '../../worker/model/describe-model.ts';
import { denseBytes, denseTensors, requireSameBytes, withoutRanges } from './dense-tensors.ts';
import type { ExportFormat } from './format.ts';
import { compareOutputs } from './onnx/compare.ts';
import { convertModel, type Converted } from './onnx/convert.ts';
import { decodeModel, encodeModel } from './onnx/proto.ts';
import { transposed } from './onnx/transpose.ts';
import { untrainedWeights } from './tfjs-format.ts';

const FILE = 'model.onnx';
/** What a protobuf message may have, less some for names. */
const MOST_BYTES = 2 ** 31 - (1 << 24);

/**
 * ONNX with dense float32 weights. Memory: the model four times. Every weight is read back from the file; where
 * `onnxruntime-web` is installed it also runs the file, and its outputs must be those of the model.
 */
export const onnxFormat: ExportFormat = async (folder, { folder: checkpoint, metadata, ...source }) => {
  const manifest = withoutRanges(source.manifest);
  const path = join(folder, FILE);
  // The backend whose outputs the file is compared with.
  await loadBackend('wasm');
  const frozen = await untrainedWeights(manifest);
  const tensors = [...denseTensors(manifest), ...frozen];
  const size = tensors.reduce((sum, { shape }) => sum + 4 * sizeOfShape(shape), 0);
  if (size > MOST_BYTES) {
    throw new WhittleError(
      'UNSUPPORTED',
      `the weights have ${size} bytes, and an ONNX file holds 2 GB; export with --format safetensors`,
    );
  }
  const bytes = async function* (): AsyncGenerator<Uint8Array> {
    yield* denseBytes(checkpoint, manifest);
    for (const each of frozen) yield each.bytes;
  };
  const weightData = new Uint8Array(size);
  let at = 0;
  for await (const chunk of bytes()) {
    weightData.set(chunk, at);
    at += chunk.length;
  }
  const weightSpecs = tensors.map(({ name, shape }) => ({ name, shape: [...shape], dtype: 'float32' as const }));
  const artifacts = { modelTopology: manifest.model.topology as never, weightSpecs, weightData: weightData.buffer };
  const model = await rebuild(() => loadLayersModel({ load: () => Promise.resolve(artifacts) }));
  try {
    assertSupported(model);
    const converted = convertModel(model, metadata);
    const file = encodeModel(converted.model);
    await writeDurably(path, file.length, (sink) => sink(file));
    const written = await readFile(path);
    const names = new Set(converted.weights.keys());
    const missing = tensors.find(({ name }) => !names.has(name));
    if (missing !== undefined) throw new WhittleError('INTERNAL', `${missing.name} is in no part of ${FILE}`);
    await requireSameBytes(
      path,
      bytes(),
      weightsOf(
        written,
        converted,
        tensors.map(({ name }) => name),
      ),
    );
    if (!(await compareOutputs(path, written, model))) {
      source.note(
        'every weight was read back from the file, but its outputs were not compared with those of the model: ' +
          '`npm install onnxruntime-web` beside Whittle for that',
      );
    }
  } finally {
    disposeVariables(variablesOf(model));
  }
  return [FILE];
};

/** The initializers as the model's variables have them. */
function* weightsOf(file: Buffer, { weights }: Converted, names: readonly string[]): Generator<Uint8Array> {
  const initializers = new Map((decodeModel(file).graph?.initializer ?? []).map((each) => [each.name, each]));
  for (const name of names) {
    const stored = weights.get(name);
    const raw = stored && initializers.get(stored.initializer)?.rawData;
    if (stored === undefined || raw === undefined) continue;
    const values = new Float32Array(new Uint8Array(raw).buffer);
    yield bytesOf(transposed(values, stored.shape, stored.permutation));
  }
}

async function rebuild(load: () => Promise<LayersModel>): Promise<LayersModel> {
  try {
    return await load();
  } catch (error) {
    throw new WhittleError(
      'UNSUPPORTED',
      `TensorFlow.js cannot rebuild this model from its topology: ${error instanceof Error ? error.message : String(error)}; ` +
        'export with --format safetensors',
      { cause: error },
    );
  }
}
