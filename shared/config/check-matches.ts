import type { ParameterSpec } from '../layout/model-description.ts';
import { matchesGlob } from '../sparsity/glob.ts';
import { granularityOf } from '../sparsity/granularity/index.ts';
import { hasUnits } from './check-rules.ts';
import { nameOf } from './problems.ts';
import type { SparsityDocument } from './schema-sparsity.ts';
import type { Path, Problem } from './source.ts';
import { rank } from './suggest.ts';

type Rule = SparsityDocument[number];

/** What is known about the job when the rules are checked; absent members are not checked against. */
export interface RuleFacts {
  readonly trainExamples?: number;
  readonly parameterNames?: readonly string[] | undefined;
  readonly prunableNames?: readonly string[] | undefined;
  /** The parameters themselves, with their shapes. */
  readonly parameters?: readonly ParameterSpec[] | undefined;
}

/** What is wrong with the parameters that rules match. */
export function checkMatches(rules: readonly Rule[], facts: RuleFacts): Problem[] {
  return [
    ...rules.flatMap((rule, k) => [
      ...checkMatch(rule.match, ['sparsity', k], facts),
      ...checkOverrideGlobs(rule, ['sparsity', k, 'overrides'], facts),
      ...checkShapes(rule, ['sparsity', k, 'granularity'], facts),
    ]),
    ...checkSharing(rules, facts),
  ];
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

function checkOverrideGlobs({ match, overrides = [] }: Rule, path: Path, facts: RuleFacts): Problem[] {
  const names = matchedNames(match, facts);
  if (names === undefined || names.length === 0) return [];
  return overrides.flatMap((override, i) => {
    const at = [...path, i, 'match'];
    const unknown = checkGlob(override.match, at, facts.parameterNames);
    if (unknown.length > 0 || names.some((name) => matchesGlob(override.match, name))) return unknown;
    const message = `${nameOf(at)} ${JSON.stringify(override.match)} matches no parameter of its rule, which matches ${names.slice(0, 3).join(', ')}${names.length > 3 ? ` and ${names.length - 3} more` : ''}; widen the rule's match`;
    return [{ path: at, message }];
  });
}

function matchedNames(match: string | null, facts: RuleFacts): readonly string[] | undefined {
  return match === null ? facts.prunableNames : facts.parameterNames?.filter((name) => matchesGlob(match, name));
}

/** What cannot be pruned as asked is named; only a neuron or filter rule without match covers just what it can. */
function checkShapes({ match, granularity }: Rule, path: Path, { parameters }: RuleFacts): Problem[] {
  if (parameters === undefined) return [];
  const { refuse, name } = granularityOf(granularity);
  const matched = parameters.filter((parameter) =>
    match === null ? parameter.prunable : matchesGlob(match, parameter.name),
  );
  const refused = matched.flatMap((parameter) => refuse(parameter) ?? []);
  if (match === null && hasUnits(granularity)) {
    if (matched.length === 0 || refused.length < matched.length) return [];
    return [{ path, message: `${nameOf(path)}: the model has nothing with ${name}s; use granularity: element` }];
  }
  return refused.map((why) => ({ path, message: `${nameOf(path)}: ${why}` }));
}

/** Rules that bring elements back rank all of their parameters anew: another rule's dead would not stay dead. */
function checkSharing(rules: readonly Rule[], facts: RuleFacts): Problem[] {
  return rules.flatMap((rule, k) => {
    const why = revives(rule);
    if (why === undefined) return [];
    const names = new Set(matchedNames(rule.match, facts) ?? []);
    return rules.flatMap((other, j) => {
      // Of two that both bring elements back, the later one is told.
      if (j === k || (revives(other) !== undefined && j > k)) return [];
      const shared = matchedNames(other.match, facts)?.find((name) => names.has(name));
      if (shared === undefined) return [];
      const message = `${nameOf(['sparsity', k])} brings elements back (${why}) and shares ${shared} with ${nameOf(['sparsity', j])}; let only one rule match it`;
      return [{ path: ['sparsity', k], message }];
    });
  });
}

function revives({ regrowth, straightThrough, schedule }: Rule): string | undefined {
  if (regrowth !== 'none') return `regrowth ${regrowth.kind}`;
  if (straightThrough === true) return 'straightThrough';
  return schedule.kind === 'cyclic' ? 'a cyclic schedule' : undefined;
}
