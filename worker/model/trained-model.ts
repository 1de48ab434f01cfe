/** Trained models of others and of earlier runs, by what they hold: tensors by name, or a whole LayersModel. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { io } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { denseChunks, locatedAt } from '../../shared/checkpoint/digests.ts';
import { readManifest, spaceSize } from '../../shared/checkpoint/manifest-file.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { readState } from '../../shared/checkpoint/reshard.ts';
import { SafetensorsFile, sizeOfShape } from '../../shared/checkpoint/safetensors.ts';
import { sourceAt, type TrainedSource } from '../../shared/checkpoint/trained-source.ts';
import { decode } from '../../shared/codec/codec.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { Tf } from '../backend/tf.ts';
import { disposeVariables, variablesOf } from './describe-model.ts';
import { topologyOf } from './topology.ts';

export interface TrainedTensor {
  readonly shape: readonly number[];
  /** Row-major. */
  readonly values: Float32Array;
}

export interface TrainedTensors {
  /** Under canonical names; weights of a run are effective ones, exactly +0 where dead. */
  readonly tensors: ReadonlyMap<string, TrainedTensor>;
  /** As TensorFlow.js writes it; null where only tensors are known. */
  readonly topology: unknown;
  /** Of a run's checkpoint, else null. */
  readonly manifest: Manifest | null;
}

const FLOATS = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' } as const;

/** All tensors of a source, whole in memory. Errors: CHECKPOINT (damaged, gone), UNSUPPORTED (not to be rebuilt). */
export async function readTrainedTensors(tf: Tf, path: string): Promise<TrainedTensors> {
  const source = await requireSource(path);
  if (source.kind === 'checkpoint') return readCheckpoint(source.path);
  if (source.kind === 'safetensors') {
    return { tensors: await readSafetensors(source.path), topology: null, manifest: null };
  }
  const model = await loadLayersModel(tf, source.path);
  const variables = variablesOf(model);
  try {
    const tensors = new Map<string, TrainedTensor>();
    for (const [variable, name] of variables.names.variables) {
      const tensor = variable.read();
      tensors.set(name, { shape: tensor.shape, values: Float32Array.from(tensor.dataSync()) });
    }
    return { tensors, topology: topologyOf(model, variables.names), manifest: null };
  } finally {
    disposeVariables(variables);
  }
}

/**
 * The model itself, with its trained weights. Its variables are the caller's to dispose.
 * Errors: CHECKPOINT, UNSUPPORTED; MODEL for safetensors, which hold no model.
 */
export async function loadTrainedModel(tf: Tf, path: string): Promise<LayersModel> {
  const source = await requireSource(path);
  if (source.kind === 'layers-model') return loadLayersModel(tf, source.path);
  if (source.kind === 'safetensors') {
    throw new WhittleError('MODEL', `${path} holds tensors and no model: name a run, or a folder with model.json`);
  }
  const { tensors, topology } = await readCheckpoint(source.path);
  const model = await rebuild(path, () => tf.models.modelFromJSON(topology as never));
  const variables = variablesOf(model);
  for (const [variable, name] of variables.names.variables) {
    const tensor = tensors.get(name);
    if (tensor === undefined) {
      disposeVariables(variables);
      throw new WhittleError(
        'UNSUPPORTED',
        `${path} does not hold ${name}, which was frozen in its run: export it with --format tfjs, which writes frozen weights too, and name that folder`,
      );
    }
    tf.tidy(() => void variable.write(tf.tensor(tensor.values, [...tensor.shape])));
  }
  return model;
}

async function requireSource(path: string): Promise<TrainedSource> {
  const source = await sourceAt(path);
  if (source !== null) return source;
  throw new WhittleError('CHECKPOINT', `${path} is no checkpoint, model.json or safetensors file, or is gone`);
}

async function readCheckpoint(folder: string): Promise<TrainedTensors> {
  const manifest = await readManifest(folder);
  const weights = new Float32Array(spaceSize(manifest));
  for await (const chunk of denseChunks(manifest, locatedAt(folder))) weights.set(chunk.weights, chunk.start);
  const state = await readState(folder, manifest);
  const tensors = new Map<string, TrainedTensor>();
  for (const [specs, values] of [
    [manifest.model.parameters, weights],
    [manifest.model.states, state],
  ] as const) {
    let at = 0;
    for (const { name, shape } of specs) {
      const size = sizeOfShape(shape);
      tensors.set(name, { shape, values: values.slice(at, at + size) });
      at += size;
    }
  }
  return { tensors, topology: manifest.model.topology, manifest };
}

async function readSafetensors(path: string): Promise<Map<string, TrainedTensor>> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = new Map<string, TrainedTensor>();
    for (const [name, info] of file.header.tensors) {
      const format = (FLOATS as Partial<Record<string, (typeof FLOATS)[keyof typeof FLOATS]>>)[info.dtype];
      if (format === undefined) {
        throw new WhittleError(
          'CHECKPOINT',
          `${path}: tensor ${name} is ${info.dtype}, initial values are F32, F16 or BF16: save it as one of these`,
        );
      }
      const bytes = new Uint8Array(info.end - info.begin);
      await file.read(info, 0, bytes);
      tensors.set(name, { shape: info.shape, values: decode(format, bytes, sizeOfShape(info.shape)) });
    }
    return tensors;
  } finally {
    await file.close();
  }
}

async function loadLayersModel(tf: Tf, path: string): Promise<LayersModel> {
  return rebuild(path, () => tf.loadLayersModel({ load: () => readArtifacts(tf, path) }));
}

async function readArtifacts(tf: Tf, path: string): Promise<io.ModelArtifacts> {
  const json = JSON.parse(await readFile(path, 'utf8')) as io.ModelJSON;
  return tf.io.getModelArtifactsForJSON(json, async (groups) => {
    const parts = await Promise.all(
      groups.flatMap(({ paths }) => paths).map((file) => readFile(join(dirname(path), file))),
    );
    return [groups.flatMap(({ weights }) => weights), new Uint8Array(Buffer.concat(parts)).buffer];
  });
}

async function rebuild(path: string, load: () => Promise<LayersModel>): Promise<LayersModel> {
  try {
    return await load();
  } catch (cause) {
    if (cause instanceof WhittleError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new WhittleError('UNSUPPORTED', `TensorFlow.js cannot rebuild the model of ${path}: ${why}`, { cause });
  }
}
