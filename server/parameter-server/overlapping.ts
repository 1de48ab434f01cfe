import type { RunConfig } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { countBits } from '../../shared/sparsity/bitmap.ts';
import { repack } from '../../shared/sparsity/mask-rule.ts';
import { AsyncSteps } from './async-steps.ts';
import type { Push } from './push.ts';
import type { PushedSets } from './pushed-sets.ts';
import type { ShardEvents } from './shard-events.ts';
import type { MadeStep, Steps } from './steps.ts';
import type { StoredValues } from './stored-values.ts';
import type { WeightUpdate } from './weight-update.ts';

export interface OverlappingOptions {
  readonly config: RunConfig;
  readonly values: StoredValues;
  readonly sets: PushedSets;
  readonly update: WeightUpdate;
  readonly events: ShardEvents;
}

/**
 * ssp and asp: every slice is an application of its own, with its share of the learning rate, whatever step it is of;
 * cuts hold later steps back. Sums over the whole model have no meaning here.
 */
export class Overlapping implements Steps {
  readonly overlap = true;
  readonly stage = 'collecting';
  readonly peers = null;
  readonly reduced = null;
  readonly #options: OverlappingOptions;
  readonly #steps: AsyncSteps;

  constructor(options: OverlappingOptions) {
    this.#options = options;
    this.#steps = new AsyncSteps(options.config.cluster.slices);
  }

  get newest(): number {
    return this.#steps.newest;
  }

  startAt(clock: number): void {
    this.#steps.startAt(clock);
  }

  begin(): void {
    // Slices of any step may be there already.
  }

  has({ step, slice }: Push): boolean {
    return this.#steps.has(step, slice);
  }

  wait(push: Push): void {
    this.#steps.wait(push);
  }

  make(step: number, cut: number): MadeStep | null {
    for (const push of this.#steps.takeWaiting(cut)) this.#apply(push);
    return this.#steps.takeComplete(step);
  }

  #apply(push: Push): void {
    const { config, update, values, events } = this.#options;
    const share = push.examples / config.data.batchSize;
    update.apply(this.#projected(push), push.step, share);
    values.addState(push.stateDelta, share);
    this.#steps.applied(push, share);
    events.consumed(push);
  }

  /** A push made under an older mask, cut down to what is still stored; what was grown since has no part in it. */
  #projected(push: Push): Float32Array {
    const { sets, values, events } = this.#options;
    const made = sets.of(push.step, push.maskEpoch);
    if (!made) throw new WhittleError('INTERNAL', `mask epoch ${push.maskEpoch} is gone`);
    const { stored } = values;
    if (made === stored) return push.gradient;
    const kept = repack(push.gradient, made, stored);
    const dropped = made.reduce((sum, byte, i) => sum + countBits(Uint8Array.of(byte & ~stored[i]!)), 0);
    if (push.maskEpoch !== sets.epoch) events.dropped?.(push, dropped);
    return kept;
  }
}
