/** The trained model that a student learns from, beside it in the same thread. */
import { createHash } from 'node:crypto';
import type { Scalar, Tensor } from '@tensorflow/tfjs-core';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import { bytesOf } from '../../shared/checkpoint/safetensors.ts';
import type { DistillationConfig } from '../../shared/config/distillation.ts';
import { WhittleError } from '../../shared/errors.ts';
import { assertSupported } from '../backend/supported.ts';
import type { Tf } from '../backend/tf.ts';
import type { Batch, Dataset } from '../data/dataset.ts';
import { disposeVariables, variablesOf } from '../model/describe-model.ts';
import { loadTrainedModel } from '../model/trained-model.ts';
import { distillationLoss, logitsOf } from './distillation-loss.ts';
import { bindFeeds } from './feeds.ts';
import { lastActivation } from './objective.ts';

export interface Teacher {
  /** What the teacher says of a batch: logits [examples, classes], in inference mode; the caller's to free. */
  logits(batch: Batch, examples: number): Tensor;
  /** (1 - weight) x own + weight x distillation loss. */
  blend(own: Scalar, outputs: readonly Tensor[], logits: Tensor): Scalar;
  /** What is minimised with it, own loss included, and a hash of the teacher's weights. */
  identity(own: string): string;
  dispose(): void;
}

/**
 * Loads the teacher of `config` for the student.
 * @throws CHECKPOINT, UNSUPPORTED, MODEL or DATA where it cannot be loaded or fits neither student nor data
 */
export async function createTeacher(
  tf: Tf,
  config: DistillationConfig,
  student: LayersModel,
  data: Dataset,
): Promise<Teacher> {
  const { teacher: path, temperature, weight } = config;
  const model = await loadTrainedModel(tf, path);
  const variables = variablesOf(model);
  try {
    const source = `the teacher ${path}`;
    requireSameClasses(model, student, source);
    // Repairs the layers that this backend computes wrongly.
    assertSupported(model);
    const feeds = bindFeeds(tf, { model, loss: null, source, notes: [] }, data, variables.names);
    const givesProbabilities = lastActivation(model) === 'softmax';
    const takesProbabilities = lastActivation(student) === 'softmax';
    const digest = digestOf(variables.names.variables);
    return {
      logits: (batch, examples) =>
        tf.tidy(() => {
          const output = onlyOutput(model.call(feeds.inputs(batch.inputs, examples), { training: false }));
          return givesProbabilities ? logitsOf(tf, output) : output;
        }),
      blend: (own, outputs, logits) => {
        const output = onlyOutput([...outputs]);
        const soft = distillationLoss(tf, logits, takesProbabilities ? logitsOf(tf, output) : output, temperature);
        return tf.add(tf.mul(own, 1 - weight), tf.mul(soft, weight));
      },
      identity: (own) => `${1 - weight} x (${own}) + ${weight} x distillation at T = ${temperature} from ${digest}`,
      dispose: () => disposeVariables(variables),
    };
  } catch (reason) {
    disposeVariables(variables);
    throw reason;
  }
}

function onlyOutput(outputs: Tensor | Tensor[]): Tensor {
  return Array.isArray(outputs) ? (outputs[0] as Tensor) : outputs;
}

function requireSameClasses(teacher: LayersModel, student: LayersModel, source: string): void {
  const [theirs, own] = [shapesOf(teacher), shapesOf(student)];
  const isOne = student.outputs.length === 1 && student.outputs[0]?.shape.length === 2;
  if (isOne && theirs === own) return;
  const cure = isOne
    ? 'use a teacher of the same classes'
    : 'distillation needs a model with one output of shape [classes]';
  throw new WhittleError('MODEL', `${source} has outputs of shape ${theirs}, the model has ${own}: ${cure}`, {
    data: { teacher: theirs, student: own },
  });
}

function shapesOf(model: LayersModel): string {
  return model.outputs.map(({ shape }) => `[${shape.slice(1).join(', ')}]`).join(', ');
}

function digestOf(variables: ReadonlyMap<{ read(): Tensor }, string>): string {
  const hash = createHash('sha256');
  for (const [variable, name] of variables) hash.update(name).update(bytesOf(variable.read().dataSync<'float32'>()));
  return `sha256 ${hash.digest('hex')}`;
}
