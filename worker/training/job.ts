/**
 * What a process needs to know before it can compute or describe anything: backend, data and model, checked
 * against each other.
 */
import type { DistillationConfig } from '../../shared/config/distillation.ts';
import type { QuantizationConfig } from '../../shared/config/quantization.ts';
import type { BackendKind, DataConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { loadBackend } from '../backend/backend.ts';
import type { Backend } from '../backend/backend.ts';
import { assertSupported } from '../backend/supported.ts';
import type { Tf } from '../backend/tf.ts';
import type { Dataset } from '../data/dataset.ts';
import { loadData } from '../data/load-data.ts';
import { describeModel, disposeVariables, variablesOf } from '../model/describe-model.ts';
import type { ModelVariables } from '../model/describe-model.ts';
import { loadModel } from '../model/load-model.ts';
import type { LoadedModel } from '../model/load-model.ts';
import { rebuildShrunk } from '../model/rebuild-model.ts';
import { quantizeActivations } from './activation-quantizer.ts';
import type { Quantized } from './activation-quantizer.ts';
import { bindFeeds } from './feeds.ts';
import type { Feeds } from './feeds.ts';
import { createObjective } from './objective.ts';
import type { Objective } from './objective.ts';
import { createTeacher } from './teacher.ts';
import type { Teacher } from './teacher.ts';

export interface Job extends Quantized {
  readonly backend: Backend;
  readonly data: Dataset;
  readonly loaded: LoadedModel;
  readonly feeds: Feeds;
  readonly objective: Objective;
  /** Null: the student learns from the labels alone. */
  readonly teacher: Teacher | null;
  readonly description: ModelDescription;
}

/**
 * @param options `left`: the model of a checkpoint, which units may have left since the user's files built it
 * @throws UNSUPPORTED, MODEL, DATA, or CHECKPOINT where `left` is of another model
 */
export async function prepareJob(options: {
  readonly backend: BackendKind;
  readonly source: DataConfig['source'];
  readonly model: string;
  readonly seed: number;
  readonly distillation?: DistillationConfig | undefined;
  readonly activations?: QuantizationConfig['activations'];
  readonly left?: ModelDescription | undefined;
}): Promise<Job> {
  const backend = await loadBackend(options.backend);
  const { tf } = backend;
  const data = await loadData(options.source);
  const { inputShape, classes } = data;
  const needed = { inputShape: isShape(inputShape) ? inputShape : [], classes, labels: data.labels, data: data.source };
  const loaded = await rebuildShrunk(tf, await loadModel(tf, options.model, options.seed, needed), options.left);
  const variables = variablesOf(loaded.model);
  let held = variables;
  try {
    const checked = check(tf, data, loaded, variables, options.activations ?? null);
    held = checked.variables;
    const { distillation } = options;
    const teacher = distillation === undefined ? null : await createTeacher(tf, distillation, loaded.model, data);
    const loss = teacher?.identity(checked.objective.identity) ?? checked.objective.identity;
    const { shrunkFrom } = options.left ?? {};
    const description = { ...checked.description, loss, ...(shrunkFrom === undefined ? {} : { shrunkFrom }) };
    return { backend, data, loaded, ...checked, teacher, description };
  } catch (reason) {
    disposeVariables(held);
    throw reason;
  }
}

function check(
  tf: Tf,
  data: Dataset,
  loaded: LoadedModel,
  variables: ModelVariables,
  activations: QuantizationConfig['activations'],
): Pick<Job, 'feeds' | 'objective' | 'description' | 'variables' | 'activations'> {
  const { model, source } = loaded;
  const supported = assertSupported(model);
  if (variables.parameters.length === 0) {
    throw new WhittleError('MODEL', `the model of ${source} has no trainable weights: nothing could be trained`);
  }
  const feeds = bindFeeds(tf, loaded, data, variables.names);
  const objective = createObjective(tf, loaded, data, feeds.outputNames);
  const notes = [...loaded.notes, ...supported, ...objective.notes];
  const counts = { trainExamples: data.train.size, testExamples: data.test?.size ?? 0 };
  const quantized = quantizeActivations(tf, model, variables, activations);
  return {
    ...quantized,
    feeds,
    objective,
    description: describeModel(model, { ...counts, notes }, quantized.variables),
  };
}

/** Frees the variables of model and teacher. */
export function disposeJob({ variables, teacher }: Job): void {
  teacher?.dispose();
  disposeVariables(variables);
}

function isShape(shape: Dataset['inputShape']): shape is readonly number[] {
  return Array.isArray(shape);
}
