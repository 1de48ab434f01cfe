/** What is minimised: the user's loss, or mean softmax cross-entropy, and how right answers are counted. */
import { createHash } from 'node:crypto';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { USER_LOSS } from '../../shared/checkpoint/compatibility.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { Tf } from '../backend/tf.ts';
import type { Dataset } from '../data/dataset.ts';
import { isContainer, leavesOf, unwrap, viewOf } from '../model/layer-tree.ts';
import type { LoadedModel, TensorOrRecord } from '../model/load-model.ts';
import { fromUserCode } from '../model/user-module.ts';

export interface Objective {
  /** Mean over the examples, without regularizers. */
  loss(labels: TensorOrRecord, outputs: readonly Tensor[]): Scalar;
  /** Sum of the regularizers, each variable's once however often its layer is used; null without any. */
  penalty(): Scalar | null;
  /** Examples whose largest output is at their class; null where the labels are not classes. */
  correct(labels: TensorOrRecord, outputs: readonly Tensor[]): number | null;
  /** See ModelDescription. */
  readonly identity: string;
  readonly notes: readonly string[];
}

export function createObjective(tf: Tf, loaded: LoadedModel, data: Dataset, outputNames: readonly string[]): Objective {
  const { model, source } = loaded;
  const regularizers = leavesOf(model).flatMap((leaf) => unwrap(leaf).flatMap((layer) => layer._losses ?? []));
  const isProbability = lastActivation(model) === 'softmax';
  if (loaded.loss === null) assertClassifies(model, source, data);
  const userLoss = (labels: TensorOrRecord, outputs: readonly Tensor[]): Scalar => {
    const named =
      outputs.length === 1
        ? (outputs[0] as Tensor)
        : Object.fromEntries(outputs.map((output, i) => [outputNames[i] ?? String(i), output]));
    return checkedScalar(tf, () => loaded.loss?.(tf, labels, named), source);
  };
  return {
    loss: (labels, outputs) =>
      loaded.loss === null
        ? crossEntropy(tf, targets(tf, labels, outputs[0] as Tensor, data.source), outputs[0] as Tensor, isProbability)
        : userLoss(labels, outputs),
    penalty: () =>
      regularizers.length === 0 ? null : regularizers.map((loss) => loss()).reduce((sum, each) => tf.add(sum, each)),
    correct: (labels, outputs) => countCorrect(labels, outputs),
    identity:
      loaded.loss === null
        ? isProbability
          ? 'cross-entropy on probabilities'
          : 'softmax cross-entropy on logits'
        : USER_LOSS + createHash('sha256').update(String(loaded.loss)).digest('hex'),
    notes: loaded.loss === null ? notesOn(lastActivation(model)) : [],
  };
}

/** What the default loss makes of the last layer's activation. */
function notesOn(activation: string): string[] {
  if (activation === 'softmax') {
    return [
      'the model ends in softmax: the loss is cross-entropy on its probabilities; without the softmax it would be ' +
        'softmax cross-entropy on logits, which is more exact',
    ];
  }
  if (activation === 'linear') return [];
  return [
    `the model ends in ${activation}, whose outputs the default loss takes as logits: leave the last layer without an ` +
      'activation, or export a `loss`',
  ];
}

/** @throws MODEL or DATA where the default loss cannot be had. */
function assertClassifies(model: LayersModel, source: string, data: Dataset): void {
  const cure = `export a \`loss\` from ${source}`;
  const shape = model.outputs[0]?.shape ?? [];
  const units = shape.at(-1) ?? 0;
  if (model.outputs.length !== 1 || shape.length !== 2) {
    const shapes = model.outputs.map((output) => `[${output.shape.slice(1).join(', ')}]`).join(', ');
    throw new WhittleError(
      'MODEL',
      `the default loss needs one output of shape [classes], the model of ${source} has ${shapes}: ${cure}`,
    );
  }
  if (data.labels === 'classes' && units < 2) {
    throw new WhittleError('MODEL', `the model of ${source} has ${units} output unit: give it one a class, or ${cure}`);
  }
  if (data.classes !== null && data.classes > units) {
    throw new WhittleError(
      'DATA',
      `label ${data.classes - 1} is out of range: the data of ${data.source} has ${data.classes} classes, the model of ` +
        `${source} has ${units} outputs; give it at least ${data.classes}`,
      { data: { classes: data.classes, outputs: units } },
    );
  }
}

/** By name; `linear` where the last layer has none. */
export function lastActivation(model: LayersModel): string {
  let layer = viewOf(model.outputs[0]?.sourceLayer as never);
  while (isContainer(layer) && layer.outputs?.[0] !== undefined) layer = layer.outputs[0].sourceLayer;
  const className = layer.getClassName();
  if (className === 'Softmax') return 'softmax';
  if (/^(\w*ReLU|ELU)$/.test(className)) return className;
  return layer.activation?.getClassName?.() ?? 'linear';
}

/** Class ids [n] as one-hot rows [n, classes]; distributions [n, classes] as they are. */
function targets(tf: Tf, labels: TensorOrRecord, outputs: Tensor, source: string): Tensor {
  if (!(labels instanceof tf.Tensor)) {
    throw new WhittleError(
      'DATA',
      `the labels of ${source} are a record: the default loss needs one array, or export a loss`,
    );
  }
  const [examples = 0, classes = 0] = outputs.shape;
  if (labels.shape.length === 2 && labels.shape[1] === classes) return tf.cast(labels, 'float32');
  if (labels.shape.length !== 1 || labels.dtype !== 'int32') {
    throw new WhittleError(
      'DATA',
      `the labels of ${source} are ${labels.dtype} of shape [${labels.shape.join(', ')}]: the default loss needs class ids ` +
        `(an Int32Array of shape [n]) or rows of shape [n, ${classes}]; otherwise export a \`loss\` from the model module`,
    );
  }
  const rows = new Float32Array(examples * classes);
  const ids = labels.dataSync<'int32'>();
  for (let i = 0; i < examples; i++) {
    const id = ids[i] as number;
    if (id < 0 || id >= classes) {
      throw new WhittleError(
        'DATA',
        `label ${id} is out of range: the model has ${classes} outputs, so labels of ${source} must be 0 .. ${classes - 1}`,
        { data: { label: id, classes } },
      );
    }
    rows[i * classes + id] = 1;
  }
  return tf.tensor(rows, [examples, classes]);
}

/** Below this a probability is not told from 0; keeps the logarithm finite. */
const EPSILON = 1e-7;

function crossEntropy(tf: Tf, target: Tensor, outputs: Tensor, isProbability: boolean): Scalar {
  const scale = 1 / (outputs.shape[0] ?? 1);
  if (isProbability) {
    const logs = tf.log(tf.add(outputs, EPSILON));
    return tf.mul(tf.sum(tf.mul(target, logs)), -scale);
  }
  // By hand, because the library's own takes twice the kernels.
  const meanLoss = tf.customGrad((logits, save) => {
    const shifted = tf.sub(logits as Tensor, tf.max(logits as Tensor, 1, true));
    const logSum = tf.log(tf.sum(tf.exp(shifted), 1, true));
    const logProbabilities = tf.sub(shifted, logSum);
    // Saved both: what a gradient only closes over is freed when the forward pass ends.
    (save as (tensors: Tensor[]) => void)([logProbabilities, target]);
    return {
      value: tf.mul(tf.sum(tf.mul(target, logProbabilities)), -scale),
      gradFunc: (dy: Tensor, saved: Tensor[]) =>
        tf.mul(tf.sub(tf.exp(saved[0] as Tensor), saved[1] as Tensor), tf.mul(dy, scale)),
    };
  });
  return meanLoss(outputs) as Scalar;
}

function checkedScalar(tf: Tf, compute: () => unknown, source: string): Scalar {
  let value: unknown;
  try {
    value = compute();
  } catch (reason) {
    throw fromUserCode(reason, 'MODEL', source, 'loss(tf, labels, outputs) failed');
  }
  const tensor = value instanceof tf.Tensor ? (value as Tensor) : null;
  if (tensor?.size === 1) return tf.reshape(tensor, []);
  const what = tensor ? `a tensor of shape [${tensor.shape.join(', ')}]` : `${typeof value}`;
  throw new WhittleError(
    'MODEL',
    `loss(tf, labels, outputs) in ${source} returns ${what}: it must return a scalar, such as its mean`,
  );
}

function countCorrect(labels: TensorOrRecord, outputs: readonly Tensor[]): number | null {
  const output = outputs[0];
  if (output === undefined || outputs.length > 1 || !('dataSync' in labels)) return null;
  const answer = labels as Tensor;
  const [examples = 0, classes = 0] = output.shape;
  const isIds = answer.shape.length === 1 && answer.dtype === 'int32';
  const isRows = answer.shape.length === 2 && answer.shape[1] === classes;
  if (output.shape.length !== 2 || classes < 2 || !(isIds || isRows)) return null;
  const values = output.dataSync<'float32'>();
  const truth = answer.dataSync<'float32'>();
  let correct = 0;
  for (let i = 0; i < examples; i++) {
    const wanted = isIds ? truth[i] : largestAt(truth, i * classes, classes);
    if (largestAt(values, i * classes, classes) === wanted) correct++;
  }
  return correct;
}

/** Position of the first largest of `length` values. */
function largestAt(values: ArrayLike<number>, start: number, length: number): number {
  let best = 0;
  for (let c = 1; c < length; c++) {
    if ((values[start + c] as number) > (values[start + best] as number)) best = c;
  }
  return best;
}
