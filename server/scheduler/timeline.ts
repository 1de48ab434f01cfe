import { basename } from 'node:path';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { checkpointName } from '../../shared/checkpoint/manifest-file.ts';
import type { CheckpointStore } from '../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { WhittleError } from '../../shared/errors.ts';
import { commandLine } from '../../shared/invocation.ts';
import { failpoint } from '../../shared/telemetry/failpoints.ts';
import type { History } from '../../shared/telemetry/history.ts';
import type { Logger } from '../../shared/telemetry/log.ts';
import type { RunDirectory } from '../../shared/telemetry/run-directory.ts';
import type { RunStatus } from '../../shared/telemetry/run-status.ts';
import { whittleVersion } from '../../shared/version.ts';
import { intervene } from './interventions.ts';
import { Members } from './members.ts';
import type { RunProgress } from './progress/run-progress.ts';
import { RollbackLimit } from './rollback-limit.ts';
import { Run } from './run.ts';
import { beginsNext, type NextGeneration, type RunEnding, type RunOptions } from './run/run-options.ts';
import type { StepTimes } from './stragglers.ts';

/** How a scheduler begins. */
export type Beginning =
  | { readonly kind: 'launch' }
  /** `folder`: the checkpoint to continue from; null: the newest usable one. */
  | { readonly kind: 'resume'; readonly folder: string | null }
  /** In place of a scheduler that is gone: go on where all servers still hold the run, else from the last checkpoint. */
  | { readonly kind: 'recover' };

export interface TimelineOptions {
  readonly directory: RunDirectory;
  readonly config: RunConfig;
  readonly coordinator: Coordinator;
  readonly store: CheckpointStore;
  readonly progress: RunProgress;
  readonly log: Logger;
  readonly history: History;
}

/** The generations of a run under this scheduler: each ends the run, or is followed by the next from the last checkpoint. */
export class Timeline {
  readonly members: Members;
  readonly #options: TimelineOptions;
  readonly #rollbacks = new RollbackLimit();
  #generation = 0;
  #run: Run | null = null;
  #stopReason: string | null = null;
  #abandoned = false;

  constructor(options: TimelineOptions) {
    this.#options = options;
    const { cluster } = options.config;
    this.members = new Members({
      runId: options.directory.runId,
      generation: () => this.#generation,
      servers: cluster.servers,
      workers: cluster.workers.max,
      runFile: JSON.stringify(options.config),
    });
  }

  get generation(): number {
    return this.#generation;
  }

  /** The newest checkpoint. */
  get lastManifest(): Manifest | null {
    return this.#run?.lastManifest ?? null;
  }

  /** Takes the generation to begin with, and answers the clock it starts from. */
  async begin(beginning: Beginning): Promise<number | null> {
    const { coordinator, progress } = this.#options;
    if (beginning.kind === 'recover') {
      this.#generation = (await coordinator.lineage()).at(-1)?.generation ?? 0;
      if (this.#generation > 0) return this.#takeOver();
    }
    const found = beginning.kind === 'resume' ? await this.#checkpoint(beginning.folder) : null;
    const restored = await this.#next(found);
    progress.begin(this.#generation, restored);
    this.#run = this.#newRun({ restored, after: null, takeover: null });
    return restored?.clock ?? null;
  }

  /** Runs to the end. Closes all sessions before it resolves. */
  async conduct(): Promise<RunEnding> {
    for (;;) {
      const run = this.#current();
      if (this.#stopReason !== null) run.stop(this.#stopReason);
      const outcome = await run.conduct();
      if (outcome.state === 'ABANDONED' || this.#abandoned) {
        this.members.abandon();
        return { state: 'ABANDONED' };
      }
      if (!beginsNext(outcome)) {
        const reason = outcome.state === 'FAILED' ? outcome.failure.message : (run.stopping ?? '');
        this.members.finish(outcome.state, reason);
        return outcome;
      }
      try {
        this.#stopReason = run.stopping;
        await this.#follow(outcome);
      } catch (reason) {
        return this.#failed(WhittleError.from(reason));
      }
    }
  }

  stepTimesOf(worker: number): StepTimes | null {
    return this.#run?.stepTimesOf(worker) ?? null;
  }

  stop(reason: string): void {
    this.#stopReason ??= reason;
    this.#run?.stop(reason);
  }

  /** Another scheduler holds the run. */
  abandon(): void {
    this.#abandoned = true;
    this.#run?.abandon();
  }

  /** Answers whether the run goes on. */
  roleExited(role: 'server' | 'worker', rank: number, message: string, replaced: boolean): boolean {
    return this.#current().roleExited(role, rank, message, replaced);
  }

  #current(): Run {
    if (!this.#run) throw new WhittleError('INTERNAL', 'the timeline has not begun');
    return this.#run;
  }

  async #takeOver(): Promise<number | null> {
    const { directory, coordinator, store, progress, log } = this.#options;
    const pointer = await coordinator.latest();
    const latest = pointer === null ? null : await store.read(pointer.folder).catch(() => null);
    const records = await directory.metrics.read();
    // A status that cannot be read costs only what it counted.
    const status: RunStatus | null = await directory.readStatus().catch(() => null);
    this.#options.history.record({ kind: 'generation', generation: this.#generation, adopted: true, from: null });
    progress.takenOver(this.#generation, latest, status, records);
    log.info({ generation: this.#generation, step: progress.step }, 'taking the place of a scheduler that is gone');
    this.#run = this.#newRun({ restored: latest, after: null, takeover: { latest, recorded: progress.step } });
    return latest?.clock ?? null;
  }

  /** Begins the generation that comes after one that ended so. */
  async #follow(outcome: NextGeneration): Promise<void> {
    if (outcome.state === 'ROLLBACK') return this.#rollBack(outcome.cause);
    const restored = await this.#next(outcome.manifest);
    this.#options.progress.goesOn(this.#generation, restored);
    this.#run = this.#newRun({ restored, after: null, takeover: null });
  }

  #failed(error: WhittleError): RunEnding {
    const { progress, log } = this.#options;
    log.error({ error }, error.message);
    const { code, rawMessage: message } = error;
    this.members.finish('FAILED', message);
    const failure = { role: 'scheduler' as const, rank: 0, code, message, stack: '', step: progress.step };
    return { state: 'FAILED', failure };
  }

  async #rollBack(cause: WhittleError): Promise<void> {
    const { progress, log } = this.#options;
    this.#rollbacks.count(progress.step, cause);
    const restored = await this.#next(await this.#newest());
    progress.rolledBack(this.#generation, restored, cause.rawMessage);
    progress.say(`going back to step ${restored?.clock ?? 0}: ${cause.rawMessage}`);
    log.warn({ generation: this.#generation }, `going back to step ${restored?.clock ?? 0}`);
    this.#run = this.#newRun({ restored, after: cause, takeover: null });
  }

  /**
   * Begins a generation: every message of an older one is without effect from here on. Answers the checkpoint that it
   * starts from: the given one, after the interventions that are due at it.
   */
  async #next(restored: Manifest | null): Promise<Manifest | null> {
    const { coordinator, directory, config, store, log, progress } = this.#options;
    const from = restored
      ? { clock: restored.clock, checkpoint: checkpointName(restored.clock, restored.generation) }
      : null;
    this.#generation = await coordinator.takeGeneration(from);
    this.#options.history.record({ kind: 'generation', generation: this.#generation, adopted: false, from });
    if (this.#generation > 1) failpoint('rollback.generation-taken', restored?.clock ?? 0);
    await directory.metrics.truncate(restored?.clock ?? 0);
    if (restored === null) return null;
    return intervene(restored, {
      ...{ config, store, coordinator, generation: this.#generation },
      done: ({ id }, what) => {
        log.info({ step: restored.clock, generation: this.#generation, intervention: id }, what);
        progress.say(what);
      },
    });
  }

  #newRun(options: Pick<RunOptions, 'restored' | 'after' | 'takeover'>): Run {
    const { directory, config, store, coordinator, log, progress, history } = this.#options;
    return new Run({
      ...options,
      runId: directory.runId,
      whittleVersion,
      config,
      generation: this.#generation,
      members: this.members,
      store,
      coordinator,
      log,
      progress,
      history,
      flushMetrics: () => directory.metrics.flush(),
    });
  }

  async #checkpoint(folder: string | null): Promise<Manifest> {
    const { store } = this.#options;
    if (folder !== null) return store.verify(folder);
    const found = await this.#newest();
    if (found) return found;
    throw new WhittleError(
      'CHECKPOINT',
      `${store.folder} holds no usable checkpoint; start over with \`${commandLine('launch')}\``,
    );
  }

  /** The newest checkpoint that verifies; null before the first. */
  async #newest(): Promise<Manifest | null> {
    const { store, coordinator, log } = this.#options;
    const latest = await coordinator.latest();
    const found = await store.newestUsable(
      { pointer: latest?.folder ?? null, lineage: await coordinator.lineage() },
      (message) => log.warn(message),
    );
    if (found)
      log.info({ step: found.manifest.clock, checkpoint: basename(found.folder) }, 'going on from a checkpoint');
    return found?.manifest ?? null;
  }
}
