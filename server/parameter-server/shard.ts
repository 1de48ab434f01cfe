import { encode } from '../../shared/codec/codec.ts';
import type { ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import type { DyadicNode } from '../../shared/layout/dyadic.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import { countBits } from '../../shared/sparsity/bitmap.ts';
import { latentRanges, needsProbe, storedSet } from '../../shared/sparsity/gradient-set.ts';
import { planHasWork } from '../../shared/sparsity/rules.ts';
import {
  type HistogramQuery,
  LocalSelection,
  type ScoresAnswer,
  type ScoresQuery,
  type Selection,
} from '../../shared/sparsity/selection.ts';
import { Cuts } from './cuts.ts';
import { Lockstep } from './lockstep.ts';
import { createOptimizer } from './optimizers/optimizer.ts';
import { Overlapping } from './overlapping.ts';
import type { Push } from './push.ts';
import { PushedSets } from './pushed-sets.ts';
import type { ShardEvents } from './shard-events.ts';
import type { Stage, Steps } from './steps.ts';
import { StoredValues } from './stored-values.ts';
import { WeightUpdate } from './weight-update.ts';

/** `loading`: no values yet; `collecting`: slices of clock + 1; `norm`, `groups`: waits for the peers' sums; `hold`: waits for a mask commit. */
export type ShardPhase = 'loading' | Stage | 'hold';

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
  readonly start: number;
  readonly end: number;

  #phase: 'loading' | 'running' | 'hold' = 'loading';
  #clock = 0;
  /** Slices of step 0 are collected: gradients of the first batch, for the mask update before it, never applied. */
  #probing = false;
  readonly #values: StoredValues;
  readonly #update: WeightUpdate;
  readonly #sets: PushedSets;
  readonly #steps: Steps;
  readonly #cuts: Cuts;
  /** Kept for the length of a hold, during which nothing that it ranks can change. */
  #ranked: LocalSelection | null = null;

  #publishedEpoch = -1;
  /** Version of the values that are published; -1: none are. */
  #publishedVersion = -1;
  /** Clock of the newest cut: it is taken once, whoever asks. */
  #snapshotAt = -1;

  constructor(options: ShardOptions) {
    const { config, space, start, end, stateSize, events } = options;
    this.#config = config;
    this.#space = space;
    this.#events = events;
    this.start = start;
    this.end = end;
    const optimizer = createOptimizer(config.training.optimizer);
    const values = new StoredValues(optimizer, config.sparsity, end - start, stateSize);
    const update = new WeightUpdate({ ...options, optimizer, values });
    const sets = new PushedSets({ ...options, values });
    this.#values = values;
    this.#update = update;
    this.#sets = sets;
    this.#steps =
      config.consistency.mode === 'bsp'
        ? new Lockstep({ ...options, values, update })
        : new Overlapping({ config, values, sets, update, events });
    this.#cuts = new Cuts(config);
  }

  get clock(): number {
    return this.#clock;
  }
  get maskEpoch(): number {
    return this.#sets.epoch;
  }
  get phase(): ShardPhase {
    return this.#phase === 'running' ? this.#steps.stage : this.#phase;
  }
  /** Clock below which a cut cannot be had any more: with overlapping steps, the latest step of which anything is applied. */
  get newest(): number {
    return Math.max(this.#clock, this.#steps.newest);
  }
  /** The step whose slices are collected next. */
  get #next(): number {
    return this.#probing ? 0 : this.#clock + 1;
  }

  /** Values in a push for `step` made under a mask epoch. Null: the epoch is not known here any more. */
  pushedSize(step = this.#next, maskEpoch = this.maskEpoch): number | null {
    const set = this.#sets.of(step, maskEpoch);
    return set && countBits(set);
  }

  /** Takes dense initial values: clock 0, nothing pruned. A mask update at step 0 holds before anything is published. */
  initialize(weights: Float32Array, state: Float32Array): void {
    if (this.#phase !== 'loading') return;
    expectLength('initial values', weights.length, this.end - this.start);
    expectLength('initial state', state.length, this.#values.state.length);
    this.#values.initialize(weights, state);
    this.#cuts.ask(0);
    this.#update.layoutChanged();
    // Its gradients have to be computed before it, so checkpoint 0 is cut before it as well.
    this.#probing = needsProbe(this.#config.sparsity);
    if (this.#probing) this.#goOn();
    else this.#settle();
  }

  /** Takes a checkpoint's values at its clock and mask epoch. */
  restore(clock: number, maskEpoch: number, snapshot: ShardSnapshot): void {
    if (this.#phase !== 'loading') return;
    this.#clock = clock;
    this.#cuts.startAt(clock);
    this.#sets.startAt(maskEpoch);
    this.#steps.startAt(clock);
    this.#values.restore(snapshot);
    this.#update.layoutChanged();
    this.#probing = clock === 0 && maskEpoch === 0 && needsProbe(this.#config.sparsity);
    this.#run();
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
    const isOpen = push.step === this.#next || (this.#steps.overlap && push.step <= this.#config.training.steps);
    if (!isOpen || this.#phase === 'loading') {
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
    expectLength('gradient', push.gradient.length, size);
    expectLength('state delta', push.stateDelta.length, this.#values.state.length);
    if (this.#steps.has(push)) this.#events.consumed(push);
    else {
      this.#steps.wait(push);
      this.#advance();
    }
    return true;
  }

  /** Another server's part of the gradient norm. Early parts wait; late ones change nothing. */
  peerNorm(step: number, sender: number, nodes: readonly DyadicNode[]): void {
    if (step <= this.#clock) return;
    this.#steps.peers?.norm.add(step, sender, nodes);
    this.#advance();
  }

  /** Another server's part of the norms of weights into output units, as `peerNorm`. */
  peerGroups(step: number, sender: number, nodes: readonly RowNode[]): void {
    if (step <= this.#clock) return;
    this.#steps.peers?.groups.add(step, sender, nodes);
    this.#advance();
  }

  /** Counts of ranked elements by the next bits of their score key; read-only and repeatable while holding. */
  histogram(query: HistogramQuery): number[][] {
    return this.#selection('histogram').histogram(query);
  }

  /** Scores of survivors; read-only and repeatable while holding. */
  scores(query: ScoresQuery): ScoresAnswer {
    return this.#selection('scores').scores(query);
  }

  /** Applies a mask commit record of step `clock`; a record already applied is acknowledged again. Returns survivors. */
  commit(step: number, maskEpoch: number, selections: readonly Selection[]): number {
    if (maskEpoch <= this.maskEpoch) return countBits(this.#values.mask);
    if (this.#phase !== 'hold' || step !== this.#clock || maskEpoch !== this.maskEpoch + 1) {
      throw new WhittleError(
        'PROTOCOL',
        `commit of mask epoch ${maskEpoch} at step ${step} does not follow epoch ${this.maskEpoch} at clock ${this.#clock} (${this.phase})`,
      );
    }
    const selected = this.#selection('commit').selected(selections);
    const latent = latentRanges(this.#config.sparsity, this.#space, this.#clock);
    this.#sets.advance(maskEpoch);
    this.#values.select(selected, storedSet(selected.mask, this.start, this.end, latent));
    this.#update.layoutChanged();
    this.#ranked = null;
    this.#goOn();
    this.#advance();
    return countBits(this.#values.mask);
  }

  /**
   * Plans a cut at a future clock, or takes it now if the shard is exactly there. With `stop` the shard applies
   * nothing beyond it. Returns false, and changes nothing, where the shard is already past.
   */
  cutAt(clock: number, stop: boolean): boolean {
    // With all slices of the next step reduced, the sums of the peers carry the shard past its clock.
    const isPast = this.phase === 'norm' || this.phase === 'groups';
    if (clock < this.newest || (clock === this.#clock && isPast)) return false;
    this.#cuts.propose(clock, stop);
    if (clock > this.#clock || this.phase !== 'collecting') this.#cuts.ask(clock);
    else if (this.#snapshotAt !== clock) this.#snapshot();
    this.#advance();
    return true;
  }

  snapshot(): ShardSnapshot {
    return { start: this.start, end: this.end, ...this.#values.snapshot() };
  }

  #selection(what: string): LocalSelection {
    if (this.#phase !== 'hold') {
      throw new WhittleError('PROTOCOL', `${what} asked for while the shard is ${this.phase}, not holding`);
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
      gradients: this.#steps.reduced,
      space: this.#space,
    });
    return this.#ranked;
  }

  /** Makes what steps can be made, and publishes what came of it. */
  #advance(): void {
    while (this.#phase === 'running' && !this.#cuts.stopsAt(this.#clock)) {
      const cut = this.#cuts.after(this.#clock);
      const made = this.#steps.make(this.#next, cut);
      if (!made) break;
      if (this.#probing) {
        this.#probing = false;
        this.#settle();
        return;
      }
      this.#clock += 1;
      this.#events.stepDone(this.#clock, made.loss, made.workers);
      if (this.#clock === cut) this.#settle();
    }
    if (this.phase === 'collecting' && this.#publishedVersion !== this.#values.version) this.#publish();
  }

  /** At a cut: hold for a mask update where the schedule has one, else go on. */
  #settle(): void {
    if (!planHasWork(this.#config.sparsity, this.#clock)) {
      this.#goOn();
      return;
    }
    this.#phase = 'hold';
    this.#events.hold(this.#clock);
  }

  /** With a checkpoint where one is due. */
  #goOn(): void {
    if (this.#cuts.takeCheckpoint(this.#clock)) this.#snapshot();
    this.#run();
  }

  #run(): void {
    this.#phase = 'running';
    this.#steps.begin(this.#sets.expect(this.#next));
    this.#publish();
  }

  #snapshot(): void {
    this.#snapshotAt = this.#clock;
    this.#events.snapshot(this.#clock, this.maskEpoch, this.snapshot());
  }

  #publish(): void {
    const { maskEpoch } = this;
    const newMask = this.#publishedEpoch === maskEpoch ? null : this.#values.mask.slice();
    this.#publishedEpoch = maskEpoch;
    this.#publishedVersion = this.#values.version;
    const { state } = this.#values;
    const values = encode(this.#config.wire.pull, this.#values.effective());
    const body = new Uint8Array(values.byteLength + state.byteLength);
    body.set(values);
    body.set(new Uint8Array(state.buffer, state.byteOffset, state.byteLength), values.byteLength);
    this.#events.published(this.#clock, maskEpoch, body, newMask);
  }
}

function expectLength(what: string, got: number, want: number): void {
  if (got !== want) throw new WhittleError('PROTOCOL', `${what}: ${got} values where the shard keeps ${want}`);
}
