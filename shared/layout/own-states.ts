import { isActivationStatistic } from '../model-graph/activation-statistics.ts';
import { isActivationRange } from '../quantization/activation-range.ts';

/** States that a run keeps for itself: they belong to no layer, come after those that do, and are no part of exported models. */
export function isOwnState(state: { readonly name: string }): boolean {
  return isActivationRange(state) || isActivationStatistic(state);
}
