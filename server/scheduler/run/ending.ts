import type { Manifest } from '../../../shared/checkpoint/manifest.ts';
import type { RunOutcome } from './run-options.ts';

/** What decides whether a generation that trains is over. */
export interface Reached {
  /** Steps of the whole run. */
  readonly steps: number;
  /** The last step recorded. */
  readonly step: number;
  readonly generation: number;
  /** The newest checkpoint. */
  readonly manifest: Manifest | null;
  /** The last step is evaluated, or there is nothing to evaluate on. */
  readonly isEvaluated: boolean;
  /** Clock that the run is to stop at; null: it is not stopping. */
  readonly stopAt: number | null;
}

/** How a generation ends that got this far; null where it goes on. */
export function endingOf(reached: Reached): RunOutcome | null {
  const { steps, step, generation, manifest, isEvaluated, stopAt } = reached;
  if (!manifest) return null;
  if (manifest.clock >= steps) return step >= steps && isEvaluated ? { state: 'SUCCEEDED', manifest } : null;
  // A checkpoint of the generation before says nothing of this one's cut.
  if (stopAt !== null && manifest.clock === stopAt && manifest.generation === generation)
    return { state: 'STOPPED', manifest };
  return null;
}
