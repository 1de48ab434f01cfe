import type { RunConfig } from '../../shared/config/types.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import { pushedSet } from '../../shared/sparsity/gradient-set.ts';
import type { StoredValues } from './stored-values.ts';

/** Masks kept for late pushes; older ones are answered NEED_MASK. */
const KEPT_MASKS = 8;

export interface PushedSetsOptions {
  readonly config: RunConfig;
  readonly space: ParameterSpace;
  readonly start: number;
  readonly end: number;
  readonly values: StoredValues;
}

/** Which elements the values of a push stand for: by its step and the mask epoch that it was made under. */
export class PushedSets {
  readonly #options: PushedSetsOptions;
  /** The newest masks before the one in force; none in bsp, where no push is late. */
  #older: { readonly epoch: number; readonly mask: Uint8Array }[] = [];
  readonly #kept: number;
  #epoch = 0;
  #expected: { readonly step: number; readonly set: Uint8Array } | null = null;

  constructor(options: PushedSetsOptions) {
    this.#options = options;
    this.#kept = options.config.consistency.mode === 'bsp' ? 0 : KEPT_MASKS;
  }

  /** The mask epoch in force. */
  get epoch(): number {
    return this.#epoch;
  }

  /** The mask of a checkpoint is in force. */
  startAt(epoch: number): void {
    this.#epoch = epoch;
  }

  /** The mask in force, not replaced yet, becomes an older one. */
  advance(epoch: number): void {
    this.#older.push({ epoch: this.#epoch, mask: this.#options.values.mask });
    this.#older.splice(0, this.#older.length - this.#kept);
    this.#epoch = epoch;
    this.#expected = null;
  }

  /** The set of the step that is collected next, under the mask in force. */
  expect(step: number): Uint8Array {
    const set = this.#made(step, this.#options.values.mask);
    this.#expected = { step, set };
    return set;
  }

  /** Null: the epoch is not known here any more. */
  of(step: number, epoch: number): Uint8Array | null {
    if (epoch !== this.#epoch) {
      const older = this.#older.find((each) => each.epoch === epoch);
      return older ? this.#made(step, older.mask) : null;
    }
    return this.#expected?.step === step ? this.#expected.set : this.#made(step, this.#options.values.mask);
  }

  #made(step: number, mask: Uint8Array): Uint8Array {
    const { config, space, start, end, values } = this.#options;
    const set = pushedSet(mask, start, end, config.sparsity, space, step);
    // Equal sets become one array, so that nothing is copied where nothing is latent.
    return set !== mask && sameBits(set, values.stored) ? values.stored : set;
  }
}

function sameBits(a: Uint8Array, b: Uint8Array): boolean {
  return a === b || (a.length === b.length && a.every((byte, i) => byte === b[i]));
}
