import { matchesGlob } from '../sparsity/glob.ts';
import { nameOf } from './problems.ts';
import { END_DEFAULT, type RunFileDocument } from './schema.ts';
import type { Path, Problem } from './source.ts';
import { rank } from './suggest.ts';
import type { SparsityRule, SparsitySchedule } from './types.ts';

type Rule = RunFileDocument['sparsity'][number];
type Position = Rule['schedule']['beginStep'];

/** What is known about the job when the rules are checked; absent members are not checked against. */
export interface RuleFacts {
  readonly trainExamples?: number;
  readonly parameterNames?: readonly string[] | undefined;
  readonly prunableNames?: readonly string[] | undefined;
}

/** Steps of so many epochs of the data: ceil(epochs x examples / batchSize). */
export function epochSteps(epochs: number, examples: number, batchSize: number): number {
  return Math.ceil((epochs * examples) / batchSize);
}

/** Length of the run in steps; undefined while it depends on data not known yet. */
export function numSteps({ training, data }: RunFileDocument, trainExamples?: number): number | undefined {
  if (training.steps !== undefined) return training.steps;
  if (trainExamples === undefined || training.epochs === undefined) return undefined;
  return epochSteps(training.epochs, trainExamples, data.batchSize);
}

/** `30%` and `3 epochs` as a step; undefined while that depends on data not known yet. */
export function toStep(position: Position, document: RunFileDocument, trainExamples?: number): number | undefined {
  if (typeof position === 'number') return position;
  const amount = Number.parseFloat(position);
  if (!position.endsWith('%'))
    return trainExamples === undefined ? undefined : epochSteps(amount, trainExamples, document.data.batchSize);
  const steps = numSteps(document, trainExamples);
  return steps === undefined ? undefined : Math.round((amount / 100) * steps);
}

/** What is wrong with the rules, as far as the facts tell. */
export function checkRules(document: RunFileDocument, facts: RuleFacts): Problem[] {
  return document.sparsity.flatMap((rule, k) => [
    ...checkSchedule(rule, ['sparsity', k, 'schedule'], document, facts),
    ...checkMatch(rule.match, ['sparsity', k], facts),
  ]);
}

function checkSchedule(
  { schedule }: Rule,
  path: Path,
  document: RunFileDocument,
  { trainExamples }: RuleFacts,
): Problem[] {
  const problems: Problem[] = [];
  const name = nameOf(path);
  if (schedule.kind === 'polynomial' && schedule.finalSparsity < schedule.initialSparsity) {
    problems.push({
      path: [...path, 'finalSparsity'],
      message: `${name} decreases, from initialSparsity ${schedule.initialSparsity} to finalSparsity ${schedule.finalSparsity}, and nothing regrows elements (regrowth: none); make finalSparsity >= initialSparsity`,
    });
  }
  const begin = toStep(schedule.beginStep, document, trainExamples);
  const end = toStep(schedule.endStep, document, trainExamples);
  const steps = numSteps(document, trainExamples);
  const told = (key: 'beginStep' | 'endStep', step: number): string =>
    typeof schedule[key] === 'number' ? `${key} ${step}` : `${key} ${step} (${schedule[key]})`;
  const isBeyond = (step: number | undefined): step is number =>
    step !== undefined && steps !== undefined && step > steps;
  for (const [key, step] of [
    ['beginStep', begin],
    ['endStep', end],
  ] as const) {
    if (!isBeyond(step)) continue;
    problems.push({
      path: [...path, key],
      message: `${name}: ${told(key, step)} is beyond the run, which has ${steps} steps; lower ${key} or train longer`,
    });
  }
  // Where beginStep lies beyond the run, that is the mistake, whatever endStep is.
  if (begin !== undefined && end !== undefined && begin > end && !isBeyond(begin)) {
    const cure =
      schedule.endStep === END_DEFAULT
        ? `endStep is ${END_DEFAULT} where it is not given`
        : 'lower beginStep or raise endStep';
    problems.push({
      path: [...path, 'beginStep'],
      message: `${name}: ${told('beginStep', begin)} must be <= ${told('endStep', end)}; ${cure}`,
    });
  }
  return problems;
}

function checkMatch(match: string | null, path: Path, facts: RuleFacts): Problem[] {
  if (match === null) {
    if (facts.prunableNames === undefined || facts.prunableNames.length > 0) return [];
    return [
      {
        path,
        message: `${nameOf(path)} has no match and the model has no kernels of dense or convolution layers to prune; name parameters with match`,
      },
    ];
  }
  return checkGlob(match, [...path, 'match'], facts.parameterNames);
}

/** A glob that matches nothing is a typing error. */
export function checkGlob(glob: string, path: Path, names: readonly string[] | undefined): Problem[] {
  if (names === undefined || names.some((name) => matchesGlob(glob, name))) return [];
  const near = rank(glob, names).slice(0, 3);
  const cure = near.length === 0 ? 'the model has no parameters' : `the nearest are ${near.join(', ')}`;
  return [{ path, message: `${nameOf(path)} ${JSON.stringify(glob)} matches no parameter; ${cure}` }];
}

/** The rules of the effective file. All steps must be known: check first. */
export function resolveRules(document: RunFileDocument, trainExamples: number): SparsityRule[] {
  return document.sparsity.map((rule) => ({
    ...rule,
    schedule: resolveSchedule(rule.schedule, document, trainExamples),
  }));
}

function resolveSchedule(
  schedule: Rule['schedule'],
  document: RunFileDocument,
  trainExamples: number,
): SparsitySchedule {
  const beginStep = toStep(schedule.beginStep, document, trainExamples) ?? 0;
  const endStep = toStep(schedule.endStep, document, trainExamples) ?? 0;
  return { ...schedule, beginStep, endStep };
}
