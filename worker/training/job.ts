/**
 * What a process needs to know before it can compute or describe anything: backend, data and model, checked
 * against each other.
 */
import type { DataConfig, BackendKind } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import { loadBackend } from '../backend/backend.ts';
import type { Backend } from '../backend/backend.ts';
import { assertSupported } from '../backend/supported.ts';
import type { Dataset } from '../data/dataset.ts';
import { loadData } from '../data/load-data.ts';
import { describeModel, variablesOf } from '../model/describe-model.ts';
import type { ModelVariables } from '../model/describe-model.ts';
import { loadModel } from '../model/load-model.ts';
import type { LoadedModel } from '../model/load-model.ts';
import { bindFeeds } from './feeds.ts';
import type { Feeds } from './feeds.ts';
import { createObjective } from './objective.ts';
import type { Objective } from './objective.ts';

export interface Job {
  readonly backend: Backend;
  readonly data: Dataset;
  readonly loaded: LoadedModel;
  readonly variables: ModelVariables;
  readonly feeds: Feeds;
  readonly objective: Objective;
  readonly description: ModelDescription;
}

/** @throws UNSUPPORTED, MODEL or DATA */
export async function prepareJob(options: {
  readonly backend: BackendKind;
  readonly source: DataConfig['source'];
  readonly model: string;
  readonly seed: number;
}): Promise<Job> {
  const backend = await loadBackend(options.backend);
  const { tf } = backend;
  const data = await loadData(options.source);
  const { inputShape, classes } = data;
  const needed = { inputShape: isShape(inputShape) ? inputShape : [], classes, labels: data.labels };
  const loaded = await loadModel(tf, options.model, options.seed, needed);
  const { model } = loaded;
  const supported = assertSupported(model);
  const variables = variablesOf(model);
  if (variables.parameters.length === 0) {
    throw new WhittleError('MODEL', `the model of ${loaded.source} has no trainable weights: nothing could be trained`);
  }
  const feeds = bindFeeds(tf, loaded, data, variables.names);
  const objective = createObjective(tf, loaded, data, feeds.outputNames);
  const notes = [...loaded.notes, ...supported, ...objective.notes];
  const counts = { trainExamples: data.train.size, testExamples: data.test?.size ?? 0 };
  const description = describeModel(model, { ...counts, notes }, variables);
  return { backend, data, loaded, variables, feeds, objective, description };
}

function isShape(shape: Dataset['inputShape']): shape is readonly number[] {
  return Array.isArray(shape);
}
