import * as z from 'zod';
import { matchesGlob } from '../sparsity/glob.ts';
import { mapping, real } from './fields.ts';
import { rateSchedule } from './rate-schedule.ts';
import type { Problem } from './source.ts';
import type { DecayConfig } from './types.ts';

/*
 * The run file's key `training.decay`: what pulls weights to zero, and when.
 */

/** Kinds of decay; each is a coefficient of `training.decay` and may have a schedule. */
export const DECAY_KINDS = ['weightDecay', 'l2', 'l1', 'groupLasso', 'latent'] as const;
export type DecayKind = (typeof DECAY_KINDS)[number];

const matchError = 'must be a glob of parameter names';
const schedule = (kind: string) => rateSchedule(`factor of ${kind} by step; default constant`).optional();

export const decaySchema = mapping('what pulls weights to zero', {
  weightDecay: real('decoupled: w -= lr x weightDecay x w; >= 0, default 0 (adamw 0.01)', { min: 0 }).optional(),
  l2: real('added to the gradient: g += l2 x w; >= 0, default 0', { min: 0 }).default(0),
  l1: real('proximal: soft threshold by lr x l1; >= 0, default 0', { min: 0 }).default(0),
  groupLasso: real(
    'proximal, on all weights into an output unit: shrinks their norm by lr x groupLasso x sqrt(their number), units reach zero whole; needs mode bsp; >= 0, default 0',
    { min: 0 },
  ).optional(),
  latent: real(
    'decoupled, on dead latent weights of rules that train straight through (SR-STE): w -= lr x latent x w; >= 0, default 0',
    { min: 0 },
  ).optional(),
  match: z
    .string({ error: matchError })
    .min(1, { error: matchError })
    .describe('glob of parameter names it applies to; default all')
    .default('*'),
  schedules: mapping('factors of the coefficients by step, each like learningRateSchedule; default constant', {
    weightDecay: schedule('weightDecay'),
    l2: schedule('l2'),
    l1: schedule('l1'),
    groupLasso: schedule('groupLasso'),
    latent: schedule('latent'),
  }).optional(),
});

type Document = z.output<typeof decaySchema>;

/** What does not fit the rest of the file. `straightThrough`: does a sparsity rule keep latent weights. */
export function decayProblems(decay: Document, others: { mode: string; straightThrough: boolean }): Problem[] {
  const problems: Problem[] = [];
  const at = (key: DecayKind, message: string): void =>
    void problems.push({ path: ['training', 'decay', key], message: `training.decay.${key} ${message}` });
  const { groupLasso = 0, latent = 0 } = decay;
  if (groupLasso > 0 && others.mode !== 'bsp') {
    at(
      'groupLasso',
      `${groupLasso} needs the weights of a whole step, which mode ${others.mode} does not wait for; use mode: bsp or remove it`,
    );
  }
  if (latent > 0 && !others.straightThrough) {
    at(
      'latent',
      `${latent} decays latent weights of dead elements, and no sparsity rule trains straight through, so there are none; remove it`,
    );
  }
  return problems;
}

/** The effective decay: kinds that are off and schedules that were not given are absent, as in older run files. */
export function resolveDecay(decay: Document, defaultWeightDecay: number): DecayConfig {
  const { weightDecay = defaultWeightDecay, l2, l1, match, groupLasso = 0, latent = 0 } = decay;
  const given = DECAY_KINDS.flatMap((kind) => {
    const schedule = decay.schedules?.[kind];
    return schedule === undefined ? [] : [[kind, schedule] as const];
  });
  return {
    weightDecay,
    l2,
    l1,
    match,
    ...(groupLasso === 0 ? {} : { groupLasso }),
    ...(latent === 0 ? {} : { latent }),
    ...(given.length === 0 ? {} : { schedules: Object.fromEntries(given) }),
  };
}

/** Settings without effect. `isGiven`: is the key in the file itself. */
export function decayWarnings(
  decay: DecayConfig,
  isGiven: (key: 'match') => boolean,
  prunableNames: readonly string[] | undefined,
): string[] {
  const warnings: string[] = [];
  const told = JSON.stringify(decay.match);
  if (isGiven('match') && decay.match !== '*' && DECAY_KINDS.every((kind) => (decay[kind] ?? 0) === 0))
    warnings.push(`training.decay.match ${told} is ignored: all coefficients of training.decay are 0`);
  for (const kind of DECAY_KINDS) {
    if (decay.schedules?.[kind] !== undefined && (decay[kind] ?? 0) === 0)
      warnings.push(`training.decay.schedules.${kind} is ignored: training.decay.${kind} is 0`);
  }
  if (decay.groupLasso !== undefined && prunableNames?.some((name) => matchesGlob(decay.match, name)) === false) {
    warnings.push(
      `training.decay.groupLasso ${decay.groupLasso} is ignored: training.decay.match ${told} matches no kernel of a dense or convolution layer`,
    );
  }
  return warnings;
}
