import { nameOf } from './problems.ts';
import { numSteps, type Position, toStep } from './positions.ts';
import type { RunFileDocument } from './schema.ts';
import { END_DEFAULT, type SparsityDocument } from './schema-sparsity.ts';
import type { Path, Problem } from './source.ts';
import type { SparsitySchedule } from './types.ts';

type Rule = SparsityDocument[number];
type Schedule = Rule['schedule'];

/** Turns positions into steps; undefined while that depends on data not known yet. */
type ToStep = (position: Position) => number | undefined;

/** Schedules whose updates follow from something else than a frequency. */
const NO_FREQUENCY = 1;

/** What in a schedule is a step of the run, by its path in the schedule. */
function momentsOf(schedule: Schedule): { readonly path: Path; readonly position: Position }[] {
  switch (schedule.kind) {
    case 'oneShot':
      return [{ path: ['at'], position: schedule.at }];
    case 'steps':
      return schedule.steps.map(({ at }, i) => ({ path: ['steps', i, 'at'], position: at }));
    default:
      return [
        { path: ['beginStep'], position: schedule.beginStep },
        { path: ['endStep'], position: schedule.endStep },
      ];
  }
}

/** What of a schedule is still open: percentages and epochs, by path in the schedule. */
export function openPositions(schedule: Schedule): { readonly path: Path; readonly position: Position }[] {
  const lengths =
    schedule.kind === 'cyclic'
      ? (['sparseSteps', 'denseSteps'] as const).map((key) => ({ path: [key], position: schedule[key] }))
      : [];
  return [...momentsOf(schedule), ...lengths].filter(({ position }) => typeof position !== 'number');
}

/** The schedule of the effective file; undefined while it depends on data not known yet. */
export function resolveSchedule(
  schedule: Schedule,
  document: RunFileDocument,
  trainExamples?: number,
): SparsitySchedule | undefined {
  const step: ToStep = (position) => toStep(position, document, trainExamples);
  switch (schedule.kind) {
    case 'oneShot': {
      const at = step(schedule.at);
      const { kind, finalSparsity } = schedule;
      return at === undefined
        ? undefined
        : { kind, finalSparsity, beginStep: at, endStep: at, frequency: NO_FREQUENCY };
    }
    case 'steps': {
      const steps = schedule.steps.map(({ at, sparsity }) => ({ step: step(at) ?? NaN, sparsity }));
      const [first, last] = [steps[0], steps.at(-1)];
      if (!first || !last || steps.some((entry) => Number.isNaN(entry.step))) return undefined;
      const span = { beginStep: first.step, endStep: last.step, frequency: NO_FREQUENCY };
      return { kind: 'steps', finalSparsity: last.sparsity, ...span, steps };
    }
    default: {
      const [beginStep, endStep] = [step(schedule.beginStep), step(schedule.endStep)];
      if (beginStep === undefined || endStep === undefined) return undefined;
      if (schedule.kind !== 'cyclic') return { ...schedule, beginStep, endStep };
      const [sparseSteps, denseSteps] = [step(schedule.sparseSteps), step(schedule.denseSteps)];
      if (sparseSteps === undefined || denseSteps === undefined) return undefined;
      return { ...schedule, beginStep, endStep, frequency: NO_FREQUENCY, sparseSteps, denseSteps };
    }
  }
}

/** An effective schedule in the spelling of run files. */
export function scheduleDocument(schedule: SparsitySchedule): unknown {
  switch (schedule.kind) {
    case 'oneShot':
      return { kind: 'oneShot', finalSparsity: schedule.finalSparsity, at: schedule.beginStep };
    case 'steps':
      return { kind: 'steps', steps: schedule.steps.map(({ step, sparsity }) => ({ at: step, sparsity })) };
    case 'cyclic': {
      const { kind, finalSparsity, beginStep, endStep, sparseSteps, denseSteps } = schedule;
      return { kind, finalSparsity, beginStep, endStep, sparseSteps, denseSteps };
    }
    default:
      return schedule;
  }
}

/** What is wrong with a rule's schedule, as far as is known. @param path of the schedule */
export function checkSchedule(rule: Rule, path: Path, document: RunFileDocument, trainExamples?: number): Problem[] {
  const { schedule } = rule;
  const step: ToStep = (position) => toStep(position, document, trainExamples);
  return [
    ...checkDirection(rule, path),
    ...checkBeyond(schedule, path, step, numSteps(document, trainExamples)),
    ...(schedule.kind === 'steps' ? checkOrder(schedule, path, step) : []),
    ...(schedule.kind === 'cyclic' ? checkPhases(schedule, path, step) : []),
  ];
}

/** Only what can bring elements back can do with fewer dead ones. */
function checkDirection({ schedule, regrowth, straightThrough }: Rule, path: Path): Problem[] {
  if (regrowth !== 'none' || straightThrough === true) return [];
  const nothing = 'and nothing regrows elements (regrowth: none)';
  if (schedule.kind === 'steps') {
    return schedule.steps.flatMap(({ sparsity }, i) => {
      const before = schedule.steps[i - 1]?.sparsity ?? 0;
      return sparsity >= before
        ? []
        : [
            {
              path: [...path, 'steps', i, 'sparsity'],
              message: `${nameOf(path)} decreases, from sparsity ${before} to sparsity ${sparsity}, ${nothing}; let sparsities rise`,
            },
          ];
    });
  }
  if (!('initialSparsity' in schedule) || schedule.finalSparsity >= schedule.initialSparsity) return [];
  return [
    {
      path: [...path, 'finalSparsity'],
      message: `${nameOf(path)} decreases, from initialSparsity ${schedule.initialSparsity} to finalSparsity ${schedule.finalSparsity}, ${nothing}; make finalSparsity >= initialSparsity`,
    },
  ];
}

function checkBeyond(schedule: Schedule, path: Path, toStepOf: ToStep, steps: number | undefined): Problem[] {
  const problems: Problem[] = [];
  const moments = momentsOf(schedule).map((moment) => ({ ...moment, step: toStepOf(moment.position) }));
  const isBeyond = (step: number | undefined): step is number =>
    step !== undefined && steps !== undefined && step > steps;
  for (const moment of moments) {
    if (!isBeyond(moment.step)) continue;
    const key = nameOf(moment.path);
    problems.push({
      path: [...path, ...moment.path],
      message: `${nameOf(path)}: ${key} ${told(moment.position, moment.step)} is beyond the run, which has ${steps} steps; lower ${key} or train longer`,
    });
  }
  if (!('beginStep' in schedule)) return problems;
  const [begin, end] = moments.map(({ step }) => step);
  // Where beginStep lies beyond the run, that is the mistake, whatever endStep is.
  if (begin !== undefined && end !== undefined && begin > end && !isBeyond(begin)) {
    const cure =
      schedule.endStep === END_DEFAULT
        ? `endStep is ${END_DEFAULT} where it is not given`
        : 'lower beginStep or raise endStep';
    problems.push({
      path: [...path, 'beginStep'],
      message: `${nameOf(path)}: beginStep ${told(schedule.beginStep, begin)} must be <= endStep ${told(schedule.endStep, end)}; ${cure}`,
    });
  }
  return problems;
}

function checkOrder({ steps }: Extract<Schedule, { kind: 'steps' }>, path: Path, toStepOf: ToStep): Problem[] {
  return steps.flatMap(({ at }, i) => {
    const before = steps[i - 1]?.at;
    if (before === undefined) return [];
    const [last, step] = [toStepOf(before), toStepOf(at)];
    if (last === undefined || step === undefined || step > last) return [];
    return [
      {
        path: [...path, 'steps', i, 'at'],
        message: `${nameOf(path)}: steps.${i}.at ${told(at, step)} must be after steps.${i - 1}.at ${told(before, last)}; put the updates in order of time, each once`,
      },
    ];
  });
}

function checkPhases(schedule: Extract<Schedule, { kind: 'cyclic' }>, path: Path, toStepOf: ToStep): Problem[] {
  const problems: Problem[] = [];
  for (const key of ['sparseSteps', 'denseSteps'] as const) {
    if (toStepOf(schedule[key]) !== 0) continue;
    problems.push({
      path: [...path, key],
      message: `${nameOf(path)}: ${key} ${told(schedule[key], 0)} must be >= 1; make the phase longer`,
    });
  }
  const [begin, end, sparse] = [schedule.beginStep, schedule.endStep, schedule.sparseSteps].map(toStepOf);
  if (begin === undefined || end === undefined || sparse === undefined || begin > end) return problems;
  if (begin + sparse >= end) {
    problems.push({
      path: [...path, 'sparseSteps'],
      message: `${nameOf(path)}: sparseSteps ${told(schedule.sparseSteps, sparse)} leaves no dense phase between beginStep ${told(schedule.beginStep, begin)} and endStep ${told(schedule.endStep, end)}; lower sparseSteps, or use kind: constant`,
    });
  }
  return problems;
}

/** `1800 (3 epochs)` */
function told(position: Position, step: number): string {
  return typeof position === 'number' ? `${step}` : `${step} (${position})`;
}
