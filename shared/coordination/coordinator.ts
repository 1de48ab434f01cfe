/** What a run agrees on outside any one process: which generation is in force, and which checkpoint is the latest. */
export interface Coordinator {
  /**
   * Takes the next generation by compare-and-set, together with the checkpoint its timeline starts from.
   * Guarantee: no two callers ever get the same number; each gets a higher one than all before; once it returns,
   * every `commitLatest` of an older generation is refused and `latest` is `from`. Durable when it returns.
   * @param from null: the timeline starts from initial values
   */
  takeGeneration(from: StartingPoint | null): Promise<number>;

  /**
   * Makes a checkpoint the latest, if its generation is still the one in force.
   * Guarantee: compared and set in one step; never moves backwards within a generation (a lower clock than the
   * latest's has no effect); idempotent. Durable when it returns.
   * Errors: STALE_GENERATION, nothing changed.
   */
  commitLatest(latest: LatestCheckpoint): Promise<void>;

  /** The latest checkpoint, or null before the first. `generation` is the one in force when it became the latest. */
  latest(): Promise<LatestCheckpoint | null>;

  /** Every generation ever taken, in ascending order, each with what it started from. */
  lineage(): Promise<readonly GenerationRecord[]>;

  close(): Promise<void>;
}

export interface StartingPoint {
  readonly clock: number;
  /** The checkpoint's folder name, such as `step-00000468-g1`. */
  readonly checkpoint: string;
}

export interface LatestCheckpoint {
  readonly generation: number;
  readonly clock: number;
  /** The checkpoint's folder name; the run directory may be mounted elsewhere on another host. */
  readonly folder: string;
}

export interface GenerationRecord {
  readonly generation: number;
  readonly from: StartingPoint | null;
}
