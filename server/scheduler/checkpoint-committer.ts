import type { Manifest, ShardEntry } from '../../shared/checkpoint/manifest.ts';
import type { CheckpointStore } from '../../shared/checkpoint/store.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { WhittleError } from '../../shared/errors.ts';
import { failpoint } from '../../shared/telemetry/failpoints.ts';

export interface CommitterOptions {
  readonly store: CheckpointStore;
  readonly coordinator: Coordinator;
  readonly generation: number;
  readonly servers: number;
  readonly keep: number;
  /** Clocks of older checkpoints that are still needed at a clock, beside those kept. */
  readonly needed: (clock: number) => readonly number[];
  /** Clock of the newest checkpoint when this scheduler took over; what servers report again up to it is done. */
  readonly after: number;
  /** What the manifest says beside shards, clock and epoch. */
  readonly describe: (
    clock: number,
    maskEpoch: number,
  ) => Omit<Manifest, 'version' | 'clock' | 'maskEpoch' | 'shards' | 'generation' | 'writtenAt'>;
  /** Makes durable what must not lag behind a checkpoint: the records of its steps. */
  readonly beforeCommit: (clock: number) => Promise<void>;
  readonly onCommitted: (manifest: Manifest) => void;
  /** Hears of a checkpoint before it is offered to the coordinator and after it became the latest. */
  readonly record?: (phase: 'offered' | 'committed', manifest: Manifest) => void;
  readonly warn: (message: string) => void;
  readonly onFailed: (clock: number, error: WhittleError) => void;
}

/**
 * Turns shard files into checkpoints: the manifest is written when every server's part is durable, and only then
 * does `latest` move to it. One at a time, in the order in which they became whole.
 */
export class CheckpointCommitter {
  readonly #options: CommitterOptions;
  readonly #parts = new Map<number, Map<number, ShardEntry>>();
  #queue: Promise<void> = Promise.resolve();
  /** Clock of the newest checkpoint that `latest` names; an older one that becomes whole after it is not needed. */
  #newest: number;

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#newest = options.after;
  }

  shardWritten(server: number, clock: number, maskEpoch: number, entry: ShardEntry): void {
    if (clock <= this.#newest) return;
    let parts = this.#parts.get(clock);
    if (!parts) this.#parts.set(clock, (parts = new Map<number, ShardEntry>()));
    parts.set(server, entry);
    if (parts.size < this.#options.servers) return;
    this.#parts.delete(clock);
    const shards = [...parts.values()].sort((a, b) => a.start - b.start || a.end - b.end);
    this.#queue = this.#queue.then(() => this.#commit(clock, maskEpoch, shards));
  }

  shardFailed(clock: number, error: WhittleError): void {
    this.#parts.delete(clock);
    if (clock <= this.#newest) return;
    this.#options.onFailed(clock, error);
  }

  /** Resolves when nothing is being committed any more. */
  idle(): Promise<void> {
    return this.#queue;
  }

  async #commit(clock: number, maskEpoch: number, shards: readonly ShardEntry[]): Promise<void> {
    const { store, coordinator, generation, keep, needed, describe, beforeCommit, record, onCommitted, onFailed } =
      this.#options;
    if (clock <= this.#newest) return;
    try {
      // First: what is described below is known only when the mask update of this clock is.
      await beforeCommit(clock);
      const manifest: Manifest = {
        version: 1,
        generation,
        clock,
        maskEpoch,
        shards,
        ...describe(clock, maskEpoch),
        writtenAt: new Date().toISOString(),
      };
      const folder = store.folderName(clock, generation);
      await store.publish(manifest);
      failpoint('checkpoint.manifest-written', clock);
      record?.('offered', manifest);
      await coordinator.commitLatest({ generation, clock, folder });
      this.#newest = clock;
      record?.('committed', manifest);
      await store.retain(
        keep,
        { latest: folder, generation, lineage: await coordinator.lineage(), needed: needed(clock) },
        this.#options.warn,
      );
      onCommitted(manifest);
    } catch (reason) {
      onFailed(clock, WhittleError.from(reason, 'CHECKPOINT'));
    }
  }
}
