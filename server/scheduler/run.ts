import type { Report__Output } from '../../protos/generated/whittle/Report.ts';
import type { Manifest, ShardEntry } from '../../shared/checkpoint/manifest.ts';
import type { CheckpointStore } from '../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { Coordinator } from '../../shared/coordination/coordinator.ts';
import { type ErrorCode, WhittleError } from '../../shared/errors.ts';
import { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { cutEvenly } from '../../shared/layout/shard-map.ts';
import { plural } from '../../shared/plural.ts';
import { retry, withDeadline } from '../../shared/rpc/deadline.ts';
import { planHasWork } from '../../shared/sparsity/rules.ts';
import type { History } from '../../shared/telemetry/history.ts';
import type { Logger } from '../../shared/telemetry/log.ts';
import type { RunFailure } from '../../shared/telemetry/run-status.ts';
import { type Adoption, adoptionOf } from './adoption.ts';
import { CheckpointCommitter } from './checkpoint-committer.ts';
import type { Evaluation } from './evaluation.ts';
import { Evaluations } from './evaluations.ts';
import type { Member, MemberListener, Members } from './members.ts';
import { commitMask, type CommittedUpdate, type ServerHandle, sparsityOf, updateMask } from './pruning-controller.ts';
import type { RunProgress } from './run-progress.ts';
import { recordCheckpoint, recordDecided } from './scheduler-history.ts';
import { configureServers, connectServers } from './shards.ts';
import { SliceDesk } from './slice-desk.ts';
import { Signal } from './signal.ts';
import { Stragglers, type StepTimes } from './stragglers.ts';
import { StepLedger } from './step-ledger.ts';
import { WorkerDescriptions } from './worker-descriptions.ts';

/** Longest waits of a run, in milliseconds; each says in its error what it waited for. */
const DEADLINES = {
  gather: 120_000,
  describe: 300_000,
  configure: 120_000,
  initial: 120_000,
  hold: 300_000,
  step: 600_000,
  finish: 300_000,
} as const;
/** How long a run that needs fewer workers than it may have waits for more before it begins. */
const LAST_CALL_MS = 3_000;
/** How long the word of a member that lost another waits for that other's own end. */
const WITNESS_MS = 1_000;
/** Steps ahead of the newest known clock that a cut on demand is proposed for. */
const CUT_MARGIN = 3;
const WATCH_MS = 500;
/** Steps between looks at who is slow. */
const BALANCE_EVERY = 25;

export interface RunOptions {
  readonly runId: string;
  readonly whittleVersion: string;
  readonly config: RunConfig;
  readonly generation: number;
  /** The checkpoint that this generation starts from. */
  readonly restored: Manifest | null;
  /** The loss that ended the generation before, or null. */
  readonly after: WhittleError | null;
  /**
   * This scheduler takes over from one that is gone: where all servers still hold this generation, it goes on as it
   * is. The newest checkpoint, and the last step in metrics.jsonl.
   */
  readonly takeover: { readonly latest: Manifest | null; readonly recorded: number } | null;
  readonly members: Members;
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
  | { readonly state: 'FAILED'; readonly failure: RunFailure }
  /** The state of this generation is lost: the run goes back to its last checkpoint. */
  | { readonly state: 'ROLLBACK'; readonly cause: WhittleError }
  /** Another scheduler holds the run. */
  | { readonly state: 'ABANDONED' };

/**
 * One generation of a run, from the first member to the last checkpoint or to the loss of a server. `conduct` walks
 * through the phases in order; what members report meanwhile arrives in `reported` and moves the signals that
 * `conduct` waits for. Workers may come and go at any time.
 */
export class Run implements MemberListener {
  readonly #options: RunOptions;
  readonly #config: RunConfig;
  readonly #members: Members;
  readonly #progress: RunProgress;
  readonly #committer: CheckpointCommitter;
  readonly #desk: SliceDesk;
  #ledger: StepLedger;
  readonly #abort = new AbortController();

  readonly #gathered = new Signal<void>();
  readonly #described = new Signal<void>();
  readonly #serversReady = new Signal<void>();
  readonly #firstCheckpoint = new Signal<Manifest>();
  readonly #over = new Signal<RunOutcome>();

  readonly #stragglers = new Stragglers();
  readonly #descriptions: WorkerDescriptions;
  readonly #evaluations: Evaluations;
  readonly #ready = new Set<number>();
  readonly #holds = new Map<number, Set<number>>();
  #servers: ServerHandle[] = [];
  #cuts: readonly number[] = [];
  #space: ParameterSpace | null = null;
  #maskEpoch: number;
  #training = false;
  #isLastCall = false;
  /** Who sends the initial values; its loss before they are complete begins the run anew. */
  #initialSender: Member | null = null;
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
    this.#members = options.members;
    this.#progress = options.progress;
    const start = options.takeover ? options.takeover.latest : options.restored;
    this.#lastManifest = start;
    this.#maskEpoch = start?.maskEpoch ?? 0;
    const { cluster, consistency } = options.config;
    this.#ledger = new StepLedger(cluster.servers, options.takeover?.recorded ?? options.restored?.clock ?? 0);
    this.#descriptions = new WorkerDescriptions(
      (message) => options.log.warn(message),
      start ? { description: start.model, fingerprint: start.fingerprint } : null,
    );
    this.#desk = new SliceDesk({
      members: options.members,
      slices: cluster.slices,
      backupWorkers: consistency.backupWorkers,
      onAssigned: (assignment) => {
        const slices = Object.fromEntries(assignment);
        options.history.record({ kind: 'assignment', generation: options.generation, slices });
        this.#progress.setSlices(assignment);
      },
    });
    this.#evaluations = new Evaluations({
      training: options.config.training,
      members: options.members,
      chunks: () => this.#descriptions.evaluationChunks,
      holders: () => this.#workers().flatMap(({ rank }) => (this.#desk.slicesOf(rank).length > 0 ? [rank] : [])),
      onEvaluated: (evaluation) => this.#evaluated(evaluation),
      warn: (message) => options.log.warn(message),
    });
    this.#committer = new CheckpointCommitter({
      store: options.store,
      coordinator: options.coordinator,
      generation: options.generation,
      servers: cluster.servers,
      keep: options.config.checkpoint.keep,
      after: options.takeover?.latest?.clock ?? -1,
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

  /** Walks this generation through its phases; never rejects. */
  async conduct(): Promise<RunOutcome> {
    this.#members.listen(this);
    void this.#phases().catch((reason: unknown) => this.#broken(WhittleError.from(reason)));
    const watch = setInterval(() => this.#watch(), WATCH_MS);
    const outcome = await this.#over.value;
    clearInterval(watch);
    this.#abort.abort();
    await this.#committer.idle();
    for (const server of this.#servers) server.client.close();
    return outcome;
  }

  /** How long a worker takes for a step; null where not known. */
  stepTimesOf(worker: number): StepTimes | null {
    return this.#stragglers.timesOf(worker);
  }

  /** Why the run stops, or null. */
  get stopping(): string | null {
    return this.#stopping;
  }

  /** Checkpoints at the next clock that all servers can still reach together, then ends the run STOPPED. */
  stop(reason: string): void {
    if (this.#stopping !== null || this.#over.isSet) return;
    this.#stopping = reason;
    this.#options.log.info({ reason }, 'stopping');
    this.#progress.say(`stopping: ${reason}`);
    if (this.#training) this.#proposeStop();
    else if (!this.#options.takeover) this.#over.set({ state: 'STOPPED', manifest: this.#lastManifest });
  }

  /** Another scheduler holds the run: this one acts no more. */
  abandon(): void {
    this.#over.set({ state: 'ABANDONED' });
  }

  /** What a supervisor saw; see the RoleExited rpc. Answers whether the run goes on. */
  roleExited(role: 'server' | 'worker', rank: number, message: string, replaced: boolean): boolean {
    if (this.#over.isSet) return false;
    const others = this.#members.of('worker').filter((member) => member.rank !== rank).length;
    if (!replaced && (role === 'server' || others < this.#config.cluster.workers.min))
      this.#fail(role, rank, new WhittleError('ROLE_LOST', message));
    else this.#members.exited(role, rank, message);
    return !this.#over.isSet || replaced;
  }

  async #phases(): Promise<void> {
    await this.#gather();
    if (this.#options.takeover) {
      const adoption = adoptionOf(this.#members.of('server'), this.#options.generation, this.#options.takeover.latest);
      if (adoption) return this.#adopt(adoption);
      throw new WhittleError('ROLE_LOST', 'the servers lost what they held while there was no scheduler');
    }
    await this.#configure();
    if (!this.#over.isSet) this.#begin(this.#options.restored?.clock ?? 0);
  }

  async #gather(): Promise<void> {
    const { servers, workers } = this.#config.cluster;
    this.#progress.say(`waiting for ${plural(servers, 'server')} and ${plural(workers.max, 'worker')}`);
    const lastCall = setTimeout(() => {
      this.#isLastCall = true;
      this.#check();
    }, LAST_CALL_MS);
    try {
      await this.#wait(this.#gathered, DEADLINES.gather, () => this.#missingMembers());
    } finally {
      clearTimeout(lastCall);
    }
  }

  /** Gives every server its shard, of the checkpoint or with initial values. */
  async #configure(): Promise<void> {
    const { generation, restored } = this.#options;
    this.#progress.say('workers load the data and build the model');
    await this.#wait(this.#described, DEADLINES.describe, () => 'the workers to load the data and build the model');
    const { description } = this.#descriptions.agreed();
    if (this.#members.count('server') < this.#config.cluster.servers) throw this.#lossBeforeStart();
    this.#setModel();
    this.#progress.say('servers take their shards');
    this.#servers = connectServers(this.#members.of('server'));
    const options = { generation, cuts: this.#cuts, description, config: this.#config, restored };
    await retry(
      (deadlineMilliseconds) =>
        configureServers(this.#servers, { ...options, deadlineMilliseconds, signal: this.#abort.signal }),
      {
        deadlineMilliseconds: DEADLINES.configure,
        what: 'all servers to take their shards',
        signal: this.#abort.signal,
      },
    );
    if (!restored) this.#sendInitial();
    await this.#wait(this.#serversReady, DEADLINES.initial, () => 'all servers to have their initial values');
    if (!restored) await this.#wait(this.#firstCheckpoint, DEADLINES.initial, () => 'checkpoint 0 to be written');
    this.#initialSender = null;
  }

  #lossBeforeStart(): WhittleError {
    return new WhittleError('ROLE_LOST', `a server was lost before training began; ${this.#missingMembers()}`);
  }

  #setModel(): void {
    this.#space = ParameterSpace.of(this.#descriptions.agreed().description.parameters);
    this.#cuts = cutEvenly(this.#space.size, this.#config.cluster.servers);
    this.#progress.setModel(this.#space);
  }

  /** Workers that have built the model. */
  #workers(): Member[] {
    return this.#members.of('worker').filter(({ rank }) => this.#descriptions.has(rank));
  }

  #begin(clock: number): void {
    this.#training = true;
    this.#lastStepAt = performance.now();
    this.#progress.started();
    this.#desk.add(this.#workers(), clock + 1);
    for (const worker of this.#workers()) this.#sendBegin(worker);
    if (clock >= this.#config.training.steps) {
      this.#evaluations.begin(clock);
      this.#maybeFinish();
    }
    if (this.#stopping !== null) this.#proposeStop();
  }

  #sendBegin(worker: Member): void {
    const clock = this.#progress.newestClock;
    this.#members.send(worker, {
      begin: {
        generation: this.#options.generation,
        cuts: [...this.#cuts],
        servers: this.#servers.map((server) => server.address),
        clock,
        assignment: this.#desk.messageFor(worker.rank, clock + 1),
      },
    });
  }

  /** Goes on where the scheduler before was lost. Servers report again what it may not have taken in. */
  async #adopt(adoption: Adoption): Promise<void> {
    const { clock, commits, stopAt } = adoption;
    this.#options.log.info({ step: clock }, 'taking over: all servers hold the run');
    this.#setModel();
    const space = this.#space;
    if (!space) return;
    this.#servers = connectServers(this.#members.of('server'));
    this.#maskEpoch = Math.max(...adoption.servers.map(({ kept }) => kept.maskEpoch));
    for (const { record, survivors } of commits) {
      this.#progress.maskCommitted({ ...record, sparsity: sparsityOf(survivors, this.#config, space) });
    }
    if (adoption.unfinished) {
      const { signal } = this.#abort;
      const record = adoption.unfinished;
      this.#updating = this.#committing(record.step, () =>
        commitMask(record, { config: this.#config, space, servers: this.#servers, signal }),
      );
      await this.#updating;
    }
    for (const step of [...this.#holds.keys()]) this.#updateWhereHeld(step);
    if (stopAt !== null) this.#stopping ??= 'the scheduler before was stopping the run';
    for (const { kept } of adoption.servers) this.#progress.sawClock(kept.clock);
    this.#begin(this.#progress.newestClock);
    for (let step = this.#progress.evaluatedAt + 1; step <= this.#progress.step; step += 1)
      if (this.#evaluations.isDue(step)) this.#evaluations.begin(step);
    this.#stepsCompleted();
    this.#maybeFinish();
  }

  #missingMembers(): string {
    const { servers, workers } = this.#config.cluster;
    return `members: ${this.#members.count('server')} of ${plural(servers, 'server')} and ${this.#members.count('worker')} of ${plural(workers.max, 'worker')} have registered${this.#options.after ? `; ${this.#options.after.rawMessage}, and was not replaced` : ''}`;
  }

  joined(member: Member): void {
    const { rank, role, address, pid } = member;
    this.#options.log.info({ member: `${role}[${rank}]`, address, pid }, 'registered');
    this.#recordMember(member, 'joined');
    if (role === 'worker') this.#members.send(member, { describe: {} });
    this.#check();
  }

  #recordMember({ role, rank, pid }: Member, change: 'joined' | 'left' | 'lost'): void {
    this.#options.history.record({ kind: 'member', generation: this.#options.generation, role, rank, pid, change });
  }

  lost(member: Member, error: WhittleError): void {
    if (this.#over.isSet) return;
    this.#recordMember(member, member.leaving ? 'left' : 'lost');
    const { role, rank } = member;
    if (role === 'server' || member === this.#initialSender) {
      if (this.#training || this.#ready.has(rank) || member === this.#initialSender || this.#cuts.length > 0)
        this.#rollBack(error);
      return;
    }
    this.#descriptions.drop(rank);
    this.#workerGone(rank, member.leaving ? 'left' : error.rawMessage);
  }

  #workerGone(rank: number, how: string): void {
    this.#stragglers.forget(rank);
    const handedOver = this.#desk.remove(rank, this.#progress.newestClock + 1);
    if (!this.#training) return;
    const others = this.#desk.workers;
    const consequence =
      others === 0
        ? 'training waits for a worker'
        : handedOver
          ? `its slices move to ${others} others`
          : 'it had no slices';
    this.#options.log.warn({ worker: rank }, `worker[${rank}] ${how}; ${consequence}`);
    this.#progress.say(others === 0 ? 'waiting for a worker' : 'training');
    this.#evaluations.lost(rank);
  }

  /** Moves on what waits for members. */
  #check(): void {
    const { servers, workers } = this.#config.cluster;
    const enough = (count: number): boolean => count === workers.max || (this.#isLastCall && count >= workers.min);
    const hasServers = this.#members.count('server') === servers;
    // Who takes over must not wait for workers: the servers hold the run.
    const patient = this.#options.takeover !== null && this.#isLastCall;
    if (hasServers && (patient || enough(this.#members.count('worker')))) this.#gathered.set();
    if (this.#gathered.isSet && enough(this.#workers().length)) this.#described.set();
  }

  #sendInitial(): void {
    const [worker] = this.#workers();
    if (!worker) throw new WhittleError('ROLE_LOST', 'no worker is left to send the initial values');
    this.#initialSender = worker;
    const servers = this.#servers.map((server) => server.address);
    const { generation } = this.#options;
    this.#members.send(worker, { sendInitial: { generation, cuts: [...this.#cuts], servers } });
  }

  #modelDescribed(member: Member, json: string): void {
    this.#descriptions.add(member.rank, json);
    this.#check();
    if (!this.#training) return;
    if (!this.#desk.has(member)) this.#desk.add([member], this.#progress.newestClock + 1);
    this.#sendBegin(member);
    this.#progress.say('training');
    this.#evaluations.joined(member.rank);
  }

  reported(member: Member, report: Report__Output): void {
    try {
      this.#report(member, report);
    } catch (reason) {
      this.#fail(member.role, member.rank, WhittleError.from(reason, 'PROTOCOL'));
    }
  }

  #report(member: Member, report: Report__Output): void {
    const stale = (generation: number): boolean => generation !== this.#options.generation;
    if (report.modelDescription) {
      this.#modelDescribed(member, report.modelDescription);
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
    } else if (report.leaving && member.role === 'worker') {
      this.#members.dismiss(member, 'it was told to leave');
      this.#descriptions.drop(member.rank);
      this.#workerGone(member.rank, 'leaves, as it was told to');
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
    this.#updateWhereHeld(step);
  }

  /** Begins a mask update once all servers hold; a scheduler that takes over hears of holds before it is ready. */
  #updateWhereHeld(step: number): void {
    const space = this.#space;
    if (this.#servers.length === 0 || space === null) return;
    if ((this.#holds.get(step)?.size ?? 0) < this.#config.cluster.servers) return;
    this.#holds.delete(step);
    // One after the other: the epoch of the next follows from the one before.
    this.#updating = this.#updating.then(() =>
      this.#committing(step, () =>
        updateMask({
          generation: this.#options.generation,
          step,
          maskEpoch: this.#maskEpoch + 1,
          config: this.#config,
          space,
          servers: this.#servers,
          onDecided: (record) => recordDecided(this.#options.history, record),
          signal: this.#abort.signal,
        }),
      ),
    );
  }

  /** One mask update, again from its start where a server did not answer: a record applied twice is applied once. */
  async #committing(step: number, update: () => Promise<CommittedUpdate>): Promise<void> {
    try {
      const what = `the mask update of step ${step}`;
      const { signal } = this.#abort;
      const record = await retry(update, { deadlineMilliseconds: DEADLINES.hold, what, signal });
      this.#maskEpoch = record.maskEpoch;
      this.#progress.maskCommitted(record);
      this.#stepsCompleted();
    } catch (reason) {
      if (this.#over.isSet) return;
      const error = WhittleError.from(reason);
      // A commit of the scheduler before may arrive after we heard of the holds: what is held now is not known any more.
      if (error.code === 'PROTOCOL' && this.#options.takeover) this.#rollBack(error);
      else this.#suspect('scheduler', 0, error, undefined, step);
    }
  }

  #stepsCompleted(): void {
    const steps = this.#ledger.takeCompleted();
    if (steps.length > 0) this.#lastStepAt = performance.now();
    for (const step of steps) {
      this.#progress.stepCompleted(step, planHasWork(this.#config.sparsity, step.step));
      if (this.#evaluations.isDue(step.step)) this.#evaluations.begin(step.step);
      this.#stragglers.add(step);
    }
    if (steps.some(({ step }) => step % BALANCE_EVERY === 0)) this.#balance();
    if (steps.length > 0) this.#maybeFinish();
  }

  /** Hands a slice of the slowest worker over where that makes steps shorter. */
  #balance(): void {
    const advice = this.#stragglers.advise(this.#desk.assignment);
    if (!advice) return;
    const { from, to, slice } = advice;
    const times = this.#stragglers.timesOf(from);
    this.#options.log.info(
      { step: this.#progress.step, slice, from, to, median: times?.median, p90: times?.p90 },
      `worker[${from}] is slow: slice ${slice} moves to worker[${to}]`,
    );
    this.#stragglers.moved(from, to);
    this.#desk.move(slice, from, to, this.#progress.newestClock + 1);
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
    const isLast = clock >= this.#config.training.steps || (this.#stopClock >= 0 && clock >= this.#stopClock);
    const isNeeded = !last || isLast;
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
    const clock = Math.max(this.#progress.newestClock, ...this.#members.of('server').map((server) => server.clock));
    const proposal = Math.min(steps, clock + CUT_MARGIN * (1 + this.#cutRefusals));
    this.#stopClock = proposal;
    this.#members.broadcast('server', { cutAt: { clock: proposal, stop: proposal < steps } });
  }

  #watch(): void {
    this.#members.checkSilence();
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
    const clocks = this.#members.all().map((m) => `${m.role}[${m.rank}] is at clock ${m.clock}`);
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

  /** The phases could not go on: the run goes back where a member was lost on the way, and fails otherwise. */
  #broken(error: WhittleError): void {
    if (error.code === 'ROLE_LOST') this.#rollBack(error);
    else this.#fail('scheduler', 0, error);
  }

  #rollBack(cause: WhittleError): void {
    if (this.#over.isSet) return;
    this.#options.log.warn({ step: this.#progress.step }, `${cause.rawMessage}; going back to the last checkpoint`);
    this.#over.set({ state: 'ROLLBACK', cause });
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
