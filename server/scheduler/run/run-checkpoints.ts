import type { Manifest, ShardEntry } from '../../../shared/checkpoint/manifest.ts';
import { WhittleError } from '../../../shared/errors.ts';
import { clocksNeeded } from '../../../shared/interventions/calendar.ts';
import { CheckpointCommitter } from '../checkpoint-committer.ts';
import { recordCheckpoint } from '../scheduler-history.ts';
import { Signal } from '../signal.ts';
import type { WorkerDescriptions } from '../worker-descriptions.ts';
import type { GuardDesk } from './guard-desk.ts';
import { INITIAL_MS } from './server-group.ts';
import { waitFor } from './gathering.ts';
import type { RunEnd } from './run-end.ts';
import type { RunOptions } from './run-options.ts';

export interface RunCheckpointsOptions {
  readonly run: RunOptions;
  readonly end: RunEnd;
  readonly descriptions: WorkerDescriptions;
  /** Resolves when what a checkpoint of this clock says of its mask is known. */
  readonly maskSettled: (clock: number) => Promise<void>;
  readonly guard: GuardDesk | null;
  /** Whether the run cannot go on without a checkpoint of this clock, as it ends there. */
  readonly isLast: (clock: number) => boolean;
  readonly onCommitted: () => void;
}

/** The checkpoints of a generation, and what becomes of one that fails. */
export class RunCheckpoints {
  readonly #options: RunCheckpointsOptions;
  readonly #committer: CheckpointCommitter;
  readonly #first = new Signal<Manifest>();
  #last: Manifest | null;
  #isTroubled = false;
  /** Set with the next checkpoint that is committed. */
  #news = new Signal<void>();

  constructor(options: RunCheckpointsOptions) {
    this.#options = options;
    const { config, store, coordinator, generation, takeover, restored, history, log, flushMetrics } = options.run;
    this.#last = takeover ? takeover.latest : restored;
    this.#committer = new CheckpointCommitter({
      store,
      coordinator,
      generation,
      servers: config.cluster.servers,
      keep: config.checkpoint.keep,
      needed: (clock) => [...clocksNeeded(config, clock), ...(options.guard?.clocksNeeded ?? [])],
      after: takeover?.latest?.clock ?? -1,
      describe: (clock, maskEpoch) => this.#describe(clock, maskEpoch),
      beforeCommit: async (clock) => {
        await options.maskSettled(clock);
        await options.guard?.seenBelow(clock, options.end.signal);
        await flushMetrics();
      },
      record: (phase, manifest) => recordCheckpoint(history, phase, manifest),
      onCommitted: (manifest) => this.#committed(manifest),
      warn: (message) => log.warn(message),
      onFailed: (clock, error) => this.#failed(clock, error),
    });
  }

  /** The newest checkpoint of the run: the one to resume from. */
  get last(): Manifest | null {
    return this.#last;
  }

  /** Resolves when this generation's first checkpoint is the latest. */
  first(): Promise<Manifest> {
    const what = (): string => 'checkpoint 0 to be written';
    return waitFor(this.#first, { milliseconds: INITIAL_MS, what, signal: this.#options.end.signal });
  }

  /**
   * The checkpoint of an earlier clock of this run, once it is durable. Errors: CHECKPOINT where it is damaged,
   * DEADLINE where it could not be written.
   */
  async saved(clock: number): Promise<Manifest> {
    const { store, generation, restored } = this.#options.run;
    const { signal } = this.#options.end;
    // What an older generation wrote beyond the checkpoint that this one started from is no part of the run.
    const isOwn = clock > (restored?.clock ?? -1);
    for (;;) {
      const news = this.#news;
      const found = (await store.list()).findLast(
        (entry) => entry.clock === clock && entry.complete && (!isOwn || entry.generation === generation),
      );
      if (found) return store.verify(found.path);
      const what = (): string =>
        `the checkpoint of step ${clock}, which the guard puts back; ${store.folder} holds none. Resume from before step ${clock}`;
      await waitFor(news, { milliseconds: INITIAL_MS, what, signal });
    }
  }

  shardWritten(server: number, clock: number, maskEpoch: number, entry: ShardEntry): void {
    this.#committer.shardWritten(server, clock, maskEpoch, entry);
  }

  shardFailed(clock: number, error: WhittleError): void {
    this.#committer.shardFailed(clock, error);
  }

  /** Resolves when nothing is being committed any more. */
  idle(): Promise<void> {
    return this.#committer.idle();
  }

  #describe(
    clock: number,
    maskEpoch: number,
  ): ReturnType<ConstructorParameters<typeof CheckpointCommitter>[0]['describe']> {
    const { whittleVersion, runId, config, progress } = this.#options.run;
    const { description, fingerprint } = this.#options.descriptions.agreed();
    return {
      whittleVersion,
      runId,
      dataPosition: clock * config.data.batchSize,
      sparsity: progress.sparsityOf(maskEpoch),
      model: description,
      config,
      fingerprint,
      testAccuracy: progress.accuracyAt(clock),
      ...(this.#options.guard ? { guard: this.#options.guard.recordAt(clock) } : {}),
      ...(this.#last?.interventions ? { interventions: this.#last.interventions } : {}),
    };
  }

  #committed(manifest: Manifest): void {
    const { progress, log } = this.#options.run;
    this.#last = manifest;
    this.#options.guard?.written(manifest.clock);
    this.#news.set();
    this.#news = new Signal();
    progress.checkpointed(manifest);
    if (this.#isTroubled) progress.say('training');
    this.#isTroubled = false;
    log.info({ step: manifest.clock }, 'checkpoint committed');
    this.#first.set(manifest);
    this.#options.onCommitted();
  }

  #failed(clock: number, error: WhittleError): void {
    const { run, end, isLast } = this.#options;
    const last = this.#last;
    const kept = last ? `the checkpoint of step ${last.clock} is kept` : 'there is no earlier checkpoint';
    const message = `checkpoint ${clock} failed: ${error.rawMessage}; ${kept}`;
    if (!last || isLast(clock)) {
      end.failHere(new WhittleError(error.code, message));
      return;
    }
    run.log.warn({ step: clock }, `${message}, training goes on`);
    this.#isTroubled = true;
    run.progress.say(`${message}, training goes on`);
  }
}
