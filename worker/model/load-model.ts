/**
 * From the run file's `model` to a LayersModel that can be trained: a built-in, or a module of the user's with
 * the contract below. The model is built with Math.random seeded from (seed, 0, 0), so every process that
 * builds it gets the same weights.
 */
import { isAbsolute } from 'node:path';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { WhittleError } from '../../shared/errors.ts';
import type { Tf } from '../backend/tf.ts';
import { withSeed } from './seeded-random.ts';
import type { DataShape } from './built-in/built-in.ts';
import { BUILT_IN_MODELS } from './built-in/registry.ts';
import { unseedLayers } from './unseed-layers.ts';
import { fromUserCode, importUserModule, listExports } from './user-module.ts';

/** One tensor, or a record by name where there are several (input names, output layer names, the data's keys). */
export type TensorOrRecord = Tensor | Readonly<Record<string, Tensor>>;
/** A user's loss: the mean over the examples of the slice. */
export type LossFunction = (tf: Tf, labels: TensorOrRecord, outputs: TensorOrRecord) => Scalar;

export interface LoadedModel {
  readonly model: LayersModel;
  /** Null: mean softmax cross-entropy. */
  readonly loss: LossFunction | null;
  /** What the user calls it, for messages: a built-in's name or a path. */
  readonly source: string;
  readonly notes: readonly string[];
}

const CONTRACT = `a model module looks like this:
  export function model(tf) {            // returns a tf.LayersModel, or a promise of one
    return tf.sequential({ layers: [tf.layers.dense({ units: 10, inputShape: [784] })] });
  }
  export function loss(tf, labels, outputs) { ... }   // optional; default: mean softmax cross-entropy on logits`;

export interface ShapeOfData {
  readonly inputShape: readonly number[];
  readonly classes: number | null;
  readonly labels: 'classes' | 'values';
  /** What the user calls the data. */
  readonly data: string;
}

/**
 * @param source a built-in's name or an absolute path
 * @param shape of the data; `classes` is null where the labels are not class ids, or the data does not say how many
 * @throws MODEL, or DATA where a built-in model needs more of the data; with the cure
 */
export async function loadModel(tf: Tf, source: string, seed: number, shape: ShapeOfData): Promise<LoadedModel> {
  const loaded = isAbsolute(source) ? await fromModule(tf, source, seed) : await fromRegistry(tf, source, seed, shape);
  return { ...loaded, notes: [...loaded.notes, ...unseedLayers(loaded.model)] };
}

async function fromRegistry(
  tf: Tf,
  name: string,
  seed: number,
  { inputShape, classes, labels, data }: ShapeOfData,
): Promise<LoadedModel> {
  const build = BUILT_IN_MODELS[name];
  if (build === undefined) {
    const known = Object.keys(BUILT_IN_MODELS).join(', ');
    throw new WhittleError('MODEL', `no built-in model "${name}": use ${known}, or ./file.ts for a module of yours`, {
      data: { name },
    });
  }
  if (classes === null) {
    if (labels === 'values') {
      throw new WhittleError(
        'MODEL',
        `model ${name} classifies, but the labels of ${data} are not class ids: use a model module with a loss of its ` +
          'own, or data whose labels are whole numbers of shape [n]',
      );
    }
    throw new WhittleError(
      'DATA',
      `model ${name} needs the number of classes, and ${data} does not export it: add ` +
        '`export const classes = 10;` to the data module, with the largest label + 1 for 10',
      { data: { model: name, source: data } },
    );
  }
  const shape: DataShape = { inputShape, classes };
  return {
    model: await withSeed({ seed, step: 0, slice: 0 }, 'model', () => build(tf, shape)),
    loss: null,
    source: name,
    notes: [],
  };
}

async function fromModule(tf: Tf, path: string, seed: number): Promise<LoadedModel> {
  const module = await withSeed({ seed, step: 0, slice: 0 }, 'model', () => importUserModule(path, 'MODEL'));
  const { model: build, loss, metrics } = module;
  if (typeof build !== 'function') {
    throw new WhittleError('MODEL', `${path} exports no function \`model\`: ${listExports(module)}; ${CONTRACT}`, {
      data: { path, exports: Object.keys(module) },
    });
  }
  if (loss !== undefined && typeof loss !== 'function') {
    throw new WhittleError('MODEL', `${path} exports \`loss\` as ${describe(loss)}, not as a function; ${CONTRACT}`);
  }
  const built = await withSeed({ seed, step: 0, slice: 0 }, 'model', async () => {
    try {
      return await (build as (tf: Tf) => unknown)(tf);
    } catch (reason) {
      throw fromUserCode(reason, 'MODEL', path, 'model(tf) failed');
    }
  });
  return {
    model: asLayersModel(tf, built, path),
    loss: (loss as LossFunction | undefined) ?? null,
    source: path,
    notes:
      metrics === undefined
        ? []
        : [`${path} exports \`metrics\`, which this version does not evaluate: accuracy and loss are`],
  };
}

function asLayersModel(tf: Tf, built: unknown, path: string): LayersModel {
  if (!(built instanceof tf.LayersModel)) {
    const isForeign = typeof built === 'object' && built !== null && 'layers' in built && 'trainableWeights' in built;
    throw new WhittleError(
      'MODEL',
      isForeign
        ? `model(tf) in ${path} returns a model of another copy of TensorFlow.js: build it with the \`tf\` that model(tf) is given`
        : `model(tf) in ${path} returns ${describe(built)}, not a tf.LayersModel; ${CONTRACT}`,
      { data: { path } },
    );
  }
  // An unbuilt Sequential has no inputs at all, whatever its type says.
  if ((built.inputs as unknown) === undefined || built.inputs.length === 0) {
    throw new WhittleError(
      'MODEL',
      `the model of ${path} has no input shape: give its first layer \`inputShape\`, such as [784] or [28, 28, 1]`,
      { data: { path } },
    );
  }
  return built;
}

function describe(value: unknown): string {
  if (value === undefined || value === null) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  return Array.isArray(value) ? 'an array' : `a ${value.constructor?.name ?? 'bare object'}`;
}
