import { DECAY_KINDS, type DecayKind } from '../../../shared/config/decay.ts';
import type { DecayConfig } from '../../../shared/config/types.ts';
import { learningRateAt } from './learning-rate.ts';

/** The coefficient of every kind of decay at step `step` (from 1) of `totalSteps`: what the run file says times its schedule. */
export function decayAt(decay: DecayConfig, step: number, totalSteps: number): Readonly<Record<DecayKind, number>> {
  const at = (kind: DecayKind): number => {
    const schedule = decay.schedules?.[kind];
    const base = decay[kind] ?? 0;
    return schedule === undefined ? base : learningRateAt(base, schedule, step, totalSteps);
  };
  return Object.fromEntries(DECAY_KINDS.map((kind) => [kind, at(kind)])) as Record<DecayKind, number>;
}
