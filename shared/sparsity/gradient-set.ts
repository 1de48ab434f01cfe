import type { SparsityRule } from '../config/types.ts';
import type { ParameterSpace } from '../layout/parameter-space.ts';
import { setRange } from './bitmap.ts';
import { dropFraction } from './regrowth.ts';
import { matches, rangesOf, type Range } from './rules.ts';
import { isUpdateStep } from './schedule/index.ts';

/**
 * Where dead elements still matter. Servers and workers work these ranges out from the run file alone, so nothing on
 * the wire says which elements a body holds.
 */

/** Flat ranges whose dead elements keep latent weights after clock `clock`: straight-through rules until their end. */
export function latentRanges(rules: readonly SparsityRule[], space: ParameterSpace, clock: number): Range[] {
  return rangesOf(
    rules
      .filter(({ straightThrough, schedule }) => straightThrough === true && clock < schedule.endStep)
      .flatMap((rule) => matches(rule, space)),
  );
}

/** Flat ranges of which workers push every gradient at `step`: regrowth by gradient ranks the dead ones. */
export function denseGradientRanges(rules: readonly SparsityRule[], space: ParameterSpace, step: number): Range[] {
  return rangesOf(rules.filter((rule) => growsByGradient(rule, step)).flatMap((rule) => matches(rule, space)));
}

function growsByGradient({ regrowth, schedule }: SparsityRule, step: number): boolean {
  if (regrowth === 'none' || regrowth.kind !== 'rigl') return false;
  return isUpdateStep(schedule, step) && step > schedule.beginStep && dropFraction(regrowth, schedule, step) > 0;
}

/** Elements that a server keeps values of after clock `clock`; `mask` itself where these are the survivors. */
export function storedSet(mask: Uint8Array, start: number, end: number, latent: readonly Range[]): Uint8Array {
  return withRanges(mask, start, end, latent);
}

/**
 * Elements whose gradients are pushed at `step` by a worker that computed them under `mask`, the bitmap of
 * [start, end); `mask` itself where these are the survivors.
 */
export function pushedSet(
  mask: Uint8Array,
  start: number,
  end: number,
  rules: readonly SparsityRule[],
  space: ParameterSpace,
  step: number,
): Uint8Array {
  const latent = latentRanges(rules, space, step - 1);
  const dense = denseGradientRanges(rules, space, step);
  return withRanges(withRanges(mask, start, end, latent), start, end, dense);
}

function withRanges(bits: Uint8Array, start: number, end: number, ranges: readonly Range[]): Uint8Array {
  const within = ranges
    .map(([from, to]) => [Math.max(from, start) - start, Math.min(to, end) - start] as const)
    .filter(([from, to]) => from < to);
  if (within.length === 0) return bits;
  const out = bits.slice();
  for (const [from, to] of within) setRange(out, from, to);
  return out;
}

/** Whether the mask update of step 0 ranks gradients: workers then compute those of step 1 before it, unapplied. */
export function needsProbe(rules: readonly SparsityRule[]): boolean {
  return rules.some(
    ({ criterion, regrowth, schedule }) =>
      isUpdateStep(schedule, 0) && (regrowth === 'none' ? criterion === 'snip' : regrowth.initial === 'snip'),
  );
}
