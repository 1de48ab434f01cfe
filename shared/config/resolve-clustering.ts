import type { ClusteringConfig } from './clustering.ts';
import { checkGlob, type RuleFacts } from './check-matches.ts';
import { numSteps, toStep } from './positions.ts';
import type { RunFileDocument } from './schema.ts';
import type { Problem } from './source.ts';

/** All positions must be known: check first. */
export function resolveClustering(document: RunFileDocument, trainExamples: number): ClusteringConfig | undefined {
  const { clustering } = document;
  return clustering && { ...clustering, beginStep: toStep(clustering.beginStep, document, trainExamples) ?? 0 };
}

/** What is wrong with it, as far as the facts tell. */
export function checkClustering(document: RunFileDocument, facts: RuleFacts): Problem[] {
  const { clustering } = document;
  if (clustering === undefined) return [];
  const problems: Problem[] = [];
  const begin = toStep(clustering.beginStep, document, facts.trainExamples);
  const steps = numSteps(document, facts.trainExamples);
  if (begin !== undefined && steps !== undefined && begin > steps) {
    problems.push({
      path: ['clustering', 'beginStep'],
      message: `clustering.beginStep ${begin} is beyond the run, which has ${steps} steps; lower it or train longer`,
    });
  }
  if (clustering.match !== null)
    problems.push(...checkGlob(clustering.match, ['clustering', 'match'], facts.parameterNames));
  else if (facts.prunableNames?.length === 0)
    problems.push({
      path: ['clustering'],
      message:
        'clustering has no match and the model has no kernels of dense or convolution layers; name parameters with match',
    });
  return problems;
}
