import type { SparsityRule } from '../../config/types.ts';
import { matchesGlob } from '../glob.ts';
import { sparsityAt } from '../schedule/index.ts';

/** The final sparsity that a parameter has of its own; undefined where it shares the rule's. The first glob holds. */
export function ownFinalSparsity({ overrides = [] }: SparsityRule, name: string): number | undefined {
  return overrides.find(({ match }) => matchesGlob(match, name))?.finalSparsity;
}

/** The rule's curve scaled to another final sparsity; exactly that from endStep on. */
export function scaledSparsityAt({ schedule }: SparsityRule, finalSparsity: number, step: number): number {
  const sparsity = sparsityAt(schedule, step);
  if (sparsity === schedule.finalSparsity) return finalSparsity;
  return sparsity * (finalSparsity / schedule.finalSparsity);
}
