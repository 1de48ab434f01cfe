import type { RegrowthConfig, SparsitySchedule } from '../config/types.ts';
import { cos } from '../kernels/math.ts';

/**
 * Share of the survivors that is dropped and grown again at `step`: half a cosine from `fraction` at beginStep to 0 at
 * endStep, and 0 from there on (Dettmers & Zettlemoyer 2019; Evci et al. 2020).
 */
export function dropFraction(
  { fraction }: RegrowthConfig,
  { beginStep, endStep }: Pick<SparsitySchedule, 'beginStep' | 'endStep'>,
  step: number,
): number {
  if (step >= endStep) return 0;
  return (fraction / 2) * (1 + cos((Math.PI * (step - beginStep)) / (endStep - beginStep)));
}

/** Elements dropped of `alive` at a drop fraction: rounded down, so that some always stay. */
export function dropCount(fraction: number, alive: number): number {
  return Math.floor(fraction * alive);
}
