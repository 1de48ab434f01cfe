/** What the roles write down, one line of `history/<role>-<rank>-<pid>.jsonl` each, in the order in which it happened. */
export type HistoryEvent =
  | PushEvent
  | AppliedEvent
  | ReadEvent
  | MaskEvent
  | ShardTakenEvent
  | ShardWrittenEvent
  | GenerationEvent
  | CommitDecidedEvent
  | CheckpointEvent
  | MemberEvent
  | AssignmentEvent
  | EndedEvent;

/** A server's verdict on a push, written before the push has an effect. */
export interface PushEvent {
  readonly kind: 'push';
  /** Rank of the server. */
  readonly shard: number;
  readonly generation: number;
  readonly step: number;
  readonly slice: number;
  readonly maskEpoch: number;
  readonly sender: number;
  readonly examples: number;
  /** `accepted`: it will be applied. `duplicate`: it changed nothing. `refused`: the sender must do it again. */
  readonly verdict: 'accepted' | 'duplicate' | 'refused';
}

/** A server applied slices: all of a step at once in bsp, one push at a time in ssp and asp. */
export interface AppliedEvent {
  readonly kind: 'applied';
  readonly shard: number;
  readonly generation: number;
  readonly step: number;
  readonly slices: readonly number[];
  /** Ranks of the workers whose copies were applied, by slice. */
  readonly senders: readonly number[];
  /** Mask epoch of the weights they were applied to. */
  readonly maskEpoch: number;
  /** The shard's clock afterwards. */
  readonly clock: number;
}

/** A server answered a worker with weights. */
export interface ReadEvent {
  readonly kind: 'read';
  readonly shard: number;
  readonly generation: number;
  readonly worker: number;
  /** The worker's own clock: the step it has finished, or, at a pull, the lowest clock it would take. */
  readonly workerClock: number;
  /** The lowest clock that it would take. */
  readonly asked: number;
  readonly given: number;
  readonly maskEpoch: number;
}

/** A server put a mask commit record into force. */
export interface MaskEvent {
  readonly kind: 'mask';
  readonly shard: number;
  readonly generation: number;
  readonly step: number;
  readonly maskEpoch: number;
  /** Elements that died and came back by this record. */
  readonly removed: number;
  readonly regrown: number;
  /** Of the whole shard afterwards, never-pruned elements among the survivors. */
  readonly dead: number;
  /** Hex sha256 of the shard's bitmap. */
  readonly digest: string;
}

/** A server took its shard of a generation: from initial values (`folder` null) or from a checkpoint. */
export interface ShardTakenEvent {
  readonly kind: 'shard-taken';
  readonly shard: number;
  readonly generation: number;
  readonly start: number;
  readonly end: number;
  readonly clock: number;
  readonly maskEpoch: number;
  readonly folder: string | null;
}

/** A server's part of a checkpoint is durable. */
export interface ShardWrittenEvent {
  readonly kind: 'shard-written';
  readonly shard: number;
  readonly generation: number;
  readonly clock: number;
  readonly maskEpoch: number;
  readonly start: number;
  readonly end: number;
  readonly sha256: string;
  /** Hex sha256 of the mask in it. */
  readonly maskDigest: string;
}

/** The scheduler took a generation, or adopted one that all servers still hold (`adopted`). */
export interface GenerationEvent {
  readonly kind: 'generation';
  readonly generation: number;
  readonly adopted: boolean;
  /** The checkpoint that the timeline starts from; null: initial values. Not looked at where adopted. */
  readonly from: { readonly clock: number; readonly checkpoint: string } | null;
}

/** The scheduler decided a mask commit, before it sends it to any server. */
export interface CommitDecidedEvent {
  readonly kind: 'commit-decided';
  readonly generation: number;
  readonly step: number;
  readonly maskEpoch: number;
  /** Hex sha256 of the record as JSON: a repeated decision must be the same. */
  readonly digest: string;
}

/** The scheduler offers a whole checkpoint to the coordinator; it has become the latest. */
export interface CheckpointEvent {
  readonly kind: 'checkpoint';
  readonly phase: 'offered' | 'committed';
  readonly generation: number;
  readonly clock: number;
  readonly maskEpoch: number;
  readonly folder: string;
  readonly shards: readonly { readonly start: number; readonly end: number; readonly sha256: string }[];
}

export interface MemberEvent {
  readonly kind: 'member';
  readonly generation: number;
  readonly role: 'server' | 'worker';
  readonly rank: number;
  readonly pid: number;
  readonly change: 'joined' | 'left' | 'lost';
}

export interface AssignmentEvent {
  readonly kind: 'assignment';
  readonly generation: number;
  /** Slices by worker. */
  readonly slices: Readonly<Record<string, readonly number[]>>;
}

/** The scheduler ended the run. */
export interface EndedEvent {
  readonly kind: 'ended';
  readonly generation: number;
  readonly state: 'SUCCEEDED' | 'STOPPED' | 'FAILED';
  readonly clock: number;
}

/** One line of a file. */
export type HistoryRecord = HistoryEvent & {
  /** Milliseconds since 1970 of the writer's clock: for people, no invariant looks at it. */
  readonly at: number;
};

/** What one process wrote, in order. */
export interface ProcessHistory {
  readonly role: 'scheduler' | 'server' | 'worker';
  readonly rank: number;
  readonly pid: number;
  readonly records: readonly HistoryRecord[];
}
