import type { RunConfig } from '../../shared/config/types.ts';
import { optimizerStep, scheduleStep } from '../../shared/interventions/rewind.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { type DecaySegment, decaySegments } from './decay-segments.ts';
import { decayAt } from './optimizers/decay-at.ts';
import { coveredBits, decayLatent } from './optimizers/latent-decay.ts';
import { learningRateAt } from './optimizers/learning-rate.ts';
import type { Optimizer } from './optimizers/optimizer.ts';
import type { StoredValues } from './stored-values.ts';

export interface WeightUpdateOptions {
  readonly config: RunConfig;
  readonly space: ParameterSpace;
  readonly start: number;
  readonly end: number;
  readonly optimizer: Optimizer;
  readonly values: StoredValues;
}

/** What a gradient does to the stored values: learning rate, decay and optimizer as the run file has them at a step. */
export class WeightUpdate {
  readonly #options: WeightUpdateOptions;
  #segments: readonly DecaySegment[] = [];
  /** What latent decay covers; made where it is first needed. */
  #covered: Uint8Array | null = null;

  constructor(options: WeightUpdateOptions) {
    this.#options = options;
  }

  /** Another set is stored. */
  layoutChanged(): void {
    const { config, space, start, end, values } = this.#options;
    this.#segments = decaySegments(space, config.training.decay, start, end, values.stored);
  }

  /** One application of the optimizer, with this share of the step's learning rate. */
  apply(gradients: Float32Array, step: number, share: number): void {
    const { config, space, start, end, optimizer, values } = this.#options;
    const { rewind, training } = config;
    const learningRate = share * this.#learningRate(step);
    const at = scheduleStep(rewind, step);
    const counted = optimizerStep(rewind, step);
    values.observe(gradients);
    const { weights, slots, mask, stored } = values;
    for (const segment of this.#segments) {
      const { begin, end } = segment;
      const decay = decayAt(segment.decay, at, training.steps);
      optimizer.apply({ weights, gradients, slots, begin, end, step: counted, learningRate, share, decay });
    }
    if (stored === mask || training.decay.latent === undefined) return;
    this.#covered ??= coveredBits(space, training.decay.match, start, end);
    const { latent } = decayAt(training.decay, at, training.steps);
    decayLatent(weights, stored, mask, this.#covered, learningRate * latent);
  }

  /** By how much group lasso shrinks groups at `step`: learning rate x lambda; 0 where it has no effect. */
  groupLasso(step: number): number {
    const { rewind, training } = this.#options.config;
    const { groupLasso } = decayAt(training.decay, scheduleStep(rewind, step), training.steps);
    return this.#learningRate(step) * groupLasso;
  }

  #learningRate(step: number): number {
    const { rewind, training } = this.#options.config;
    const { optimizer, learningRateSchedule, steps } = training;
    return learningRateAt(optimizer.learningRate, learningRateSchedule, scheduleStep(rewind, step), steps);
  }
}
