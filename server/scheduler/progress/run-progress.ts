import { hostname } from 'node:os';
import type { SocketBytes__Output } from '../../../protos/generated/whittle/SocketBytes.ts';
import { deadFraction } from '../../../shared/checkpoint/layer-report.ts';
import type { Manifest } from '../../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import type { RunConfig } from '../../../shared/config/types.ts';
import type { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import type { GuardRecord } from '../../../shared/sparsity/guard.ts';
import { isTargetExact, targetSparsityAt } from '../../../shared/sparsity/rules.ts';
import type {
  LayerResult,
  RunFailure,
  RunResult,
  RunState,
  RunStatus,
  StepMetrics,
} from '../../../shared/telemetry/run-status.ts';
import { scheduleStep } from '../../../shared/interventions/rewind.ts';
import { learningRateAt } from '../../parameter-server/optimizers/learning-rate.ts';
import type { Evaluation } from '../evaluation.ts';
import type { Member } from '../members.ts';
import type { CommittedUpdate } from '../pruning-controller.ts';
import type { CompletedStep } from '../step-ledger.ts';
import type { StepTimes } from '../stragglers.ts';
import { MaskEpochs, type MaskInForce } from './mask-epochs.ts';
import { memberStatus } from './member-status.ts';
import { Speed } from './speed.ts';
import { Totals } from './totals.ts';

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

const NO_MASK: MaskInForce = { epoch: 0, sparsity: 0 };
/** What a guard does where all is well. */
const USUAL: readonly string[] = ['updated', 'idle'];

/** What is known of a run's progress; makes status, metrics and the result from it. Decides nothing. */
export class RunProgress {
  readonly #options: ProgressOptions;
  readonly #totals = new Totals();
  #startedAt = new Date();
  #trainingBegan: number | null = null;
  #generation = 0;
  #activity = 'starting';
  #step = 0;
  #newestClock = 0;
  #loss: number | null = null;
  #evaluation: Evaluation | null = null;
  #mask = NO_MASK;
  #epochs = new MaskEpochs(-1, NO_MASK);
  #speed = new Speed();
  #space: ParameterSpace | null = null;
  #lastCheckpoint: Manifest | null = null;
  #slices = new Map<number, readonly number[]>();
  #guard: GuardRecord | null = null;

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** A launch or resume begins, from a checkpoint or from initial values. */
  begin(generation: number, restored: Manifest | null): void {
    this.#totals.resumedFrom = restored?.clock ?? null;
    this.#restart(generation, restored);
  }

  /** A rollback begins a new generation. What was counted so far stays: it was computed. */
  rolledBack(generation: number, restored: Manifest | null, cause: string): void {
    this.#totals.recovers(cause, this.#step, restored?.clock ?? 0);
    this.#restart(generation, restored);
  }

  /** The model was changed as a whole, and a new generation goes on from there. */
  goesOn(generation: number, restored: Manifest | null): void {
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
    this.#mask = last ? { epoch: last.maskEpoch, sparsity: last.sparsity } : NO_MASK;
    this.#epochs = new MaskEpochs(this.#step, this.#mask);
    if (before === null) return;
    const { totals, evaluatedAt, testAccuracy, testLoss, startedAt } = before;
    this.#startedAt = new Date(startedAt);
    this.#totals.takeOver(totals);
    if (evaluatedAt !== null) this.#evaluation = { clock: evaluatedAt, accuracy: testAccuracy, loss: testLoss ?? NaN };
    // Written down since then.
    for (const record of records)
      if (record.step > before.step && before.generation === generation) this.#totals.count(record);
    this.#totals.recovers('the scheduler was lost', this.#step, null);
  }

  #restart(generation: number, restored: Manifest | null): void {
    this.#generation = generation;
    this.#step = restored?.clock ?? 0;
    this.#newestClock = this.#step;
    this.#loss = null;
    this.#mask = restored ? { epoch: restored.maskEpoch, sparsity: restored.sparsity } : NO_MASK;
    this.#epochs = new MaskEpochs(restored?.clock ?? -1, this.#mask);
    this.#speed = new Speed();
    this.#slices.clear();
    this.#evaluation = null;
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
    return this.#epochs.sparsityOf(maskEpoch) ?? this.#mask.sparsity;
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

  /** @param space of the model that the run began with */
  setModel(space: ParameterSpace): void {
    this.#space = space;
  }

  setSlices(slices: ReadonlyMap<number, readonly number[]>): void {
    this.#slices = new Map(slices);
  }

  sawClock(clock: number): void {
    this.#newestClock = Math.max(this.#newestClock, clock);
  }

  setSocketBytes(server: number, bytes: SocketBytes__Output): void {
    this.#totals.setSocketBytes(server, bytes.read + bytes.written);
  }

  /** A step that is also a mask update is recorded once its commit is known, with the sparsity after it. */
  stepCompleted(step: CompletedStep, isUpdate: boolean): void {
    this.sawClock(step.step);
    this.#epochs.completed(step, isUpdate);
    this.#flush();
  }

  maskCommitted({ step, maskEpoch: epoch, sparsity, guard }: CommittedUpdate): void {
    const isNotable = guard !== undefined && (guard.decisions.length > 0 || !USUAL.includes(guard.action));
    this.#epochs.committed(step, { epoch, sparsity, ...(isNotable ? { guard } : {}) });
    // Otherwise it comes into force with its step, so that step, loss, target and sparsity are told of one step.
    if (step <= this.#step) this.#mask = { epoch, sparsity };
    this.#flush();
  }

  guarded(record: GuardRecord): void {
    this.#guard = record;
    this.#options.onChange();
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
    const { optimizer, learningRateSchedule, steps } = config.training;
    const perStep = this.#speed.secondsPerStep;
    const { resumedFrom, stepsComputed, slicesByWorker, bytes, sockets, recoveries } = this.#totals;
    return {
      runId,
      runDirectory,
      state,
      activity: this.#activity,
      generation: this.#generation,
      step: this.#step,
      totalSteps: steps,
      loss: this.#loss,
      ...this.#evaluationFacts(),
      learningRate: learningRateAt(
        optimizer.learningRate,
        learningRateSchedule,
        scheduleStep(config.rewind, Math.max(1, this.#step)),
        steps,
      ),
      targetSparsity: this.#space ? targetSparsityAt(config.sparsity, this.#space, this.#step) : 0,
      ...(this.#space && !isTargetExact(config.sparsity, this.#space) ? { isTargetEstimated: true } : {}),
      sparsity: this.#mask.sparsity,
      maskEpoch: this.#mask.epoch,
      examplesPerSecond: perStep === null ? 0 : config.data.batchSize / perStep,
      bytesPerStep: this.#speed.bytesPerStep ?? 0,
      secondsLeft: perStep === null ? null : (steps - this.#step) * perStep,
      lastCheckpoint: this.#lastCheckpoint && { step: this.#lastCheckpoint.clock, at: this.#lastCheckpoint.writtenAt },
      members: members.map((member) =>
        memberStatus(member, { slices: this.#slices.get(member.rank) ?? [], stepTimes: stepTimesOf(member.rank) }),
      ),
      scheduler: { address: this.#options.address, pid: process.pid, host: hostname() },
      startedAt: this.#startedAt.toISOString(),
      updatedAt: new Date().toISOString(),
      failure,
      ...(this.#guard ? { guard: this.#guard } : {}),
      totals: { resumedFrom, stepsComputed, slicesByWorker, bytes, sockets, recoveries },
    };
  }

  result(
    state: RunState,
    layers: readonly LayerResult[],
    digests: Digests | null,
    failure: RunFailure | null,
  ): RunResult {
    const { config, runId, runDirectory } = this.#options;
    const trained = this.#trainingBegan === null ? 0 : (performance.now() - this.#trainingBegan) / 1000;
    const { resumedFrom, stepsComputed, slicesByWorker, recoveries, bytes, control } = this.#totals;
    return {
      runId,
      runDirectory,
      state,
      step: this.#step,
      totalSteps: config.training.steps,
      resumedFrom,
      stepsComputed,
      slicesByWorker,
      recoveries,
      loss: this.#loss,
      ...this.#evaluationFacts(),
      sparsity: this.#mask.sparsity,
      parameterSparsity: layers.length === 0 ? null : deadFraction(layers),
      maskEpoch: this.#mask.epoch,
      maskDigest: digests?.maskDigest ?? null,
      weightsDigest: digests?.weightsDigest ?? null,
      stateDigest: digests?.stateDigest ?? null,
      wallSeconds: (Date.now() - this.#startedAt.getTime()) / 1000,
      examplesPerSecond: trained > 0 ? (stepsComputed * config.data.batchSize) / trained : 0,
      bytes: { ...bytes, control },
      bytesPerStep: this.#speed.bytesPerStep,
      checkpoint: this.#lastCheckpoint && new CheckpointStore(runDirectory).folderOf(this.#lastCheckpoint),
      layers,
      failure,
      ...(this.#guard ? { guard: this.#guard } : {}),
    };
  }

  #flush(): void {
    const records: StepMetrics[] = [];
    for (let next = this.#epochs.take(); next; next = this.#epochs.take()) {
      const { step, mask } = next;
      this.#step = step.step;
      this.#mask = mask;
      this.#loss = step.loss;
      this.#speed.add(step);
      const record: StepMetrics = {
        step: step.step,
        loss: step.loss,
        sparsity: mask.sparsity,
        maskEpoch: mask.epoch,
        seconds: step.seconds,
        bytesPushed: step.bytesPushed,
        bytesPulled: step.bytesPulled,
        workers: step.sliceWorkers,
        ...(mask.guard ? { guard: mask.guard } : {}),
      };
      this.#totals.count(record);
      this.#totals.countMasks(step.bytesMasks);
      this.#totals.passed(step.step);
      records.push(record);
    }
    if (records.length === 0) return;
    this.#options.onMetrics(records);
    this.#options.onChange();
  }

  /** A checkpoint keeps the accuracy of its clock, not the loss. */
  #evaluationFacts(): { testAccuracy: number | null; evaluatedAt: number | null; testLoss: number | null } {
    const { accuracy = null, clock = null, loss = NaN } = this.#evaluation ?? {};
    return { testAccuracy: accuracy, evaluatedAt: clock, testLoss: Number.isFinite(loss) ? loss : null };
  }
}
