import { mapping } from './fields.ts';
import { resolveTrained, trainedSource } from './trained-source.ts';

export const initializeSchema = mapping('a trained model to start from; default: initial values of the model module', {
  from: trainedSource(
    'id or directory of a run (its newest checkpoint), a folder with model.json, or safetensors: weights and states by name',
  ),
}).optional();

/** Where the initial values come from. Read once: checkpoint 0 holds them. */
export interface InitializeConfig {
  /** A run's id in files as they are written; an absolute path (a checkpoint's, for a run) in effective ones. */
  readonly from: string;
}

export function resolveInitialize(
  document: InitializeConfig | undefined,
  folder: string,
): InitializeConfig | undefined {
  return document && { from: resolveTrained(document.from, folder) };
}
