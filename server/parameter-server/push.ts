/** One slice's gradient as it arrived: packed values, then (on the state's holder) non-trainable deltas. */
export interface Push {
  readonly step: number;
  readonly slice: number;
  readonly sender: number;
  readonly maskEpoch: number;
  readonly loss: number;
  readonly examples: number;
  /** Decoded packed gradient over the stored set of the shard. */
  readonly gradient: Float32Array;
  /** Change of the non-trainable state by this slice; empty where the shard holds none. */
  readonly stateDelta: Float32Array;
}
