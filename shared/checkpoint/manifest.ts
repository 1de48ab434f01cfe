import type { RunConfig } from '../config/types.ts';
import type { ModelDescription } from '../layout/model-description.ts';

export const MANIFEST_VERSION = 1;

/** One server's part of a checkpoint. */
export interface ShardEntry {
  /** File name within the checkpoint folder. */
  readonly file: string;
  /** Flat range [start, end) of the parameter space. */
  readonly start: number;
  readonly end: number;
  readonly bytes: number;
  /** Hex sha256 of the whole file. */
  readonly sha256: string;
  /** True for the one shard file that also holds the non-trainable state. */
  readonly hasState: boolean;
}

/** `manifest.json`, written last: a checkpoint without it does not exist. */
export interface Manifest {
  readonly version: typeof MANIFEST_VERSION;
  readonly whittleVersion: string;
  readonly runId: string;
  readonly generation: number;
  /** Clock: optimizer steps applied. */
  readonly clock: number;
  readonly maskEpoch: number;
  /** Examples consumed: clock * batchSize; the next step starts at this position of the stream. */
  readonly dataPosition: number;
  readonly shards: readonly ShardEntry[];
  /** Total survivors of prunable-rule elements, for display. */
  readonly sparsity: number;
  readonly model: ModelDescription;
  readonly config: RunConfig;
  /** Backend fingerprint of the workers. */
  readonly fingerprint: string;
  readonly testAccuracy: number | null;
  /** Interventions that the values have been through; absent: none. See interventions/calendar.ts. */
  readonly interventions?: readonly string[];
  readonly writtenAt: string;
}

/** A manifest but for where and when its content was written. */
export type ManifestFacts = Omit<Manifest, 'shards' | 'generation' | 'writtenAt'>;

/** What a server hands to the checkpoint writer, and gets back (cut to its new range) at resume. */
export interface ShardSnapshot {
  readonly start: number;
  readonly end: number;
  /** Bit i (least significant first) = element start + i is stored. Never-pruned elements are stored. */
  readonly stored: Uint8Array;
  /** Bit i = element start + i survives; a subset of stored. */
  readonly mask: Uint8Array;
  /** Values of the stored set in flat order. */
  readonly weights: Float32Array;
  /** Optimizer slots by name, each packed like weights. */
  readonly slots: Readonly<Record<string, Float32Array>>;
  /** Non-trainable state, all states laid end to end; null on servers that do not hold it. */
  readonly state: Float32Array | null;
}
