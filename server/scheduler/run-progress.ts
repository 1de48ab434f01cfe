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
  RunFailure,
  RunResult,
  RunState,
  RunStatus,
  StepMetrics,
} from '../../shared/telemetry/run-status.ts';
import type { Evaluation } from './evaluation.ts';
import type { Member } from './members.ts';
import type { CommittedUpdate } from './pruning-controller.ts';
import type { CompletedStep } from './step-ledger.ts';

/** Steps over which speed and bytes are averaged for display. */
const WINDOW = 50;

export interface ProgressOptions {
  readonly runId: string;
  readonly runDirectory: string;
  readonly generation: number;
  readonly config: RunConfig;
  readonly restored: Manifest | null;
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
  readonly #startedAt = new Date();
  readonly #began = performance.now();
  #trainingBegan: number | null = null;
  #activity = 'starting';
  #step: number;
  #newestClock: number;
  #loss: number | null = null;
  #evaluation: Evaluation | null = null;
  #sparsity: number;
  #maskEpoch: number;
  #space: ParameterSpace | null = null;
  #lastCheckpoint: Manifest | null;
  #slices = new Map<number, readonly number[]>();
  #recent: CompletedStep[] = [];
  /** Completed steps whose mask commit is still to come. */
  #held: { step: CompletedStep; isUpdate: boolean }[] = [];
  /** Mask epochs by the step that began them, oldest first; what recorded steps still need. */
  #epochs: { readonly step: number; readonly epoch: number; readonly sparsity: number }[];
  readonly #sparsityByEpoch = new Map<number, number>();
  #stepsComputed = 0;
  readonly #slicesByWorker = new Map<number, number>();
  readonly #bytes = { pushed: 0, pulled: 0, masks: 0 };
  readonly #socket = new Map<number, number>();

  constructor(options: ProgressOptions) {
    this.#options = options;
    const { restored } = options;
    this.#step = restored?.clock ?? 0;
    this.#newestClock = this.#step;
    this.#sparsity = restored?.sparsity ?? 0;
    this.#maskEpoch = restored?.maskEpoch ?? 0;
    this.#sparsityByEpoch.set(this.#maskEpoch, this.#sparsity);
    this.#epochs = [{ step: restored?.clock ?? -1, epoch: this.#maskEpoch, sparsity: this.#sparsity }];
    this.#lastCheckpoint = restored;
    if (restored && restored.testAccuracy !== null)
      this.#evaluation = { clock: restored.clock, accuracy: restored.testAccuracy, loss: NaN };
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

  status(state: RunState, members: readonly Member[], failure: RunFailure | null): RunStatus {
    const { config, runId, runDirectory, generation } = this.#options;
    const perStep = this.#secondsPerStep();
    return {
      runId,
      runDirectory,
      state,
      activity: this.#activity,
      generation,
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
      members: members.map((member) => this.#memberStatus(member)),
      scheduler: { address: this.#options.address, pid: process.pid, host: hostname() },
      startedAt: this.#startedAt.toISOString(),
      updatedAt: new Date().toISOString(),
      failure,
    };
  }

  result(
    state: RunState,
    layers: readonly LayerResult[],
    digests: Digests | null,
    failure: RunFailure | null,
  ): RunResult {
    const { config, runId, runDirectory, restored } = this.#options;
    const seconds = (performance.now() - this.#began) / 1000;
    const trained = this.#trainingBegan === null ? 0 : (performance.now() - this.#trainingBegan) / 1000;
    const socket = [...this.#socket.values()].reduce((a, b) => a + b, 0);
    const { pushed, pulled, masks } = this.#bytes;
    return {
      runId,
      runDirectory,
      state,
      step: this.#step,
      totalSteps: config.training.steps,
      resumedFrom: restored?.clock ?? null,
      stepsComputed: this.#stepsComputed,
      slicesByWorker: Object.fromEntries([...this.#slicesByWorker].sort(([a], [b]) => a - b)),
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
      this.#stepsComputed += 1;
      for (const worker of step.sliceWorkers)
        this.#slicesByWorker.set(worker, (this.#slicesByWorker.get(worker) ?? 0) + 1);
      this.#bytes.pushed += step.bytesPushed;
      this.#bytes.pulled += step.bytesPulled;
      this.#bytes.masks += step.bytesMasks;
      this.#recent.push(step);
      if (this.#recent.length > WINDOW) this.#recent.shift();
      records.push({
        step: step.step,
        loss: step.loss,
        sparsity: inForce.sparsity,
        maskEpoch: inForce.epoch,
        seconds: step.seconds,
        bytesPushed: step.bytesPushed,
        bytesPulled: step.bytesPulled,
      });
    }
    if (records.length === 0) return;
    this.#options.onMetrics(records);
    this.#options.onChange();
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

  #memberStatus(member: Member): MemberStatus {
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
    };
  }
}
