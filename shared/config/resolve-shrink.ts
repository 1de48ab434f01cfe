import type { RuleFacts } from './check-matches.ts';
import { numSteps, toStep } from './positions.ts';
import type { RunFileDocument } from './schema.ts';
import type { ShrinkConfig, ShrinkDocument } from './shrink.ts';
import type { Problem } from './source.ts';

/** The effective key. All positions must be known: check first. */
export function resolveShrink(
  shrink: ShrinkDocument,
  document: RunFileDocument,
  trainExamples: number,
): ShrinkConfig | undefined {
  return shrink && { atStep: toStep(shrink.atStep, document, trainExamples) ?? 0 };
}

/** What is wrong with it, as far as the facts tell. */
export function checkShrink(
  shrink: ShrinkDocument,
  document: RunFileDocument,
  { trainExamples }: Pick<RuleFacts, 'trainExamples'>,
): Problem[] {
  if (shrink === undefined) return [];
  const path = ['shrink', 'atStep'];
  const at = toStep(shrink.atStep, document, trainExamples);
  const steps = numSteps(document, trainExamples);
  const told = typeof shrink.atStep === 'number' ? String(at) : `${at} (${shrink.atStep})`;
  if (at === 0) {
    return [{ path, message: `shrink.atStep ${told} is before the first step, when no unit is dead; make it >= 1` }];
  }
  if (at !== undefined && steps !== undefined && at >= steps) {
    const cure = 'lower it, train longer, or shrink the result with `export --shrink`';
    return [{ path, message: `shrink.atStep ${told} is not within the run, which has ${steps} steps; ${cure}` }];
  }
  return [];
}
