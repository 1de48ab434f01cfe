import { encode } from '../../shared/codec/codec.ts';
import type { ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { type DyadicNode, sumOfSquaresNodes } from '../../shared/layout/dyadic.ts';
import { interventionCuts, interventionsOf } from '../../shared/interventions/calendar.ts';
import { optimizerStep, scheduleStep } from '../../shared/interventions/rewind.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { countBits, fullBitmap } from '../../shared/sparsity/bitmap.ts';
import { latentRanges, needsProbe, pushedSet, storedSet } from '../../shared/sparsity/gradient-set.ts';
import { compact, repack } from '../../shared/sparsity/mask-rule.ts';
import { isMaskStep, isRestorePoint } from '../../shared/sparsity/mask-steps.ts';
import {
  type HistogramQuery,
  LocalSelection,
  type ScoresAnswer,
  type ScoresQuery,
  type Selection,
} from '../../shared/sparsity/selection.ts';
import { AsyncSteps } from './async-steps.ts';
import { decaySegments, type DecaySegment } from './decay-segments.ts';
import { clipFactor, GradientNorm } from './gradient-norm.ts';
import { learningRateAt } from './optimizers/learning-rate.ts';
import { createOptimizer, type Optimizer } from './optimizers/optimizer.ts';
import { decayAt } from './optimizers/decay-at.ts';
import { coveredBits, decayLatent } from './optimizers/latent-decay.ts';
import { GroupLasso } from './optimizers/group-lasso.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import { GroupShrinkage } from './group-shrinkage.ts';
import type { Push } from './push.ts';
import { SliceReduction } from './slice-reduction.ts';
import { StoredValues } from './stored-values.ts';

/** Masks kept for late pushes; older ones are answered NEED_MASK. */
const KEPT_MASKS = 8;

/** What happened, for the world outside: the shard itself sends nothing. */
export interface ShardEvents {
  /** Clock reached: `weights` is the encoded answer, `mask` the shard's bitmap when its epoch is new. */
  published(clock: number, maskEpoch: number, weights: Uint8Array, mask: Uint8Array | null): void;
  /** Applied `step`, waits for the mask commit. */
  hold(step: number): void;
  /** This server's part of the gradient norm of `step`. */
  norm(step: number, nodes: readonly DyadicNode[]): void;
  /** This server's part of the norms of weights into output units after the optimizer's step `step`. */
  groups?(step: number, nodes: readonly RowNode[]): void;
  /** A copy of the shard at a cut, to be written in the background. */
  snapshot(clock: number, maskEpoch: number, snapshot: ShardSnapshot): void;
  /** A push is reduced (or was a repeat): its bytes no longer wait. */
  consumed(push: Push): void;
  /** So many values of a late push were for elements that have died since; they had no effect (ssp, asp). */
  dropped?(push: Push, values: number): void;
  stepDone(step: number, loss: number, sliceWorkers: readonly number[]): void;
}

/** `loading`: no values yet; `collecting`: slices of clock + 1; `norm`, `groups`: waits for the peers' sums; `hold`: waits for a mask commit. */
export type ShardPhase = 'loading' | 'collecting' | 'norm' | 'groups' | 'hold';

export interface ShardOptions {
  readonly config: RunConfig;
  readonly space: ParameterSpace;
  readonly start: number;
  readonly end: number;
  readonly servers: number;
  /** Floats of non-trainable state held here; 0 on all servers but the first. */
  readonly stateSize: number;
  readonly events: ShardEvents;
}

/**
 * The state machine of one shard: pushes, norms, commits and cuts in; events out. Synchronous and free of
 * clocks and input/output, so that tests can drive every order of events.
 *
 * Exactly once: a slice counts when it is the first complete copy of (step, slice); anything at or below
 * the clock, or seen already, changes nothing.
 */
export class Shard {
  readonly #config: RunConfig;
  readonly #space: ParameterSpace;
  readonly #events: ShardEvents;
  readonly #optimizer: Optimizer;
  readonly #stateSize: number;
  readonly start: number;
  readonly end: number;

  #phase: ShardPhase = 'loading';
  #clock = 0;
  #maskEpoch = 0;
  readonly #values: StoredValues;
  #state: Float32Array;
  #segments: DecaySegment[] = [];
  /** What latent decay covers; made where it is first needed. */
  #covered: Uint8Array | null = null;
  #publishedEpoch = -1;
  /** Clock whose weights are published as they are now; -1: not yet. */
  #publishedAt = -1;
  #ranked: LocalSelection | null = null;

  readonly #reduction: SliceReduction;
  /** What the step that is collected covers, and what the newest reduced gradient is packed over. */
  #pushed: Uint8Array;
  /** Slices of step 0 are collected: gradients of the first batch, for the mask update before it, never applied. */
  #probing = false;
  readonly #norm: GradientNorm;

  /** Where steps overlap: ssp and asp. Null in bsp. */
  readonly #async: AsyncSteps | null;
  /** The newest masks, for late pushes; bsp has none. */
  #masks: { readonly epoch: number; readonly mask: Uint8Array }[] = [];
  /** ssp, asp: the cut that pushes wait for now. */
  #lastCut = -1;

  /** Null without group lasso. */
  readonly #groups: GroupShrinkage | null;
  readonly #cuts = new Set<number>();
  /** Clocks that are cut for interventions, and those beyond which this generation does not go. */
  readonly #plannedCuts: ReadonlySet<number>;
  readonly #ends: readonly number[];
  #startedAt = -1;
  #stopAt: number | null = null;
  /** Clock of the newest cut: it is taken once, whoever asks. */
  #snapshotAt = -1;

  constructor(options: ShardOptions) {
    const { config, space, start, end, stateSize } = options;
    const { cluster, consistency, data, training } = config;
    this.#config = config;
    this.#space = space;
    this.#events = options.events;
    this.#stateSize = stateSize;
    this.start = start;
    this.end = end;
    this.#optimizer = createOptimizer(training.optimizer);
    this.#async = consistency.mode === 'bsp' ? null : new AsyncSteps(cluster.slices);
    this.#values = new StoredValues(this.#optimizer, config.sparsity, end - start);
    this.#pushed = this.#values.mask;
    this.#state = new Float32Array(stateSize);
    this.#reduction = new SliceReduction(cluster.slices, data.batchSize, stateSize);
    const { decay } = training;
    this.#groups =
      decay.groupLasso === undefined ? null : new GroupShrinkage(new GroupLasso(space, decay.match), options.servers);
    this.#plannedCuts = interventionCuts(config);
    this.#ends = interventionsOf(config).map(({ step }) => step);
    this.#norm = new GradientNorm(options.servers, space.size);
  }

  get clock(): number {
    return this.#clock;
  }
  get maskEpoch(): number {
    return this.#maskEpoch;
  }
  get phase(): ShardPhase {
    return this.#phase;
  }
  /** Clock below which a cut cannot be had any more: with overlapping steps, the latest step of which anything is applied. */
  get newest(): number {
    return Math.max(this.#clock, this.#async?.newest ?? 0);
  }
  /** The step whose slices are collected next. */
  get #next(): number {
    return this.#probing ? 0 : this.#clock + 1;
  }

  /** Values in a push for `step` made under a mask epoch. Null: the epoch is not known here any more. */
  pushedSize(step = this.#next, maskEpoch = this.#maskEpoch): number | null {
    const set = this.#pushedSet(step, maskEpoch);
    return set && countBits(set);
  }

  /** Takes dense initial values: clock 0, nothing pruned. A mask update at step 0 holds before anything is published. */
  initialize(weights: Float32Array, state: Float32Array): void {
    if (this.#phase !== 'loading') return;
    this.#expectLength('initial values', weights.length, this.end - this.start);
    this.#expectLength('initial state', state.length, this.#stateSize);
    this.#values.initialize(weights);
    this.#state = state.slice();
    this.#cuts.add(0);
    this.#layoutChanged();
    // Its gradients have to be computed before it, so checkpoint 0 is cut before it as well.
    this.#probing = needsProbe(this.#config.sparsity);
    if (this.#probing) this.#cutAndPublish();
    else this.#settle();
  }

  /** Takes a checkpoint's values at its clock and mask epoch. */
  restore(clock: number, maskEpoch: number, snapshot: ShardSnapshot): void {
    if (this.#phase !== 'loading') return;
    this.#clock = clock;
    this.#startedAt = clock;
    this.#maskEpoch = maskEpoch;
    this.#values.restore(snapshot);
    if (this.#stateSize > 0 && snapshot.state) this.#state = snapshot.state.slice();
    this.#async?.startAt(clock);
    this.#layoutChanged();
    this.#probing = clock === 0 && maskEpoch === 0 && needsProbe(this.#config.sparsity);
    this.#phase = 'collecting';
    this.#expectNext();
    this.#publish();
  }

  /**
   * Takes one slice. Returns false where its mask epoch is not the shard's: the caller answers NEED_MASK.
   * @throws PROTOCOL for a step in the future, an unknown slice or a wrong length
   */
  push(push: Push): boolean {
    if (push.step < this.#next) {
      this.#events.consumed(push);
      return true;
    }
    const overlaps = this.#async !== null && push.step <= this.#config.training.steps;
    if ((push.step !== this.#next && !overlaps) || this.#phase === 'loading') {
      throw new WhittleError('PROTOCOL', `push for step ${push.step} while the shard is at clock ${this.#clock}`);
    }
    const size = this.pushedSize(push.step, push.maskEpoch);
    if (size === null) {
      this.#events.consumed(push);
      return false;
    }
    if (push.slice >= this.#config.cluster.slices) {
      throw new WhittleError('PROTOCOL', `push of slice ${push.slice} of ${this.#config.cluster.slices}`);
    }
    this.#expectLength('gradient', push.gradient.length, size);
    this.#expectLength('state delta', push.stateDelta.length, this.#stateSize);
    if (this.#async) {
      if (this.#async.has(push.step, push.slice)) this.#events.consumed(push);
      else {
        this.#async.wait(push);
        this.#applyWaiting();
      }
      return true;
    }
    if (this.#reduction.has(push.slice) || this.#phase !== 'collecting') {
      this.#events.consumed(push);
      return true;
    }
    this.#reduction.wait(push);
    this.#collect();
    return true;
  }

  /** Another server's part of the gradient norm. Early parts wait; late ones change nothing. */
  peerNorm(step: number, sender: number, nodes: readonly DyadicNode[]): void {
    if (step <= this.#clock) return;
    this.#norm.add(step, sender, nodes);
    if (this.#phase === 'norm' && step === this.#clock + 1) this.#tryClip();
  }

  /** Another server's part of the norms of weights into output units, as `peerNorm`. */
  peerGroups(step: number, sender: number, nodes: readonly RowNode[]): void {
    this.#groups?.take(step, sender, nodes, this.#clock);
    if (this.#groups?.finish()) this.#applied();
  }

  /** Counts of ranked elements by the next bits of their score key; read-only and repeatable while holding. */
  histogram(query: HistogramQuery): number[][] {
    return this.#selection('histogram').histogram(query);
  }

  /** Scores of survivors; read-only and repeatable while holding. */
  scores(query: ScoresQuery): ScoresAnswer {
    const selection = this.#selection('scores');
    if (query.ofState !== true) return selection.scores(query);
    const [start, end] = query.range;
    this.#expectLength('state asked for', end, Math.min(end, this.#stateSize));
    return { alive: fullBitmap(end - start), scores: this.#state.slice(start, end) };
  }

  /**
   * Applies a mask commit record of step `clock`; a record already applied is acknowledged again. Returns survivors.
   * `saved`: what an earlier checkpoint holds of the shard, which comes back.
   */
  commit(
    step: number,
    maskEpoch: number,
    selections: readonly Selection[],
    saved: ShardSnapshot | null = null,
  ): number {
    if (maskEpoch <= this.#maskEpoch) return countBits(this.#values.mask);
    if (this.#phase !== 'hold' || step !== this.#clock || maskEpoch !== this.#maskEpoch + 1) {
      throw new WhittleError(
        'PROTOCOL',
        `commit of mask epoch ${maskEpoch} at step ${step} does not follow epoch ${this.#maskEpoch} at clock ${this.#clock} (${this.#phase})`,
      );
    }
    if (saved) this.#takeBack(saved);
    const selected = saved ? this.#values.asSelected() : this.#selection('commit').selected(selections);
    if (this.#async)
      this.#masks = [...this.#masks, { epoch: this.#maskEpoch, mask: this.#values.mask }].slice(-KEPT_MASKS);
    const latent = latentRanges(this.#config.sparsity, this.#space, this.#clock);
    this.#values.select(selected, storedSet(selected.mask, this.start, this.end, latent));
    this.#maskEpoch = maskEpoch;
    this.#layoutChanged();
    this.#cutAndPublish();
    return countBits(this.#values.mask);
  }

  /**
   * Plans a cut at a future clock, or takes it now if the shard is exactly there. With `stop` the shard applies
   * nothing beyond it. Returns false, and changes nothing, where the shard is already past.
   */
  cutAt(clock: number, stop: boolean): boolean {
    // With all slices of the next step reduced, the norms of the peers carry the shard past its clock.
    if (clock < this.newest || (clock === this.#clock && (this.#phase === 'norm' || this.#phase === 'groups')))
      return false;
    if (this.#stopAt !== null && clock > this.#stopAt) this.#stopAt = null;
    if (stop) this.#stopAt = clock;
    if (clock > this.#clock || this.#phase !== 'collecting') this.#cuts.add(clock);
    else if (this.#snapshotAt !== clock) this.#snapshot();
    this.#collect();
    this.#applyWaiting();
    return true;
  }

  snapshot(): ShardSnapshot {
    return {
      start: this.start,
      end: this.end,
      ...this.#values.snapshot(),
      state: this.#stateSize > 0 ? this.#state.slice() : null,
    };
  }

  /** Weights, slots, mask and non-trainable state as they were; the clock and what goes by it stay. */
  #takeBack(saved: ShardSnapshot): void {
    this.#values.restore(saved);
    if (this.#stateSize > 0 && saved.state) this.#state = saved.state.slice();
  }

  /** Kept for the length of a hold, during which nothing that it ranks can change. */
  #selection(what: string): LocalSelection {
    if (this.#phase !== 'hold') {
      throw new WhittleError('PROTOCOL', `${what} asked for while the shard is ${this.#phase}, not holding`);
    }
    const { mask, stored, weights, statistics, secondMoment } = this.#values;
    this.#ranked ??= new LocalSelection({
      start: this.start,
      end: this.end,
      mask,
      stored,
      weights,
      statistics,
      secondMoment,
      gradients: this.#reduction.isComplete ? { set: this.#pushed, values: this.#reduction.gradient } : null,
      space: this.#space,
    });
    return this.#ranked;
  }

  /** Reduces what has arrived, in slice order. While the shard is stopped pushes wait: a later stop still needs them. */
  #collect(): void {
    if (this.#phase !== 'collecting' || this.#stopped() || this.#async) return;
    this.#reduction.reduce((push) => this.#events.consumed(push));
    if (this.#reduction.isComplete) this.#reduced();
  }

  #stopped(): boolean {
    if (this.#stopAt !== null && this.#clock >= this.#stopAt) return true;
    return this.#clock > this.#startedAt && this.#ends.includes(this.#clock);
  }

  #reduced(): void {
    if (this.#probing) {
      this.#probing = false;
      this.#hold();
      return;
    }
    if (this.#config.training.clipNorm === null) {
      this.#apply(1);
      return;
    }
    this.#phase = 'norm';
    const { stored } = this.#values;
    const nodes = sumOfSquaresNodes(this.start, this.end, this.#space.size, this.#storedGradient(), stored);
    this.#events.norm(this.#clock + 1, nodes);
    this.#tryClip();
  }

  /** The reduced gradient of what is stored; gradients of other elements serve scores only. */
  #storedGradient(): Float32Array {
    const { gradient } = this.#reduction;
    const { stored } = this.#values;
    return this.#pushed === stored ? gradient : compact(gradient, this.#pushed, stored);
  }

  /** Waits for the sums of every server, its own among them (delivered like the others'). */
  #tryClip(): void {
    const norm = this.#norm.take(this.#clock + 1);
    if (norm !== null) this.#apply(clipFactor(norm, this.#config.training.clipNorm ?? 0));
  }

  #apply(scale: number): void {
    const step = this.#clock + 1;
    const gradient = this.#storedGradient();
    if (scale !== 1) for (let i = 0; i < gradient.length; i += 1) gradient[i] = gradient[i]! * scale;
    this.#update(gradient, step, 1);
    if (!this.#shrinkGroups(step)) this.#applied();
  }

  /** Group lasso, where it has an effect at `step`: returns true when the step waits for the norms. */
  #shrinkGroups(step: number): boolean {
    const { decay, steps } = this.#config.training;
    const at = scheduleStep(this.#config.rewind, step);
    const by = this.#learningRate(step) * decayAt(decay, at, steps).groupLasso;
    if (!this.#groups || by === 0) return false;
    this.#phase = 'groups';
    const { weights, stored } = this.#values;
    const nodes = this.#groups.begin(step, { start: this.start, end: this.end, weights, stored }, by);
    this.#events.groups?.(step, nodes);
    if (this.#groups.finish()) this.#applied();
    return true;
  }

  #applied(): void {
    const { stateDelta, loss, senders } = this.#reduction;
    for (let i = 0; i < this.#stateSize; i += 1) this.#state[i] = this.#state[i]! + stateDelta[i]!;
    this.#clock += 1;
    this.#events.stepDone(this.#clock, loss, senders);
    this.#settle();
  }

  /** ssp and asp: every slice is an application of its own, with its share of the learning rate; cuts hold later steps back. */
  #applyWaiting(): void {
    const steps = this.#async;
    if (!steps) return;
    while (this.#phase === 'collecting' && !this.#stopped()) {
      const ready = steps.takeWaiting(this.#nextCut());
      if (ready.length === 0) return;
      for (const push of ready) this.#applySlice(push, steps);
      for (let done = steps.takeComplete(this.#clock + 1); done; done = steps.takeComplete(this.#clock + 1)) {
        this.#clock += 1;
        this.#events.stepDone(this.#clock, done.loss, done.workers);
        if (this.#clock === this.#lastCut) this.#settle();
        if (this.#phase !== 'collecting') return;
      }
      if (this.#publishedAt !== this.#clock) this.#publish();
    }
  }

  #applySlice(push: Push, steps: AsyncSteps): void {
    const share = push.examples / this.#config.data.batchSize;
    this.#update(this.#projected(push), push.step, share);
    for (let i = 0; i < this.#stateSize; i += 1) this.#state[i] = this.#state[i]! + share * push.stateDelta[i]!;
    steps.applied(push, share);
    this.#publishedAt = -1;
    this.#events.consumed(push);
  }

  /** A push made under an older mask, cut down to what is still stored; what was grown since has no part in it. */
  #projected(push: Push): Float32Array {
    const made = this.#pushedSet(push.step, push.maskEpoch);
    if (!made) throw new WhittleError('INTERNAL', `mask epoch ${push.maskEpoch} is gone`);
    const { stored } = this.#values;
    if (made === stored) return push.gradient;
    const kept = repack(push.gradient, made, stored);
    const dropped = made.reduce((sum, byte, i) => sum + countBits(Uint8Array.of(byte & ~stored[i]!)), 0);
    if (push.maskEpoch !== this.#maskEpoch) this.#events.dropped?.(push, dropped);
    return kept;
  }

  #pushedSet(step: number, maskEpoch: number): Uint8Array | null {
    const { mask, stored } = this.#values;
    const made = maskEpoch === this.#maskEpoch ? mask : this.#masks.find(({ epoch }) => epoch === maskEpoch)?.mask;
    if (!made) return null;
    if (made === mask && step === this.#next && this.#phase === 'collecting') return this.#pushed;
    const set = pushedSet(made, this.start, this.end, this.#config.sparsity, this.#space, step);
    return set === mask ? mask : set === stored ? stored : set;
  }

  /** The next step at which all shards must stand still together; slices of later ones wait. */
  #nextCut(): number {
    const { training } = this.#config;
    for (let step = this.#clock + 1; ; step += 1) {
      const isCut =
        step >= training.steps ||
        this.#isPlannedCut(step) ||
        (training.evaluateEvery > 0 && step % training.evaluateEvery === 0) ||
        this.#cuts.has(step) ||
        step === this.#stopAt ||
        isMaskStep(this.#config, step);
      if (isCut) return (this.#lastCut = step);
    }
  }

  #learningRate(step: number): number {
    const { optimizer, learningRateSchedule, steps } = this.#config.training;
    const at = scheduleStep(this.#config.rewind, step);
    return learningRateAt(optimizer.learningRate, learningRateSchedule, at, steps);
  }

  /** One application of the optimizer, with this share of the step's learning rate. */
  #update(gradients: Float32Array, step: number, share: number): void {
    const { rewind, training } = this.#config;
    const learningRate = share * this.#learningRate(step);
    const at = scheduleStep(rewind, step);
    const counted = optimizerStep(rewind, step);
    const { weights, slots } = this.#values;
    this.#values.observe(gradients);
    for (const segment of this.#segments) {
      const { begin, end } = segment;
      const decay = decayAt(segment.decay, at, training.steps);
      this.#optimizer.apply({ weights, gradients, slots, begin, end, step: counted, learningRate, share, decay });
    }
    const { mask, stored } = this.#values;
    if (stored === mask || training.decay.latent === undefined) return;
    this.#covered ??= coveredBits(this.#space, training.decay.match, this.start, this.end);
    decayLatent(
      weights,
      stored,
      mask,
      this.#covered,
      learningRate * decayAt(training.decay, at, training.steps).latent,
    );
  }

  /** After a clock is reached: hold for a mask update where the schedule has one, else cut and publish. */
  #settle(): void {
    if (isMaskStep(this.#config, this.#clock)) this.#hold();
    else this.#cutAndPublish();
  }

  #hold(): void {
    this.#phase = 'hold';
    this.#events.hold(this.#clock);
  }

  #cutAndPublish(): void {
    this.#ranked = null;
    this.#phase = 'collecting';
    this.#expectNext();
    if (this.#cuts.delete(this.#clock) || this.#isPlannedCut(this.#clock)) this.#snapshot();
    this.#publish();
    this.#applyWaiting();
  }

  #isPlannedCut(clock: number): boolean {
    const { checkpoint, training } = this.#config;
    if (clock === 0) return false;
    if (isRestorePoint(this.#config, clock)) return true;
    return clock % checkpoint.every === 0 || clock === training.steps || this.#plannedCuts.has(clock);
  }

  #snapshot(): void {
    this.#snapshotAt = this.#clock;
    this.#events.snapshot(this.#clock, this.#maskEpoch, this.snapshot());
  }

  #publish(): void {
    const newMask = this.#publishedEpoch === this.#maskEpoch ? null : this.#values.mask.slice();
    this.#publishedEpoch = this.#maskEpoch;
    this.#publishedAt = this.#clock;
    const values = encode(this.#config.wire.pull, this.#values.effective());
    const body = new Uint8Array(values.byteLength + this.#state.byteLength);
    body.set(values);
    body.set(new Uint8Array(this.#state.buffer, this.#state.byteOffset, this.#state.byteLength), values.byteLength);
    this.#events.published(this.#clock, this.#maskEpoch, body, newMask);
  }

  /** Begins to collect the step that follows the clock. */
  #expectNext(): void {
    const { mask, stored } = this.#values;
    const set = pushedSet(mask, this.start, this.end, this.#config.sparsity, this.#space, this.#next);
    // Equal sets become one array, so that nothing is copied where nothing is latent.
    this.#pushed = set === mask ? mask : sameBits(set, stored) ? stored : set;
    this.#reduction.begin(countBits(this.#pushed));
  }

  #layoutChanged(): void {
    const { stored } = this.#values;
    this.#segments = decaySegments(this.#space, this.#config.training.decay, this.start, this.end, stored);
  }

  #expectLength(what: string, got: number, want: number): void {
    if (got !== want) throw new WhittleError('PROTOCOL', `${what}: ${got} values where the shard keeps ${want}`);
  }
}

function sameBits(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || (a.length === b.length && a.every((byte, i) => byte === b[i]));
}
