import { mapping, real } from './fields.ts';
import { resolveTrained, trainedSource } from './trained-source.ts';

export const distillationSchema = mapping('learn from a trained teacher as well; default: from the labels alone', {
  teacher: trainedSource('id or directory of a run (its newest checkpoint), or a folder with model.json'),
  temperature: real('softens what both models say; > 0, default 4', { above: 0, max: 1000 }).default(4),
  weight: real("share of the teacher in the loss, 0 < x <= 1, the rest is the model's own loss; default 0.5", {
    above: 0,
    max: 1,
  }).default(0.5),
}).optional();

/** loss = (1 - weight) x own + weight x T^2 x KL(softmax(teacher / T) || softmax(student / T)), Hinton et al. 2015. */
export interface DistillationConfig {
  /** A run's id in files as they are written; an absolute path (a checkpoint's, for a run) in effective ones. */
  readonly teacher: string;
  /** T > 0. */
  readonly temperature: number;
  /** 0 < weight <= 1. */
  readonly weight: number;
}

export function resolveDistillation(
  document: DistillationConfig | undefined,
  folder: string,
): DistillationConfig | undefined {
  return document && { ...document, teacher: resolveTrained(document.teacher, folder) };
}
