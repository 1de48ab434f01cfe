import type { RunConfig } from '../../shared/config/types.ts';
import type { ModelDescription } from '../../shared/layout/model-description.ts';
import type { Selection } from '../../shared/sparsity/selection.ts';

/** What crosses between the rpc thread of a parameter server and the thread of its shard. */
export interface ConfigureShard {
  readonly generation: number;
  readonly rank: number;
  readonly start: number;
  readonly end: number;
  readonly servers: number;
  readonly model: ModelDescription;
  readonly config: RunConfig;
  readonly runDirectory: string;
  readonly restoreFrom: string | null;
}

export interface CommitMessage {
  readonly step: number;
  readonly maskEpoch: number;
  readonly selections: readonly Selection[];
  readonly restoreFrom: string | null;
}

export interface PushMessage {
  readonly step: number;
  readonly slice: number;
  readonly sender: number;
  readonly maskEpoch: number;
  readonly loss: number;
  readonly examples: number;
  readonly stateBytes: number;
  readonly body: Uint8Array;
}
