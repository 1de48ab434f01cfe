import type { Manifest } from '../../../shared/checkpoint/manifest.ts';
import type { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import type { Coordinator } from '../../../shared/coordination/coordinator.ts';
import type { WhittleError } from '../../../shared/errors.ts';
import type { History } from '../../../shared/telemetry/history.ts';
import type { Logger } from '../../../shared/telemetry/log.ts';
import type { RunFailure } from '../../../shared/telemetry/run-status.ts';
import type { Members } from '../members.ts';
import type { RunProgress } from '../progress/run-progress.ts';

export interface RunOptions {
  readonly runId: string;
  readonly whittleVersion: string;
  readonly config: RunConfig;
  readonly generation: number;
  /** The checkpoint that this generation starts from. */
  readonly restored: Manifest | null;
  /** The loss that ended the generation before, or null. */
  readonly after: WhittleError | null;
  /**
   * This scheduler takes over from one that is gone: where all servers still hold this generation, it goes on as it
   * is. The newest checkpoint, and the last step in metrics.jsonl.
   */
  readonly takeover: { readonly latest: Manifest | null; readonly recorded: number } | null;
  readonly members: Members;
  readonly store: CheckpointStore;
  readonly coordinator: Coordinator;
  readonly log: Logger;
  readonly progress: RunProgress;
  readonly history: History;
  /** Resolves when the records of all steps so far are in metrics.jsonl. */
  readonly flushMetrics: () => Promise<void>;
}

/** How a generation ends: with the run, or with a reason to begin the next. */
export type RunOutcome = RunEnding | NextGeneration;

export type RunEnding =
  | { readonly state: 'SUCCEEDED' | 'STOPPED'; readonly manifest: Manifest | null }
  | { readonly state: 'FAILED'; readonly failure: RunFailure }
  /** Another scheduler holds the run. */
  | { readonly state: 'ABANDONED' };

/** Reasons to go on in a new generation; the timeline decides from which checkpoint. */
export interface NextGeneration {
  /** The state of this generation is lost: the run goes back to its last checkpoint. */
  readonly state: 'ROLLBACK';
  readonly cause: WhittleError;
}

export function beginsNext(outcome: RunOutcome): outcome is NextGeneration {
  return outcome.state === 'ROLLBACK';
}
