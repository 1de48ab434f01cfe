import { hostname } from 'node:os';
import type { SocketBytes__Output } from '../../protos/generated/whittle/SocketBytes.ts';
import type { Manifest } from '../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { learningRateAt } from '../parameter-server/optimizers/learning-rate.ts';
import { targetSparsityAt } from '../../shared/sparsity/rules.ts';
import type {
  LayerResult,
  MemberStatus,
  Recovery,
  RunFailure,
  RunResult,
  RunState,
  RunStatus,
  StepMetrics,
} from '../../shared/telemetry/run-status.ts';
import type { Evaluation } from './evaluation.ts';
import type { Member } from './members.ts';
import type { CommittedUpdate } from './pruning-controller.ts';
import type { StepTimes } from './stragglers.ts';
import type { CompletedStep } from './step-ledger.ts';

/** Steps over which speed and bytes are averaged for display. */
const WINDOW = 50;

export interface ProgressOptions {
  readonly runId: string;
  readonly runDirectory: string;
  readonly config: RunConfig;
  readonly address: string;
  /** Takes step records in order, in batches. */
  readonly onMetrics: (records: readonly StepMetrics[]) => void;
  readonly onChange: () => void;
}

export interface Digests {
  readonly maskDigest: string;
  readonly weightsDigest: string;
  readonly stateDigest: string;
}

/** What is known of a run's progress; makes status, metrics and the result from it. Decides nothing. */
export class RunProgress {
  readonly #options: ProgressOptions;
  #startedAt = new Date();
  #trainingBegan: number | null = null;
  #generation = 0;
  #resumedFrom: number | null = null;
  readonly #recoveries: Recovery[] = [];
  /** The newest recovery until the run has passed the step where it was interrupted. */
  #recovering: { readonly recovery: Recovery; readonly began: number } | null = null;
  #activity = 'starting';
  #step = 0;
  #newestClock = 0;
  #loss: number | null = null;
  #evaluation: Evaluation | null = null;
  #sparsity = 0;
  #maskEpoch = 0;
  #space: ParameterSpace | null = null;
  #lastCheckpoint: Manifest | null = null;
  #slices = new Map<number, readonly number[]>();
  #recent: CompletedStep[] = [];
  /** Completed steps whose mask commit is still to come. */
  #held: { step: CompletedStep; isUpdate: boolean }[] = [];
  /** Mask epochs by the step that began them, oldest first; what recorded steps still need. */
  #epochs: { readonly step: number; readonly epoch: number; readonly sparsity: number }[] = [];
  readonly #sparsityByEpoch = new Map<number, number>();
  #stepsComputed = 0;
  readonly #slicesByWorker = new Map<number, number>();
  readonly #bytes = { pushed: 0, pulled: 0, masks: 0 };
  readonly #socket = new Map<number, number>();

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** A launch or resume begins, from a checkpoint or from initial values. */
  begin(generation: number, restored: Manifest | null): void {
    this.#resumedFrom = restored?.clock ?? null;
    this.#restart(generation, restored);
  }

  /** A rollback begins a new generation. What was counted so far stays: it was computed. */
  rolledBack(generation: number, restored: Manifest | null, cause: string): void {
    this.#recovers(cause, restored?.clock ?? 0);
    this.#restart(generation, restored);
  }

  /** A scheduler takes over: `before` is what the one before it last said, `records` what it wrote down. */
  takenOver(
    generation: number,
    latest: Manifest | null,
    before: RunStatus | null,
    records: readonly StepMetrics[],
  ): void {
    this.#generation = generation;
    this.#lastCheckpoint = latest;
    const last = records.at(-1);
    this.#step = last?.step ?? 0;
    this.#newestClock = this.#step;
    this.#loss = last?.loss ?? null;
    this.#sparsity = last?.sparsity ?? 0;
    this.#maskEpoch = last?.maskEpoch ?? 0;
    this.#sparsityByEpoch.set(this.#maskEpoch, this.#sparsity);
    this.#epochs = [{ step: this.#step, epoch: this.#maskEpoch, sparsity: this.#sparsity }];
    if (before === null) return;
    const { totals, evaluatedAt, testAccuracy, testLoss, startedAt } = before;
    this.#startedAt = new Date(startedAt);
    this.#resumedFrom = totals.resumedFrom;
    this.#recoveries.push(...totals.recoveries);
    this.#stepsComputed = totals.stepsComputed;
    for (const [worker, slices] of Object.entries(totals.slicesByWorker))
      this.#slicesByWorker.set(Number(worker), slices);
    Object.assign(this.#bytes, totals.bytes);
    if (evaluatedAt !== null) this.#evaluation = { clock: evaluatedAt, accuracy: testAccuracy, loss: testLoss ?? NaN };
    // Written down since then.
    for (const record of records)
      if (record.step > before.step && before.generation === generation) this.#count(record);
    this.#recovers('the scheduler was lost', null);
  }

  #restart(generation: number, restored: Manifest | null): void {
    this.#generation = generation;
    this.#step = restored?.clock ?? 0;
    this.#newestClock = this.#step;
    this.#loss = null;
    this.#sparsity = restored?.sparsity ?? 0;
    this.#maskEpoch = restored?.maskEpoch ?? 0;
    this.#sparsityByEpoch.clear();
    this.#sparsityByEpoch.set(this.#maskEpoch, this.#sparsity);
    this.#epochs = [{ step: restored?.clock ?? -1, epoch: this.#maskEpoch, sparsity: this.#sparsity }];
    this.#held = [];
    this.#recent = [];
    this.#slices.clear();
    this.#evaluation = null;
    this.#lastCheckpoint = restored;
    if (restored && restored.testAccuracy !== null)
      this.#evaluation = { clock: restored.clock, accuracy: restored.testAccuracy, loss: NaN };
  }

  #recovers(cause: string, resumedFrom: number | null): void {
    const recovery: Recovery = { cause, step: this.#step, resumedFrom, pauseSeconds: 0 };
    this.#recoveries.push(recovery);
    this.#recovering = { recovery, began: performance.now() };
  }

  get step(): number {
    return this.#step;
  }
  get isTraining(): boolean {
    return this.#trainingBegan !== null;
  }
  /** The highest clock any server is known to have reached. */
  get newestClock(): number {
    return this.#newestClock;
  }
  /** Sparsity under a mask epoch; training may be further when a checkpoint becomes whole. */
  sparsityOf(maskEpoch: number): number {
    return this.#sparsityByEpoch.get(maskEpoch) ?? this.#sparsity;
  }
  /** Clock of the newest evaluation; -1: none. */
  get evaluatedAt(): number {
    return this.#evaluation?.clock ?? -1;
  }
  /** Accuracy of exactly this clock, or null where it was not evaluated (yet). */
  accuracyAt(clock: number): number | null {
    return this.#evaluation?.clock === clock ? this.#evaluation.accuracy : null;
  }

  say(activity: string): void {
    this.#activity = activity;
    this.#options.onChange();
  }

  started(): void {
    this.#trainingBegan = performance.now();
    this.say('training');
  }

  setModel(space: ParameterSpace): void {
    this.#space = space;
  }

  setSlices(slices: ReadonlyMap<number, readonly number[]>): void {
    this.#slices = new Map(slices);
  }

  slicesOf(worker: number): readonly number[] {
    return this.#slices.get(worker) ?? [];
  }

  sawClock(clock: number): void {
    this.#newestClock = Math.max(this.#newestClock, clock);
  }

  setSocketBytes(server: number, bytes: SocketBytes__Output): void {
    this.#socket.set(server, bytes.read + bytes.written);
  }

  /** A step that is also a mask update is recorded once its commit is known, with the sparsity after it. */
  stepCompleted(step: CompletedStep, isUpdate: boolean): void {
    this.sawClock(step.step);
    this.#held.push({ step, isUpdate });
    this.#flush();
  }

  maskCommitted(record: CommittedUpdate): void {
    this.#sparsityByEpoch.set(record.maskEpoch, record.sparsity);
    this.#epochs.push({ step: record.step, epoch: record.maskEpoch, sparsity: record.sparsity });
    // Otherwise it comes into force with its step, so that step, loss, target and sparsity are told of one step.
    if (record.step <= this.#step) this.#inForce(record.maskEpoch, record.sparsity);
    this.#flush();
  }

  evaluated(evaluation: Evaluation): void {
    this.#evaluation = evaluation;
    this.#options.onChange();
  }

  checkpointed(manifest: Manifest): void {
    this.#lastCheckpoint = manifest;
    this.#options.onChange();
  }

  status(
    state: RunState,
    members: readonly Member[],
    failure: RunFailure | null,
    stepTimesOf: (worker: number) => StepTimes | null = () => null,
  ): RunStatus {
    const { config, runId, runDirectory } = this.#options;
    const perStep = this.#secondsPerStep();
    return {
      runId,
      runDirectory,
      state,
      activity: this.#activity,
      generation: this.#generation,
      step: this.#step,
      totalSteps: config.training.steps,
      loss: this.#loss,
      testAccuracy: this.#evaluation?.accuracy ?? null,
      evaluatedAt: this.#evaluation?.clock ?? null,
      testLoss: this.#testLoss(),
      learningRate: learningRateAt(
        config.training.optimizer.learningRate,
        config.training.learningRateSchedule,
        Math.max(1, this.#step),
        config.training.steps,
      ),
      targetSparsity: this.#space ? targetSparsityAt(config.sparsity, this.#space, this.#step) : 0,
      sparsity: this.#sparsity,
      maskEpoch: this.#maskEpoch,
      examplesPerSecond: perStep === null ? 0 : config.data.batchSize / perStep,
      bytesPerStep: this.#bytesPerStep(),
      secondsLeft: perStep === null ? null : (config.training.steps - this.#step) * perStep,
      lastCheckpoint: this.#lastCheckpoint && { step: this.#lastCheckpoint.clock, at: this.#lastCheckpoint.writtenAt },
      members: members.map((member) => this.#memberStatus(member, stepTimesOf)),
      scheduler: { address: this.#options.address, pid: process.pid, host: hostname() },
      startedAt: this.#startedAt.toISOString(),
      updatedAt: new Date().toISOString(),
      failure,
      totals: {
        resumedFrom: this.#resumedFrom,
        stepsComputed: this.#stepsComputed,
        slicesByWorker: this.#workerCounts(),
        bytes: { ...this.#bytes },
        recoveries: [...this.#recoveries],
      },
    };
  }

  #workerCounts(): Record<string, number> {
    return Object.fromEntries([...this.#slicesByWorker].sort(([a], [b]) => a - b));
  }

  result(
    state: RunState,
    layers: readonly LayerResult[],
    digests: Digests | null,
    failure: RunFailure | null,
  ): RunResult {
    const { config, runId, runDirectory } = this.#options;
    const seconds = (Date.now() - this.#startedAt.getTime()) / 1000;
    const trained = this.#trainingBegan === null ? 0 : (performance.now() - this.#trainingBegan) / 1000;
    const socket = [...this.#socket.values()].reduce((a, b) => a + b, 0);
    const { pushed, pulled, masks } = this.#bytes;
    return {
      runId,
      runDirectory,
      state,
      step: this.#step,
      totalSteps: config.training.steps,
      resumedFrom: this.#resumedFrom,
      stepsComputed: this.#stepsComputed,
      slicesByWorker: this.#workerCounts(),
      recoveries: [...this.#recoveries],
      loss: this.#loss,
      testAccuracy: this.#evaluation?.accuracy ?? null,
      evaluatedAt: this.#evaluation?.clock ?? null,
      testLoss: this.#testLoss(),
      sparsity: this.#sparsity,
      maskEpoch: this.#maskEpoch,
      maskDigest: digests?.maskDigest ?? null,
      weightsDigest: digests?.weightsDigest ?? null,
      stateDigest: digests?.stateDigest ?? null,
      wallSeconds: seconds,
      examplesPerSecond: trained > 0 ? (this.#stepsComputed * config.data.batchSize) / trained : 0,
      bytes: { pushed, pulled, masks, control: Math.max(0, socket - pushed - pulled - masks) },
      bytesPerStep: this.#recent.length === 0 ? null : this.#bytesPerStep(),
      checkpoint: this.#lastCheckpoint && new CheckpointStore(runDirectory).folderOf(this.#lastCheckpoint),
      layers,
      failure,
    };
  }

  #flush(): void {
    const records: StepMetrics[] = [];
    for (let held = this.#held[0]; held; held = this.#held[0]) {
      const next = held;
      const inForce = this.#epochs.findLast(({ step }) => step <= next.step.step);
      if (!inForce || (next.isUpdate && inForce.step < next.step.step)) break;
      this.#epochs = this.#epochs.filter(({ step }) => step >= inForce.step);
      this.#held.shift();
      const { step } = next;
      this.#step = step.step;
      this.#inForce(inForce.epoch, inForce.sparsity);
      this.#loss = step.loss;
      this.#bytes.masks += step.bytesMasks;
      this.#recent.push(step);
      if (this.#recent.length > WINDOW) this.#recent.shift();
      const record: StepMetrics = {
        step: step.step,
        loss: step.loss,
        sparsity: inForce.sparsity,
        maskEpoch: inForce.epoch,
        seconds: step.seconds,
        bytesPushed: step.bytesPushed,
        bytesPulled: step.bytesPulled,
        workers: step.sliceWorkers,
      };
      this.#count(record);
      records.push(record);
      this.#passed(step.step);
    }
    if (records.length === 0) return;
    this.#options.onMetrics(records);
    this.#options.onChange();
  }

  #count(record: StepMetrics): void {
    this.#stepsComputed += 1;
    for (const worker of record.workers) this.#slicesByWorker.set(worker, (this.#slicesByWorker.get(worker) ?? 0) + 1);
    this.#bytes.pushed += record.bytesPushed;
    this.#bytes.pulled += record.bytesPulled;
  }

  /** A recovery's pause ends when the run is further than it was. */
  #passed(step: number): void {
    if (!this.#recovering || step <= this.#recovering.recovery.step) return;
    const { recovery, began } = this.#recovering;
    this.#recovering = null;
    this.#recoveries[this.#recoveries.indexOf(recovery)] = {
      ...recovery,
      pauseSeconds: (performance.now() - began) / 1000,
    };
  }

  #inForce(maskEpoch: number, sparsity: number): void {
    this.#maskEpoch = maskEpoch;
    this.#sparsity = sparsity;
  }

  /** A checkpoint keeps the accuracy of its clock, not the loss. */
  #testLoss(): number | null {
    const loss = this.#evaluation?.loss ?? NaN;
    return Number.isFinite(loss) ? loss : null;
  }

  #secondsPerStep(): number | null {
    const timed = this.#recent.filter((step) => step.seconds > 0);
    if (timed.length === 0) return null;
    return timed.reduce((sum, step) => sum + step.seconds, 0) / timed.length;
  }

  #bytesPerStep(): number {
    const last = this.#recent.at(-1);
    return last ? last.bytesPushed + last.bytesPulled : 0;
  }

  #memberStatus(member: Member, stepTimesOf: (worker: number) => StepTimes | null): MemberStatus {
    return {
      role: member.role,
      rank: member.rank,
      address: member.address,
      pid: member.pid,
      host: member.host,
      clock: member.clock,
      secondsSinceHeartbeat: (performance.now() - member.lastHeard) / 1000,
      slices: member.role === 'worker' ? this.slicesOf(member.rank) : [],
      rssBytes: member.rssBytes,
      stepMilliseconds: member.role === 'worker' ? stepTimesOf(member.rank) : null,
    };
  }
}
