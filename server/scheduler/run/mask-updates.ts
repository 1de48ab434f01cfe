import { WhittleError } from '../../../shared/errors.ts';
import { retry } from '../../../shared/rpc/deadline.ts';
import type { Manifest } from '../../../shared/checkpoint/manifest.ts';
import type { Adoption } from '../adoption.ts';
import { commitMask, type CommittedUpdate, sparsityOf, updateMask } from '../pruning-controller.ts';
import { recordDecided } from '../scheduler-history.ts';
import type { GuardDesk } from './guard-desk.ts';
import type { RunEnd } from './run-end.ts';
import type { RunOptions } from './run-options.ts';
import type { Ground } from './server-group.ts';

const HOLD_MS = 300_000;
/** More than checkpoints can be behind. */
const KEPT_UPDATES = 64;

export type MaskUpdatesOptions = Pick<RunOptions, 'config' | 'generation' | 'history' | 'progress' | 'takeover'> & {
  /** Mask epoch that the generation starts from. */
  readonly maskEpoch: number;
  readonly end: RunEnd;
  readonly guard: GuardDesk | null;
  /** The checkpoint of a clock, once it is durable. */
  readonly saved: (clock: number) => Promise<Manifest>;
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
  /** The newest updates, oldest first. */
  #begun: readonly { readonly step: number; readonly done: Promise<void> }[] = [];

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
      this.#begun = [{ step: unfinished.step, done: this.#updating }];
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

  /**
   * Resolves when the mask of a clock is known; a server may have written its shard before we heard that it has it.
   * Later updates are not waited for: one that puts the mask of this clock back waits for its checkpoint.
   */
  settled(clock: number): Promise<void> {
    return this.#begun.findLast(({ step }) => step <= clock)?.done ?? Promise.resolve();
  }

  /** Begins a mask update once all servers hold; a scheduler that takes over hears of holds before it is ready. */
  #updateWhereHeld(step: number): void {
    const { generation, config, history, guard, saved, end } = this.#options;
    const ground = this.#ground;
    if (!ground || (this.#holds.get(step)?.size ?? 0) < config.cluster.servers) return;
    this.#holds.delete(step);
    // One after the other: the epoch of the next follows from the one before.
    const update = (): Promise<CommittedUpdate> =>
      updateMask({
        generation,
        step,
        maskEpoch: this.#maskEpoch + 1,
        config,
        ...ground,
        guard: guard && { leaveAt: (at) => guard.leaveAt(at), settle: (...asked) => guard.settle(...asked), saved },
        onDecided: (record) => recordDecided(history, record),
        signal: end.signal,
      });
    const wait = (): Promise<void> => guard?.seenBelow(step, end.signal) ?? Promise.resolve();
    this.#updating = this.#updating.then(() => this.#committing(step, update, wait));
    this.#begun = [...this.#begun, { step, done: this.#updating }].slice(-KEPT_UPDATES);
  }

  /** One mask update, again from its start where a server did not answer: a record applied twice is applied once. */
  async #committing(
    step: number,
    update: () => Promise<CommittedUpdate>,
    before: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    const { end, progress, takeover, onCommitted } = this.#options;
    try {
      const what = `the mask update of step ${step}`;
      await before();
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
