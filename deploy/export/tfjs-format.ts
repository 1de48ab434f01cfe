import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as core from '@tensorflow/tfjs-core';
import { loadLayersModel, models, type LayersModel } from '@tensorflow/tfjs-layers';
import { writeDurably } from '../../shared/checkpoint/durable.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { bytesOf, sizeOfShape, type TensorSpec } from '../../shared/checkpoint/safetensors.ts';
import { WhittleError } from '../../shared/errors.ts';
import { whittleVersion } from '../../shared/version.ts';
import { disposeVariables, variablesOf } from '../../worker/model/describe-model.ts';
import { denseBytes, denseTensors, requireSameBytes, withoutRanges } from './dense-tensors.ts';
import type { ExportFormat, ExportSource } from './format.ts';
import { buildFrozenWeights, type FrozenWeight } from './frozen-weights.ts';

const MODEL = 'model.json';
const WEIGHTS = 'weights.bin';

/** TensorFlow.js layers format: `tf.loadLayersModel('https://.../model.json')` takes it as it is. */
export const tfjsFormat: ExportFormat = async (folder, { folder: checkpoint, ...source }) => {
  const manifest = withoutRanges(source.manifest);
  const frozen = await untrainedWeights(manifest);
  const tensors = [...denseTensors(manifest), ...frozen];
  const bytes = (): AsyncIterable<Uint8Array> => allBytes(checkpoint, manifest, frozen);
  return writeLayersModel(folder, {
    topology: manifest.model.topology,
    metadata: source.metadata,
    weights: tensors.map(({ name, shape }) => ({ name, shape: [...shape], dtype: 'float32' })),
    size: tensors.reduce((sum, { shape }) => sum + 4 * sizeOfShape(shape), 0),
    bytes,
    values: bytes,
  });
};

/** What goes into a model's two files. */
interface LayersModelFiles {
  readonly topology: unknown;
  readonly metadata: ExportSource['metadata'];
  /** In the order of their bytes. */
  readonly weights: readonly core.io.WeightsManifestEntry[];
  /** Bytes of all weights. */
  readonly size: number;
  readonly bytes: () => AsyncIterable<Uint8Array>;
  /** The float32 values that TensorFlow.js must make of them. */
  readonly values: () => AsyncIterable<Uint8Array>;
}

/** Writes model.json and weights.bin, loads them with TensorFlow.js and compares every weight. */
export async function writeLayersModel(folder: string, files: LayersModelFiles): Promise<string[]> {
  const document = {
    format: 'layers-model',
    generatedBy: `whittle ${whittleVersion}`,
    convertedBy: null,
    modelTopology: files.topology,
    userDefinedMetadata: files.metadata,
    weightsManifest: [{ paths: [WEIGHTS], weights: files.weights }],
  };
  await useSomeBackend();
  await writeDurably(join(folder, WEIGHTS), files.size, async (sink) => {
    for await (const chunk of files.bytes()) await sink(chunk);
  });
  const json = Buffer.from(JSON.stringify(document));
  await writeDurably(join(folder, MODEL), json.length, (sink) => sink(json));
  const model = await build(() => loadLayersModel({ load: () => readArtifacts(folder) }));
  try {
    await requireSameBytes(join(folder, WEIGHTS), files.values(), valuesOf(model, files.weights));
  } finally {
    disposeVariables(variablesOf(model));
  }
  return [MODEL, WEIGHTS];
}

/** The weights of the model that its run did not train, which are in no checkpoint. */
export async function untrainedWeights(manifest: Manifest): Promise<FrozenWeight[]> {
  await useSomeBackend();
  return buildFrozenWeights(manifest, await untrainedNames(manifest.model.topology, denseTensors(manifest)));
}

async function* allBytes(
  folder: string,
  manifest: Manifest,
  frozen: readonly FrozenWeight[],
): AsyncGenerator<Uint8Array> {
  yield* denseBytes(folder, manifest);
  for (const { bytes } of frozen) yield bytes;
}

/** The weights of the model that a checkpoint does not hold. */
async function untrainedNames(topology: unknown, trained: readonly TensorSpec[]): Promise<string[]> {
  const model = await build(() => models.modelFromJSON(topology as never));
  try {
    const known = new Set(trained.map(({ name }) => name));
    return model.weights.map(({ originalName }) => originalName).filter((name) => !known.has(name));
  } finally {
    disposeVariables(variablesOf(model));
  }
}

/** The files as a user's TensorFlow.js reads them. */
async function readArtifacts(folder: string): Promise<core.io.ModelArtifacts> {
  const model = JSON.parse(await readFile(join(folder, MODEL), 'utf8')) as core.io.ModelJSON;
  return core.io.getModelArtifactsForJSON(model, async (groups) => {
    const weights = await readFile(join(folder, WEIGHTS));
    return [groups.flatMap((group) => group.weights), new Uint8Array(weights).buffer];
  });
}

/** Loading is strict: every variable needs its tensor and the reverse. */
async function build(load: () => Promise<LayersModel>): Promise<LayersModel> {
  try {
    return await load();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new WhittleError(
      'UNSUPPORTED',
      `TensorFlow.js cannot rebuild this model from its topology: ${why}. It knows no layers of one's own, and takes ` +
        'two weights of one name for one; export with --format safetensors, and load its tensors by name into the model',
      { cause: error },
    );
  }
}

function* valuesOf(model: LayersModel, tensors: readonly { readonly name: string }[]): Generator<Uint8Array> {
  const variables = new Map(model.weights.map((variable) => [variable.originalName, variable]));
  for (const { name } of tensors) {
    const values = variables.get(name)?.read().dataSync();
    if (values !== undefined) yield bytesOf(values);
  }
}

/** Any backend holds weights; a command that has not loaded one gets the plain JavaScript one. */
async function useSomeBackend(): Promise<void> {
  if ((core.getBackend() as string | undefined) !== undefined) return;
  core.enableProdMode(); // else the cpu backend prints a banner
  await import('@tensorflow/tfjs-backend-cpu');
  await core.setBackend('cpu');
}
