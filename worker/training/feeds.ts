/** Turns a batch's arrays into the tensors that the model takes. */
import type { Tensor } from '@tensorflow/tfjs-core';
import { WhittleError } from '../../shared/errors.ts';
import type { Tf } from '../backend/tf.ts';
import { isColumn, isWholeNumberArray } from '../data/dataset.ts';
import type { Column, Columns, Dataset } from '../data/dataset.ts';
import type { LoadedModel, TensorOrRecord } from '../model/load-model.ts';
import type { ModelNames } from '../model/names.ts';
import { viewOf } from '../model/layer-tree.ts';

export interface Feeds {
  /** The model's inputs in its order, for `examples` examples. */
  inputs(columns: Columns, examples: number): Tensor[];
  /** Whole-number arrays become int32, others float32. */
  labels(columns: Columns): TensorOrRecord;
  /** Canonical names of the output layers. */
  readonly outputNames: readonly string[];
}

type Shape = readonly (number | null)[];

interface Input {
  /** The data's key; null where the data has one column. */
  readonly key: string | null;
  readonly shape: Shape;
  readonly dtype: 'float32' | 'int32';
}

/** @throws DATA, with both shapes, where the data's examples do not fit the model's inputs. */
export function bindFeeds(tf: Tf, { model, source }: LoadedModel, data: Dataset, names: ModelNames): Feeds {
  const nameOf = (tensor: { sourceLayer: unknown; name: string }): string =>
    names.layers.get(viewOf(tensor.sourceLayer as never)) ?? tensor.name;
  const inputs = model.inputs.map((tensor): Input => {
    const key = isRecord(data.inputShape) ? nameOf(tensor) : null;
    const shape = tensor.shape.slice(1);
    const given = isRecord(data.inputShape) ? data.inputShape[key ?? ''] : data.inputShape;
    const accepts = `takes inputs of shape [${shape.map((size) => size ?? 'any').join(', ')}]`;
    if (given === undefined) {
      throw new WhittleError(
        'DATA',
        `the model of ${source} has an input "${key}", which the data of ${data.source} lacks: it has ` +
          Object.keys(data.inputShape).join(', '),
      );
    }
    if (!isSameExample(given, shape)) {
      throw new WhittleError(
        'DATA',
        `the model of ${source} ${accepts}, the examples of ${data.source} have shape [${given.join(', ')}]: change one`,
        { data: { modelShape: shape, dataShape: given } },
      );
    }
    return { key, shape, dtype: tensor.dtype === 'int32' ? 'int32' : 'float32' };
  });
  if (!isRecord(data.inputShape) && inputs.length > 1) {
    throw new WhittleError(
      'DATA',
      `the model of ${source} has ${inputs.length} inputs (${model.inputs.map(nameOf).join(', ')}), the data of ` +
        `${data.source} has one: return a record of inputs by these names`,
    );
  }
  return {
    inputs: (columns, examples) => inputs.map((input) => inputTensor(tf, input, columns, examples)),
    labels: (columns) =>
      isColumn(columns)
        ? labelTensor(tf, columns)
        : Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, labelTensor(tf, column)])),
    outputNames: model.outputs.map(nameOf),
  };
}

function isRecord(shape: Dataset['inputShape']): shape is Readonly<Record<string, readonly number[]>> {
  return !Array.isArray(shape);
}

/** Equal, or equal but for axes of 1 or flattening: an image may be fed to a model that takes vectors, and back. */
function isSameExample(given: readonly number[], wanted: Shape): boolean {
  if (given.length === wanted.length && given.every((size, axis) => wanted[axis] === null || wanted[axis] === size)) {
    return true;
  }
  const long = (shape: Shape): Shape => shape.filter((size) => size !== 1);
  const product = (shape: Shape): number => shape.reduce<number>((total, size) => total * (size ?? NaN), 1);
  const isFlat = given.length === 1 || wanted.length === 1;
  return product(given) === product(wanted) && (isFlat || long(given).join() === long(wanted).join());
}

function inputTensor(tf: Tf, { key, shape, dtype }: Input, columns: Columns, examples: number): Tensor {
  const column = isColumn(columns) ? columns : columns[key ?? ''];
  if (column === undefined) throw new WhittleError('DATA', `a batch has no input "${key}", earlier ones had`);
  // An axis that the model leaves open takes the batch's own size.
  const own = column.shape.slice(1);
  const actual = shape.includes(null) ? own : (shape as number[]);
  if (!isSameExample(own, shape)) {
    throw new WhittleError(
      'DATA',
      `a batch has inputs of shape [${own.join(', ')}], the model takes [${shape.join(', ')}]`,
    );
  }
  return toTensor(tf, column.data, [examples, ...actual], dtype);
}

function labelTensor(tf: Tf, { data, shape }: Column): Tensor {
  return toTensor(tf, data, shape, isWholeNumberArray(data) ? 'int32' : 'float32');
}

/**
 * A tensor of its own: sources may overwrite their arrays in the next batch. The wasm backend copies into its
 * heap at once, the others keep what they are given.
 */
function toTensor(tf: Tf, data: Column['data'], shape: readonly number[], dtype: 'float32' | 'int32'): Tensor {
  const Values = dtype === 'int32' ? Int32Array : Float32Array;
  const values = data instanceof Values && tf.getBackend() === 'wasm' ? data : Values.from(data);
  return tf.tensor(values, [...shape], dtype);
}
