import { WhittleError } from '../../../shared/errors.ts';
import { retry } from '../../../shared/rpc/deadline.ts';
import type { Adoption } from '../adoption.ts';
import { commitMask, type CommittedUpdate, sparsityOf, updateMask } from '../pruning-controller.ts';
import { recordDecided } from '../scheduler-history.ts';
import type { RunEnd } from './run-end.ts';
import type { RunOptions } from './run-options.ts';
import type { Ground } from './server-group.ts';

const HOLD_MS = 300_000;

export type MaskUpdatesOptions = Pick<RunOptions, 'config' | 'generation' | 'history' | 'progress' | 'takeover'> & {
  /** Mask epoch that the generation starts from. */
  readonly maskEpoch: number;
  readonly end: RunEnd;
  /** Told when steps that waited for a commit may be complete. */
  readonly onCommitted: () => void;
};

/** The mask updates of a generation, one after the other, each while all servers hold. */
export class MaskUpdates {
  readonly #options: MaskUpdatesOptions;
  /** Servers that hold, by step. */
  readonly #holds = new Map<number, Set<number>>();
  #ground: Ground | null = null;
  #maskEpoch: number;
  #updating: Promise<void> = Promise.resolve();

  constructor(options: MaskUpdatesOptions) {
    this.#options = options;
    this.#maskEpoch = options.maskEpoch;
  }

  begin(ground: Ground): void {
    this.#ground = ground;
  }

  /** Takes over what servers hold of the scheduler before, and finishes the commit that it began. */
  async adopt(ground: Ground, { servers, commits, unfinished }: Adoption): Promise<void> {
    const { config, progress, end } = this.#options;
    this.begin(ground);
    this.#maskEpoch = Math.max(...servers.map(({ kept }) => kept.maskEpoch));
    for (const { record, survivors } of commits) {
      progress.maskCommitted({ ...record, sparsity: sparsityOf(survivors, config, ground.begun) });
    }
    if (unfinished) {
      this.#updating = this.#committing(unfinished.step, () =>
        commitMask(unfinished, { config, ...ground, signal: end.signal }),
      );
      await this.#updating;
    }
    for (const step of [...this.#holds.keys()]) this.#updateWhereHeld(step);
  }

  hold(server: number, step: number): void {
    let holders = this.#holds.get(step);
    if (!holders) this.#holds.set(step, (holders = new Set()));
    holders.add(server);
    this.#updateWhereHeld(step);
  }

  /** Resolves with the newest update; a server may have written its shard before we heard that it has the mask. */
  settled(): Promise<void> {
    return this.#updating;
  }

  /** Begins a mask update once all servers hold; a scheduler that takes over hears of holds before it is ready. */
  #updateWhereHeld(step: number): void {
    const { generation, config, history, end } = this.#options;
    const ground = this.#ground;
    if (!ground || (this.#holds.get(step)?.size ?? 0) < config.cluster.servers) return;
    this.#holds.delete(step);
    // One after the other: the epoch of the next follows from the one before.
    this.#updating = this.#updating.then(() =>
      this.#committing(step, () =>
        updateMask({
          generation,
          step,
          maskEpoch: this.#maskEpoch + 1,
          config,
          ...ground,
          onDecided: (record) => recordDecided(history, record),
          signal: end.signal,
        }),
      ),
    );
  }

  /** One mask update, again from its start where a server did not answer: a record applied twice is applied once. */
  async #committing(step: number, update: () => Promise<CommittedUpdate>): Promise<void> {
    const { end, progress, takeover, onCommitted } = this.#options;
    try {
      const what = `the mask update of step ${step}`;
      const record = await retry(update, { deadlineMilliseconds: HOLD_MS, what, signal: end.signal });
      this.#maskEpoch = record.maskEpoch;
      progress.maskCommitted(record);
      onCommitted();
    } catch (reason) {
      if (end.isOver) return;
      const error = WhittleError.from(reason);
      // A commit of the scheduler before may arrive after we heard of the holds: what is held now is not known any more.
      if (error.code === 'PROTOCOL' && takeover) end.rollBack(error);
      else end.suspect({ role: 'scheduler', rank: 0, step }, error);
    }
  }
}
