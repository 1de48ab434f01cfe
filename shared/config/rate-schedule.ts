import { kinds, real, whole } from './fields.ts';

const warmupSteps = whole('steps in which the factor rises linearly from 0; default 0').default(0);
const finalFactor = real("factor at the run's end, 0 to 1; default 0", { min: 0, max: 1 }).default(0);

/** A factor by step: of the learning rate, or of a decay. */
export function rateSchedule(about: string) {
  return kinds(about, {
    constant: { warmupSteps },
    step: {
      every: whole('steps between drops, >= 1', { min: 1 }),
      factor: real('factor of each drop, 0 < x <= 1; default 0.1', { above: 0, max: 1 }).default(0.1),
      warmupSteps,
    },
    cosine: { finalFactor, warmupSteps },
    linear: { finalFactor, warmupSteps },
  });
}
