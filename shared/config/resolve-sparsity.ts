import { checkMatches, type RuleFacts } from './check-matches.ts';
import { checkRule } from './check-rules.ts';
import { checkSchedule, resolveSchedule, scheduleDocument } from './resolve-schedule.ts';
import type { RunFileDocument } from './schema.ts';
import type { Path, Problem } from './source.ts';
import type { SparsityRule, SparsitySchedule } from './types.ts';

export { checkGlob } from './check-matches.ts';
export { epochSteps, numSteps } from './positions.ts';

/** What is wrong with the rules, as far as the facts tell. */
export function checkRules(document: RunFileDocument, facts: RuleFacts): Problem[] {
  const { trainExamples } = facts;
  return [
    ...document.sparsity.flatMap((rule, k) => {
      const path: Path = ['sparsity', k];
      const found = checkSchedule(rule, [...path, 'schedule'], document, trainExamples);
      // What follows from a wrong schedule would only distract from it.
      const schedule = found.length > 0 ? undefined : resolveSchedule(rule.schedule, document, trainExamples);
      return [...found, ...checkRule({ rule, path, document, schedule })];
    }),
    ...checkMatches(document.sparsity, facts),
  ];
}

/** The rules of the effective file. All steps must be known: check first. */
export function resolveRules(document: RunFileDocument, trainExamples: number): SparsityRule[] {
  return document.sparsity.map(({ overrides = [], straightThrough, ...rule }) => ({
    ...rule,
    schedule: resolveSchedule(rule.schedule, document, trainExamples) as SparsitySchedule,
    ...(overrides.length === 0 ? {} : { overrides }),
    ...(straightThrough === true ? { straightThrough } : {}),
  }));
}

/** Effective rules in the spelling of run files. */
export function rulesDocument(rules: readonly SparsityRule[]): unknown[] {
  return rules.map((rule) => ({ ...rule, schedule: scheduleDocument(rule.schedule) }));
}
