import type { Report__Output } from '../../protos/generated/whittle/Report.ts';
import type { Manifest, ShardEntry } from '../../shared/checkpoint/manifest.ts';
import type { CheckpointStore } from '../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { type ErrorCode, WhittleError } from '../../shared/errors.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { cutEvenly } from '../../shared/layout/shard-map.ts';
import { withDeadline } from '../../shared/rpc/deadline.ts';
import { planHasWork } from '../../shared/sparsity/rules.ts';
import type { History } from '../../shared/telemetry/history.ts';
import type { Logger } from '../../shared/telemetry/log.ts';
import type { RunFailure } from '../../shared/telemetry/run-status.ts';
import { CheckpointCommitter } from './checkpoint-committer.ts';
import type { Evaluation } from './evaluation.ts';
import { Evaluations } from './evaluations.ts';
import { type Member, Members } from './members.ts';
import { type ServerHandle, updateMask } from './pruning-controller.ts';
import type { RunProgress } from './run-progress.ts';
import { recordCheckpoint, recordDecided } from './scheduler-history.ts';
import { configureServers, connectServers } from './shards.ts';
import { assignSlices } from './slices.ts';
import { Signal } from './signal.ts';
import { StepLedger } from './step-ledger.ts';
import { WorkerDescriptions } from './worker-descriptions.ts';

/** Longest waits of a run, in milliseconds; each says in its error what it waited for. */
const DEADLINES = {
  gather: 120_000,
  describe: 300_000,
  configure: 120_000,
  initial: 120_000,
  step: 600_000,
  finish: 300_000,
} as const;
/** How long the word of a member that lost another waits for that other's own end. */
const WITNESS_MS = 1_000;
/** Steps ahead of the newest known clock that a cut on demand is proposed for. */
const CUT_MARGIN = 3;

export interface RunOptions {
  readonly runId: string;
  readonly whittleVersion: string;
  readonly config: RunConfig;
  readonly generation: number;
  readonly restored: Manifest | null;
  readonly store: CheckpointStore;
  readonly coordinator: Coordinator;
  readonly log: Logger;
  readonly progress: RunProgress;
  readonly history: History;
  /** Resolves when the records of all steps so far are in metrics.jsonl. */
  readonly flushMetrics: () => Promise<void>;
}

export type RunOutcome =
  | { readonly state: 'SUCCEEDED' | 'STOPPED'; readonly manifest: Manifest | null }
  | { readonly state: 'FAILED'; readonly failure: RunFailure };

/**
 * One run from the first member to the last checkpoint. `conduct` walks through the phases in order; what members
 * report meanwhile arrives in `#report` and moves the signals that `conduct` waits for.
 */
export class Run {
  readonly members: Members;
  readonly #options: RunOptions;
  readonly #config: RunConfig;
  readonly #progress: RunProgress;
  readonly #committer: CheckpointCommitter;
  readonly #ledger: StepLedger;
  readonly #abort = new AbortController();

  readonly #gathered = new Signal<void>();
  readonly #described = new Signal<void>();
  readonly #serversReady = new Signal<void>();
  readonly #firstCheckpoint = new Signal<Manifest>();
  readonly #over = new Signal<RunOutcome>();

  readonly #descriptions: WorkerDescriptions;
  readonly #evaluations: Evaluations;
  readonly #ready = new Set<number>();
  readonly #holds = new Map<number, Set<number>>();
  #servers: ServerHandle[] = [];
  #space: ParameterSpace | null = null;
  #maskEpoch: number;
  #training = false;
  #stopping: string | null = null;
  #cutRefusals = 0;
  /** Where the run is to stop; -1: nowhere. */
  #stopClock = -1;
  #checkpointTrouble = false;
  #lastManifest: Manifest | null;
  #lastStepAt = performance.now();
  /** The newest mask update; a server may have written its shard before we heard that it has the mask. */
  #updating: Promise<void> = Promise.resolve();

  constructor(options: RunOptions) {
    this.#options = options;
    this.#config = options.config;
    this.#progress = options.progress;
    this.#lastManifest = options.restored;
    this.#maskEpoch = options.restored?.maskEpoch ?? 0;
    const { cluster } = options.config;
    this.#ledger = new StepLedger(cluster.servers, options.restored?.clock ?? 0);
    this.members = new Members({
      runId: options.runId,
      generation: options.generation,
      servers: cluster.servers,
      workers: cluster.workers.max,
      runFile: JSON.stringify(options.config),
      onJoined: (member) => this.#joined(member),
      onReport: (member, report) => this.#guard(member, () => this.#report(member, report)),
      onLost: (member, error) => {
        this.#recordMember(member, 'lost');
        this.#fail(member.role, member.rank, error);
      },
    });
    this.#descriptions = new WorkerDescriptions(cluster.workers.max, (message) => options.log.warn(message));
    this.#evaluations = new Evaluations({
      training: options.config.training,
      members: this.members,
      chunks: () => this.#descriptions.evaluationChunks,
      slicesOf: (worker) => this.#progress.slicesOf(worker),
      onEvaluated: (evaluation) => this.#evaluated(evaluation),
    });
    this.#committer = new CheckpointCommitter({
      store: options.store,
      coordinator: options.coordinator,
      generation: options.generation,
      servers: cluster.servers,
      keep: options.config.checkpoint.keep,
      describe: (clock, maskEpoch) => this.#manifestFacts(clock, maskEpoch),
      beforeCommit: async () => {
        await this.#updating;
        await options.flushMetrics();
      },
      record: (phase, manifest) => recordCheckpoint(options.history, phase, manifest),
      onCommitted: (manifest) => this.#committed(manifest),
      warn: (message) => options.log.warn(message),
      onFailed: (clock, error) => this.#checkpointFailed(clock, error),
    });
  }

  /** The newest checkpoint of the run: the one to resume from. */
  get lastManifest(): Manifest | null {
    return this.#lastManifest;
  }

  /** Walks the run through its phases; never rejects. Ends all sessions before it resolves. */
  async conduct(): Promise<RunOutcome> {
    void this.#phases().catch((reason: unknown) => this.#fail('scheduler', 0, WhittleError.from(reason)));
    const watch = setInterval(() => this.#watch(), 1_000);
    const outcome = await this.#over.value;
    clearInterval(watch);
    this.#abort.abort();
    await this.#committer.idle();
    for (const server of this.#servers) server.client.close();
    this.members.finish(outcome.state, outcome.state === 'FAILED' ? outcome.failure.message : (this.#stopping ?? ''));
    return outcome;
  }

  /** Checkpoints at the next clock that all servers can still reach together, then ends the run STOPPED. */
  stop(reason: string): void {
    if (this.#stopping !== null || this.#over.isSet) return;
    this.#stopping = reason;
    this.#options.log.info({ reason }, 'stopping');
    this.#progress.say(`stopping: ${reason}`);
    if (this.#training) this.#proposeStop();
    else this.#over.set({ state: 'STOPPED', manifest: this.#lastManifest });
  }

  async #phases(): Promise<void> {
    const { cluster } = this.#config;
    this.#progress.say(`waiting for ${cluster.servers} servers and ${cluster.workers.max} workers`);
    await this.#wait(this.#gathered, DEADLINES.gather, () => this.#missingMembers());
    this.#progress.say('workers load the data and build the model');
    await this.#wait(this.#described, DEADLINES.describe, () => 'all workers to load the data and build the model');
    const { description } = this.#descriptions.agreed();
    this.#space = ParameterSpace.of(description.parameters);
    this.#progress.setModel(this.#space);
    const cuts = cutEvenly(this.#space.size, cluster.servers);
    this.#progress.say('servers take their shards');
    const { generation, restored } = this.#options;
    this.#servers = connectServers(this.members.of('server'));
    await configureServers(this.#servers, {
      generation,
      cuts,
      description,
      config: this.#config,
      restored,
      deadlineMilliseconds: DEADLINES.configure,
      signal: this.#abort.signal,
    });
    if (!restored) this.#sendInitial(cuts);
    await this.#wait(this.#serversReady, DEADLINES.initial, () => 'all servers to have their initial values');
    if (!restored) {
      await this.#wait(this.#firstCheckpoint, DEADLINES.initial, () => 'checkpoint 0 to be written');
    }
    if (this.#over.isSet) return;
    this.#training = true;
    this.#lastStepAt = performance.now();
    this.#progress.started();
    const clock = restored?.clock ?? 0;
    const workers = this.members.of('worker');
    const slices = assignSlices(
      cluster.slices,
      workers.map((worker) => worker.rank),
    );
    for (const worker of workers) {
      this.members.send(worker, {
        begin: {
          generation: this.#options.generation,
          cuts,
          servers: this.#servers.map((server) => server.address),
          clock,
          assignment: { version: 1, slices: [...(slices.get(worker.rank) ?? [])], fromStep: clock + 1 },
        },
      });
    }
    this.#progress.setSlices(slices);
    this.#options.history.record({
      kind: 'assignment',
      generation: this.#options.generation,
      version: 1,
      slices: Object.fromEntries(slices),
    });
    if (clock >= this.#config.training.steps) {
      this.#evaluations.begin(clock);
      this.#maybeFinish();
    }
    if (this.#stopping !== null) this.#proposeStop();
  }

  #missingMembers(): string {
    const { servers, workers } = this.#config.cluster;
    return `members: ${this.members.count('server')} of ${servers} servers and ${this.members.count('worker')} of ${workers.max} workers have registered`;
  }

  #joined(member: Member): void {
    this.#options.log.info(
      {
        member: `${member.role}[${member.rank}]`,
        address: member.address,
        pid: member.pid,
      },
      'registered',
    );
    this.#recordMember(member, 'joined');
    if (member.role === 'worker') this.members.send(member, { describe: {} });
    const { cluster } = this.#config;
    if (this.members.count('server') === cluster.servers && this.members.count('worker') === cluster.workers.max) {
      this.#gathered.set();
    }
  }

  #recordMember({ role, rank, pid }: Member, change: 'joined' | 'lost'): void {
    this.#options.history.record({ kind: 'member', generation: this.#options.generation, role, rank, pid, change });
  }

  #sendInitial(cuts: readonly number[]): void {
    const [worker] = this.members.of('worker');
    if (!worker) throw new WhittleError('ROLE_LOST', 'worker[0] is gone');
    const servers = this.#servers.map((server) => server.address);
    this.members.send(worker, { sendInitial: { generation: this.#options.generation, cuts: [...cuts], servers } });
  }

  #report(member: Member, report: Report__Output): void {
    const stale = (generation: number): boolean => generation !== this.#options.generation;
    if (report.modelDescription) {
      if (this.#descriptions.add(member.rank, report.modelDescription)) this.#described.set();
    } else if (report.serverReady && !stale(report.serverReady.generation)) {
      this.#ready.add(member.rank);
      if (this.#ready.size === this.#config.cluster.servers) this.#serversReady.set();
    } else if (report.hold && !stale(report.hold.generation)) {
      this.#hold(member.rank, report.hold.step);
    } else if (report.steps && !stale(report.steps.generation)) {
      for (const step of report.steps.steps) this.#ledger.add(member.rank, step);
      if (report.steps.socket) this.#progress.setSocketBytes(member.rank, report.steps.socket);
      this.#stepsCompleted();
    } else if (report.shardWritten && !stale(report.shardWritten.generation)) {
      const { clock, maskEpoch, shard } = report.shardWritten;
      this.#committer.shardWritten(member.rank, clock, maskEpoch, JSON.parse(shard) as ShardEntry);
    } else if (report.checkpointFailed && !stale(report.checkpointFailed.generation)) {
      const { clock, code, message } = report.checkpointFailed;
      this.#committer.shardFailed(clock, new WhittleError(code as ErrorCode, `server[${member.rank}]: ${message}`));
    } else if (report.cutRefused && !stale(report.cutRefused.generation)) {
      this.#cutRefusals += 1;
      this.#progress.sawClock(report.cutRefused.clock);
      this.#proposeStop();
    } else if (report.evaluation && !stale(report.evaluation.generation)) {
      this.#evaluations.add(report.evaluation);
    } else if (report.failure) {
      const { code, message, stack, step, data } = report.failure;
      const error = new WhittleError(code as ErrorCode, message, {
        data: JSON.parse(data || '{}') as Record<string, unknown>,
      });
      this.#suspect(member.role, member.rank, error, stack, step);
    }
  }

  #hold(server: number, step: number): void {
    let holders = this.#holds.get(step);
    if (!holders) this.#holds.set(step, (holders = new Set()));
    holders.add(server);
    if (holders.size < this.#config.cluster.servers) return;
    this.#holds.delete(step);
    this.#updating = this.#updateMask(step).catch((reason: unknown) => {
      if (!this.#over.isSet) this.#suspect('scheduler', 0, WhittleError.from(reason), undefined, step);
    });
  }

  async #updateMask(step: number): Promise<void> {
    if (!this.#space) throw new WhittleError('INTERNAL', `a hold at step ${step} before the model is known`);
    const record = await updateMask({
      generation: this.#options.generation,
      step,
      maskEpoch: this.#maskEpoch + 1,
      config: this.#config,
      space: this.#space,
      servers: this.#servers,
      onDecided: (record) => recordDecided(this.#options.history, record),
      signal: this.#abort.signal,
    });
    this.#maskEpoch = record.maskEpoch;
    this.#progress.maskCommitted(record);
    this.#stepsCompleted();
  }

  #stepsCompleted(): void {
    const steps = this.#ledger.takeCompleted();
    if (steps.length > 0) this.#lastStepAt = performance.now();
    for (const step of steps) {
      this.#progress.stepCompleted(step, planHasWork(this.#config.sparsity, step.step));
      if (this.#evaluations.isDue(step.step)) this.#evaluations.begin(step.step);
    }
    if (steps.length > 0) this.#maybeFinish();
  }

  #evaluated(evaluation: Evaluation): void {
    const { clock: step, accuracy, loss } = evaluation;
    this.#progress.evaluated(evaluation);
    this.#options.log.info({ step, accuracy, loss }, 'evaluated');
    this.#maybeFinish();
  }

  #committed(manifest: Manifest): void {
    this.#lastManifest = manifest;
    this.#progress.checkpointed(manifest);
    if (this.#checkpointTrouble) this.#progress.say('training');
    this.#checkpointTrouble = false;
    this.#options.log.info({ step: manifest.clock }, 'checkpoint committed');
    this.#firstCheckpoint.set(manifest);
    this.#maybeFinish();
  }

  #checkpointFailed(clock: number, error: WhittleError): void {
    const last = this.#lastManifest;
    const kept = last ? `the checkpoint of step ${last.clock} is kept` : 'there is no earlier checkpoint';
    const isNeeded = !last || clock >= this.#config.training.steps || this.#stopping !== null;
    if (isNeeded) {
      this.#fail(
        'scheduler',
        0,
        new WhittleError(error.code, `checkpoint ${clock} failed: ${error.rawMessage}; ${kept}`),
      );
      return;
    }
    this.#options.log.warn(
      { step: clock },
      `checkpoint ${clock} failed: ${error.rawMessage}; ${kept}, training goes on`,
    );
    this.#checkpointTrouble = true;
    this.#progress.say(`checkpoint ${clock} failed: ${error.rawMessage}; ${kept}, training goes on`);
  }

  #maybeFinish(): void {
    const { steps } = this.#config.training;
    const manifest = this.#lastManifest;
    if (!this.#training || !manifest) return;
    if (manifest.clock >= steps && this.#progress.step >= steps && this.#evaluations.isComplete) {
      this.#over.set({ state: 'SUCCEEDED', manifest });
    } else if (
      this.#stopping !== null &&
      manifest.clock < steps &&
      manifest.generation === this.#options.generation &&
      manifest.clock === this.#stopClock
    ) {
      this.#over.set({ state: 'STOPPED', manifest });
    }
  }

  #proposeStop(): void {
    const { steps } = this.#config.training;
    const clock = Math.max(this.#progress.newestClock, ...this.members.of('server').map((server) => server.clock));
    const proposal = Math.min(steps, clock + CUT_MARGIN * (1 + this.#cutRefusals));
    this.#stopClock = proposal;
    this.members.broadcast('server', { cutAt: { clock: proposal, stop: proposal < steps } });
  }

  #watch(): void {
    this.members.checkSilence();
    if (!this.#training || this.#over.isSet) return;
    const waited = performance.now() - this.#lastStepAt;
    const limit = this.#progress.step >= this.#config.training.steps ? DEADLINES.finish : DEADLINES.step;
    if (waited < limit) return;
    this.#fail(
      'scheduler',
      0,
      new WhittleError(
        'DEADLINE',
        `no step was completed for ${Math.round(waited / 1000)} s after step ${this.#progress.step}: ${this.#laggards()}`,
      ),
    );
  }

  #laggards(): string {
    const clocks = this.members.all().map((m) => `${m.role}[${m.rank}] is at clock ${m.clock}`);
    return clocks.join(', ');
  }

  #manifestFacts(
    clock: number,
    maskEpoch: number,
  ): ReturnType<ConstructorParameters<typeof CheckpointCommitter>[0]['describe']> {
    const { description, fingerprint } = this.#descriptions.agreed();
    return {
      whittleVersion: this.#options.whittleVersion,
      runId: this.#options.runId,
      dataPosition: clock * this.#config.data.batchSize,
      sparsity: this.#progress.sparsityOf(maskEpoch),
      model: description,
      config: this.#config,
      fingerprint,
      testAccuracy: this.#progress.accuracyAt(clock),
    };
  }

  #wait<T>(signal: Signal<T>, milliseconds: number, what: () => string): Promise<T> {
    return withDeadline(signal.value, milliseconds, '', this.#abort.signal).catch((reason: unknown) => {
      if (reason instanceof WhittleError && reason.code === 'DEADLINE') {
        throw new WhittleError('DEADLINE', `waited ${milliseconds / 1000} s for ${what()}`);
      }
      throw reason;
    });
  }

  #guard(member: Member, handle: () => void): void {
    try {
      handle();
    } catch (reason) {
      this.#fail(member.role, member.rank, WhittleError.from(reason, 'PROTOCOL'));
    }
  }

  /** Who lost a peer is a witness and often hears of it first: the peer's own end, which is the cause, comes within a moment. */
  #suspect(role: RunFailure['role'], rank: number, error: WhittleError, stack?: string, step?: number): void {
    if (error.code !== 'ROLE_LOST') this.#fail(role, rank, error, stack, step);
    else setTimeout(() => this.#fail(role, rank, error, stack, step), WITNESS_MS).unref();
  }

  #fail(role: RunFailure['role'], rank: number, error: WhittleError, stack?: string, step?: number): void {
    if (this.#over.isSet) return;
    const failure: RunFailure = {
      role,
      rank,
      code: error.code,
      message: error.rawMessage,
      stack: stack ?? (error.isUserError ? '' : (error.stack ?? '')),
      step: step ?? this.#progress.step,
    };
    this.#options.log.error(
      { ...failure, role: undefined, rank: undefined, by: `${role}[${rank}]` },
      `the run failed: ${error.message}`,
    );
    this.#over.set({ state: 'FAILED', failure });
  }
}
