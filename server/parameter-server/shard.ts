import { encode } from '../../shared/codec/codec.ts';
import type { ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { combineNodes, sumOfSquaresNodes, type DyadicNode } from '../../shared/layout/dyadic.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import { countBits, fullBitmap } from '../../shared/sparsity/bitmap.ts';
import { compact, nextMask } from '../../shared/sparsity/mask-rule.ts';
import { planHasWork } from '../../shared/sparsity/rules.ts';
import { LocalSelection, type HistogramQuery, type Selection } from '../../shared/sparsity/selection.ts';
import { decayAt } from './optimizers/decay-at.ts';
import { GroupLasso } from './optimizers/group-lasso.ts';
import { learningRateAt } from './optimizers/learning-rate.ts';
import { createOptimizer, type Optimizer } from './optimizers/optimizer.ts';
import { AsyncSteps } from './async-steps.ts';
import { GroupShrinkage } from './group-shrinkage.ts';
import type { Push } from './push.ts';
import { decaySegments, type DecaySegment } from './decay-segments.ts';

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
  readonly #servers: number;
  readonly #stateSize: number;
  readonly start: number;
  readonly end: number;

  #phase: ShardPhase = 'loading';
  #clock = 0;
  #maskEpoch = 0;
  #mask: Uint8Array;
  #weights = new Float32Array(0);
  #slots: Float32Array[] = [];
  #state: Float32Array;
  #segments: DecaySegment[] = [];
  #publishedEpoch = -1;
  /** Clock whose weights are published as they are now; -1: not yet. */
  #publishedAt = -1;
  /** ssp, asp: the cut that pushes wait for now. */
  #lastCut = -1;
  #ranked: LocalSelection | null = null;

  /** Where steps overlap: ssp and asp. Null in bsp. */
  readonly #async: AsyncSteps | null;
  /** The newest masks, for late pushes; bsp has none. */
  #masks: { readonly epoch: number; readonly mask: Uint8Array; readonly stored: number }[] = [];

  #sum = new Float32Array(0);
  #stateSum: Float32Array;
  #nextSlice = 0;
  #loss = 0;
  readonly #waiting = new Map<number, Push>();
  #sliceWorkers: number[] = [];
  readonly #norms = new Map<number, Map<number, readonly DyadicNode[]>>();
  /** Null without group lasso. */
  readonly #groups: GroupShrinkage | null;
  readonly #cuts = new Set<number>();
  #stopAt: number | null = null;
  /** Clock of the newest cut: it is taken once, whoever asks. */
  #snapshotAt = -1;

  constructor(options: ShardOptions) {
    this.#config = options.config;
    this.#space = options.space;
    this.#events = options.events;
    this.#servers = options.servers;
    this.#stateSize = options.stateSize;
    this.start = options.start;
    this.end = options.end;
    this.#optimizer = createOptimizer(options.config.training.optimizer);
    const { cluster, consistency } = options.config;
    this.#async = consistency.mode === 'bsp' ? null : new AsyncSteps(cluster.slices);
    const { decay } = options.config.training;
    this.#groups =
      decay.groupLasso === undefined
        ? null
        : new GroupShrinkage(new GroupLasso(options.space, decay.match), options.servers);
    this.#mask = fullBitmap(this.end - this.start);
    this.#state = new Float32Array(this.#stateSize);
    this.#stateSum = new Float32Array(this.#stateSize);
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
  /** Elements kept under a mask epoch: what a push made under it must cover. Null: the epoch is not known here any more. */
  storedSize(maskEpoch = this.#maskEpoch): number | null {
    if (maskEpoch === this.#maskEpoch) return this.#weights.length;
    return this.#masks.find(({ epoch }) => epoch === maskEpoch)?.stored ?? null;
  }

  /** Takes dense initial values: clock 0, nothing pruned. A mask update at step 0 holds before anything is published. */
  initialize(weights: Float32Array, state: Float32Array): void {
    if (this.#phase !== 'loading') return;
    this.#expectLength('initial values', weights.length, this.end - this.start);
    this.#expectLength('initial state', state.length, this.#stateSize);
    this.#weights = weights.slice();
    this.#state = state.slice();
    this.#slots = this.#optimizer.slotNames.map((name) =>
      new Float32Array(weights.length).fill(this.#optimizer.initialSlot(name)),
    );
    this.#layoutChanged();
    this.#settle(true);
  }

  /** Takes a checkpoint's values at its clock and mask epoch. */
  restore(clock: number, maskEpoch: number, snapshot: ShardSnapshot): void {
    if (this.#phase !== 'loading') return;
    this.#clock = clock;
    this.#maskEpoch = maskEpoch;
    this.#mask = snapshot.mask.slice();
    this.#weights = snapshot.weights.slice();
    this.#slots = this.#optimizer.slotNames.map((name) => {
      const slot = snapshot.slots[name];
      if (!slot) {
        throw new WhittleError(
          'CHECKPOINT',
          `the checkpoint holds no optimizer slot "${name}" (it holds ${Object.keys(snapshot.slots).join(', ') || 'none'}): ` +
            `resume with the optimizer kind it was written with`,
        );
      }
      return slot.slice();
    });
    if (this.#stateSize > 0 && snapshot.state) this.#state = snapshot.state.slice();
    this.#async?.startAt(clock);
    this.#layoutChanged();
    this.#phase = 'collecting';
    this.#publish();
  }

  /**
   * Takes one slice. Returns false where its mask epoch is not the shard's: the caller answers NEED_MASK.
   * @throws PROTOCOL for a step in the future, an unknown slice or a wrong length
   */
  push(push: Push): boolean {
    if (push.step <= this.#clock) {
      this.#events.consumed(push);
      return true;
    }
    const overlaps = this.#async !== null && push.step <= this.#config.training.steps;
    if ((push.step !== this.#clock + 1 && !overlaps) || this.#phase === 'loading') {
      throw new WhittleError('PROTOCOL', `push for step ${push.step} while the shard is at clock ${this.#clock}`);
    }
    if (this.storedSize(push.maskEpoch) === null) {
      this.#events.consumed(push);
      return false;
    }
    if (push.slice >= this.#config.cluster.slices) {
      throw new WhittleError('PROTOCOL', `push of slice ${push.slice} of ${this.#config.cluster.slices}`);
    }
    this.#expectLength('gradient', push.gradient.length, this.storedSize(push.maskEpoch) ?? 0);
    this.#expectLength('state delta', push.stateDelta.length, this.#stateSize);
    if (this.#async) {
      if (this.#async.has(push.step, push.slice)) this.#events.consumed(push);
      else {
        this.#async.wait(push);
        this.#applyWaiting();
      }
      return true;
    }
    const repeated = push.slice < this.#nextSlice || this.#waiting.has(push.slice);
    if (repeated || this.#phase !== 'collecting') {
      this.#events.consumed(push);
      return true;
    }
    this.#waiting.set(push.slice, push);
    this.#collect();
    return true;
  }

  /** Another server's part of the gradient norm. Early parts wait; late ones change nothing. */
  peerNorm(step: number, sender: number, nodes: readonly DyadicNode[]): void {
    if (step <= this.#clock) return;
    let parts = this.#norms.get(step);
    if (!parts) this.#norms.set(step, (parts = new Map<number, readonly DyadicNode[]>()));
    parts.set(sender, nodes);
    if (this.#phase === 'norm' && step === this.#clock + 1) this.#tryClip();
  }

  /** Another server's part of the norms of weights into output units, as `peerNorm`. */
  peerGroups(step: number, sender: number, nodes: readonly RowNode[]): void {
    this.#groups?.take(step, sender, nodes, this.#clock);
    if (this.#groups?.finish()) this.#applied();
  }

  /** Counts of survivors by the next bits of their score key; read-only and repeatable while holding. */
  histogram(query: HistogramQuery): number[][] {
    if (this.#phase !== 'hold') {
      throw new WhittleError('PROTOCOL', `histogram asked for while the shard is ${this.#phase}, not holding`);
    }
    return this.#selection().histogram(query);
  }

  /** Applies a mask commit record of step `clock`; a record already applied is acknowledged again. Returns survivors. */
  commit(step: number, maskEpoch: number, selections: readonly Selection[]): number {
    if (maskEpoch <= this.#maskEpoch) return countBits(this.#mask, 0, this.end - this.start);
    if (this.#phase !== 'hold' || step !== this.#clock || maskEpoch !== this.#maskEpoch + 1) {
      throw new WhittleError(
        'PROTOCOL',
        `commit of mask epoch ${maskEpoch} at step ${step} does not follow epoch ${this.#maskEpoch} at clock ${this.#clock} (${this.#phase})`,
      );
    }
    const removed = this.#selection().removed(selections);
    const next = nextMask(this.#mask, removed);
    if (this.#async) {
      const before = { epoch: this.#maskEpoch, mask: this.#mask, stored: this.#weights.length };
      this.#masks = [...this.#masks, before].slice(-KEPT_MASKS);
    }
    this.#weights = compact(this.#weights, this.#mask, next);
    this.#slots = this.#slots.map((slot) => compact(slot, this.#mask, next));
    this.#mask = next;
    this.#maskEpoch = maskEpoch;
    this.#layoutChanged();
    this.#cutAndPublish();
    return this.#weights.length;
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
      stored: this.#mask.slice(),
      mask: this.#mask.slice(),
      weights: this.#weights.slice(),
      slots: Object.fromEntries(this.#optimizer.slotNames.map((name, i) => [name, this.#slots[i]!.slice()])),
      state: this.#stateSize > 0 ? this.#state.slice() : null,
    };
  }

  /** Kept for the length of a hold, during which nothing that it ranks can change. */
  #selection(): LocalSelection {
    this.#ranked ??= new LocalSelection({
      start: this.start,
      end: this.end,
      mask: this.#mask,
      weights: this.#weights,
      space: this.#space,
    });
    return this.#ranked;
  }

  /** Reduces what has arrived, in slice order. While the shard is stopped pushes wait: a later stop still needs them. */
  #collect(): void {
    if (this.#phase !== 'collecting' || this.#stopped()) return;
    for (let next = this.#waiting.get(this.#nextSlice); next; next = this.#waiting.get(this.#nextSlice)) {
      this.#waiting.delete(this.#nextSlice);
      this.#reduce(next);
      this.#nextSlice += 1;
    }
    if (this.#nextSlice === this.#config.cluster.slices) this.#reduced();
  }

  #stopped(): boolean {
    return this.#stopAt !== null && this.#clock >= this.#stopAt;
  }

  /** Adds a slice weighted by its share of the examples, in float32 (the typed array rounds each sum once). */
  #reduce(push: Push): void {
    const share = push.examples / this.#config.data.batchSize;
    const sum = this.#sum;
    const gradient = push.gradient;
    if (this.#nextSlice === 0) for (let i = 0; i < sum.length; i += 1) sum[i] = share * gradient[i]!;
    else for (let i = 0; i < sum.length; i += 1) sum[i] = sum[i]! + share * gradient[i]!;
    for (let i = 0; i < this.#stateSize; i += 1) this.#stateSum[i] = this.#stateSum[i]! + share * push.stateDelta[i]!;
    this.#loss += share * push.loss;
    this.#sliceWorkers.push(push.sender);
    this.#events.consumed(push);
  }

  #reduced(): void {
    if (this.#config.training.clipNorm === null) {
      this.#apply(1);
      return;
    }
    this.#phase = 'norm';
    const nodes = sumOfSquaresNodes(this.start, this.end, this.#space.size, this.#sum, this.#mask);
    this.#events.norm(this.#clock + 1, nodes);
    this.#tryClip();
  }

  /** Waits for the sums of every server, its own among them (delivered like the others'). */
  #tryClip(): void {
    const parts = this.#norms.get(this.#clock + 1);
    if (!parts || parts.size < this.#servers) return;
    const limit = this.#config.training.clipNorm ?? 0;
    const norm = Math.sqrt(combineNodes([...parts.values()].flat(), this.#space.size));
    this.#norms.delete(this.#clock + 1);
    // torch.nn.utils.clip_grad_norm_: limit / (norm + 1e-6), never above 1.
    this.#apply(Math.fround(Math.min(1, limit / (norm + 1e-6))));
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
        if (this.#clock === this.#lastCut) this.#settle(false);
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

  /** A push made under an older mask, cut down to what is still alive. */
  #projected(push: Push): Float32Array {
    if (push.maskEpoch === this.#maskEpoch) return push.gradient;
    const made = this.#masks.find(({ epoch }) => epoch === push.maskEpoch);
    if (!made) throw new WhittleError('INTERNAL', `mask epoch ${push.maskEpoch} is gone`);
    const alive = compact(push.gradient, made.mask, this.#mask);
    this.#events.dropped?.(push, push.gradient.length - alive.length);
    return alive;
  }

  /** The next step at which all shards must stand still together; slices of later ones wait. */
  #nextCut(): number {
    const { checkpoint, training, sparsity } = this.#config;
    for (let step = this.#clock + 1; ; step += 1) {
      const isCut =
        step >= training.steps ||
        step % checkpoint.every === 0 ||
        (training.evaluateEvery > 0 && step % training.evaluateEvery === 0) ||
        this.#cuts.has(step) ||
        step === this.#stopAt ||
        planHasWork(sparsity, step);
      if (isCut) return (this.#lastCut = step);
    }
  }

  #apply(scale: number): void {
    const step = this.#clock + 1;
    if (scale !== 1) for (let i = 0; i < this.#sum.length; i += 1) this.#sum[i] = this.#sum[i]! * scale;
    this.#update(this.#sum, step, 1);
    if (this.#shrinkGroups(step)) return;
    this.#applied();
  }

  /** Group lasso, where it has an effect at `step`: returns true when the step waits for the norms. */
  #shrinkGroups(step: number): boolean {
    const { decay, steps } = this.#config.training;
    const by = this.#learningRate(step) * decayAt(decay, step, steps).groupLasso;
    if (!this.#groups || by === 0) return false;
    this.#phase = 'groups';
    const shard = { start: this.start, end: this.end, weights: this.#weights, stored: this.#mask };
    const nodes = this.#groups.begin(step, shard, by);
    this.#events.groups?.(step, nodes);
    if (this.#groups.finish()) this.#applied();
    return true;
  }

  #applied(): void {
    for (let i = 0; i < this.#stateSize; i += 1) this.#state[i] = this.#state[i]! + this.#stateSum[i]!;
    this.#clock += 1;
    const loss = this.#loss;
    const sliceWorkers = this.#sliceWorkers;
    this.#clearStep();
    this.#events.stepDone(this.#clock, loss, sliceWorkers);
    this.#settle(false);
  }

  #learningRate(step: number): number {
    const { optimizer, learningRateSchedule, steps } = this.#config.training;
    return learningRateAt(optimizer.learningRate, learningRateSchedule, step, steps);
  }

  /** One application of the optimizer, with this share of the step's learning rate. */
  #update(gradients: Float32Array, step: number, share: number): void {
    const learningRate = share * this.#learningRate(step);
    for (const { begin, end, decay } of this.#segments) {
      this.#optimizer.apply({
        weights: this.#weights,
        gradients,
        slots: this.#slots,
        begin,
        end,
        step,
        learningRate,
        decay: decayAt(decay, step, this.#config.training.steps),
      });
    }
  }

  /** After a clock is reached: hold for a mask update where the schedule has one, else cut and publish. */
  #settle(initial: boolean): void {
    if (initial) this.#cuts.add(0);
    if (planHasWork(this.#config.sparsity, this.#clock)) {
      this.#phase = 'hold';
      this.#events.hold(this.#clock);
      return;
    }
    this.#cutAndPublish();
  }

  #cutAndPublish(): void {
    this.#ranked = null;
    this.#phase = 'collecting';
    const { checkpoint, training } = this.#config;
    const planned = this.#clock > 0 && (this.#clock % checkpoint.every === 0 || this.#clock === training.steps);
    if (this.#cuts.delete(this.#clock) || planned) this.#snapshot();
    this.#publish();
    this.#applyWaiting();
  }

  #snapshot(): void {
    this.#snapshotAt = this.#clock;
    this.#events.snapshot(this.#clock, this.#maskEpoch, this.snapshot());
  }

  #publish(): void {
    const newMask = this.#publishedEpoch === this.#maskEpoch ? null : this.#mask.slice();
    this.#publishedEpoch = this.#maskEpoch;
    this.#publishedAt = this.#clock;
    const values = encode(this.#config.wire.pull, this.#weights);
    const body = new Uint8Array(values.byteLength + this.#state.byteLength);
    body.set(values);
    body.set(new Uint8Array(this.#state.buffer, this.#state.byteOffset, this.#state.byteLength), values.byteLength);
    this.#events.published(this.#clock, this.#maskEpoch, body, newMask);
  }

  #clearStep(): void {
    this.#nextSlice = 0;
    this.#loss = 0;
    this.#sliceWorkers = [];
    this.#stateSum.fill(0);
    this.#waiting.clear();
  }

  #layoutChanged(): void {
    this.#sum = new Float32Array(this.#weights.length);
    this.#segments = decaySegments(this.#space, this.#config.training.decay, this.start, this.end, this.#mask);
    this.#clearStep();
  }

  #expectLength(what: string, got: number, want: number): void {
    if (got !== want) throw new WhittleError('PROTOCOL', `${what}: ${got} values where the shard keeps ${want}`);
  }
}
