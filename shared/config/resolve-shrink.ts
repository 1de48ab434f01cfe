import type { RuleFacts } from './check-matches.ts';
import { hasUnits } from './check-rules.ts';
import { numSteps, toStep } from './positions.ts';
import { resolveSchedule } from './resolve-schedule.ts';
import type { RunFileDocument } from './schema.ts';
import type { ShrinkConfig } from './shrink.ts';
import type { Path, Problem } from './source.ts';

export function resolveShrink(document: RunFileDocument, trainExamples: number): { readonly shrink?: ShrinkConfig } {
  const { shrink } = document;
  return shrink === undefined ? {} : { shrink: { atStep: toStep(shrink.atStep, document, trainExamples) ?? 0 } };
}

/** What is wrong with it, as far as the facts tell. */
export function checkShrink(document: RunFileDocument, { trainExamples }: Pick<RuleFacts, 'trainExamples'>): Problem[] {
  const { shrink, sparsity } = document;
  if (shrink === undefined) return [];
  const path = ['shrink', 'atStep'];
  if (!sparsity.some(({ granularity }) => hasUnits(granularity))) {
    const message =
      'shrink: no rule kills neurons or filters, so nothing could leave the model; add a rule with granularity: ' +
      '{neuron: {norm: 2}} or {filter: {norm: 2}}, or remove the key';
    return [{ path: ['shrink'], message }];
  }
  const at = toStep(shrink.atStep, document, trainExamples);
  if (at === undefined) return [];
  const steps = numSteps(document, trainExamples);
  const told = typeof shrink.atStep === 'number' ? `shrink.atStep ${at}` : `shrink.atStep ${at} (${shrink.atStep})`;
  if (at === 0) return [{ path, message: `${told} is before the first step, when no unit is dead; make it >= 1` }];
  if (steps !== undefined && at >= steps) {
    const cure = 'lower it, train longer, or shrink the result with `export --shrink`';
    return [{ path, message: `${told} is not within the run, which has ${steps} steps; ${cure}` }];
  }
  return [
    ...checkRulesAfter(document, at, { path, told, trainExamples }),
    ...checkRewindsAcross(document, at, told, trainExamples),
  ];
}

interface Told {
  readonly path: Path;
  /** `shrink.atStep 150 (75%)` */
  readonly told: string;
  readonly trainExamples: number | undefined;
}

/** Only single elements can go on being pruned in a model whose axes have become shorter. */
function checkRulesAfter(document: RunFileDocument, at: number, { path, told, trainExamples }: Told): Problem[] {
  return document.sparsity.flatMap(({ granularity, schedule }, k): Problem[] => {
    if (granularity === 'element') return [];
    const resolved = resolveSchedule(schedule, document, trainExamples);
    if (resolved === undefined || resolved.endStep <= at) return [];
    const kind = Object.keys(granularity)[0] ?? '';
    return [
      {
        path,
        message: `${told} is before step ${resolved.endStep}, the last update of sparsity.${k}, whose ${kind} granularity needs the model whole; shrink at ${resolved.endStep} or later`,
      },
    ];
  });
}

/** Weights of the whole model fit the shrunk one no more. */
function checkRewindsAcross(
  document: RunFileDocument,
  shrinks: number,
  told: string,
  trainExamples: number | undefined,
): Problem[] {
  return (document.rewind ?? []).flatMap((rewind, i): Problem[] => {
    const at = toStep(rewind.at, document, trainExamples);
    const to = toStep(rewind.to, document, trainExamples);
    if (at === undefined || to === undefined || at <= shrinks || to >= shrinks) return [];
    const message = `rewind.${i} goes back from step ${at} to ${to}, across ${told}, where units leave for good; shrink at ${at} or later`;
    return [{ path: ['rewind', i], message }];
  });
}
