import type { GuardNote } from '../../../shared/sparsity/guard.ts';
import type { CompletedStep } from '../step-ledger.ts';

export interface MaskInForce {
  readonly epoch: number;
  readonly sparsity: number;
  /** What a guard made of the step that began it. */
  readonly guard?: GuardNote;
}

/**
 * Joins completed steps with the mask that is in force from each on. Steps and commits are heard of in either order;
 * a step that is also a mask update waits for its commit.
 */
export class MaskEpochs {
  /** Completed steps whose mask commit is still to come. */
  readonly #held: { readonly step: CompletedStep; readonly isUpdate: boolean }[] = [];
  /** By the step that began them, oldest first; what recorded steps still need. */
  #epochs: ({ readonly step: number } & MaskInForce)[];
  readonly #sparsities: Map<number, number>;

  /** `step`: the one from which `mask` is known to be in force. */
  constructor(step: number, mask: MaskInForce) {
    this.#epochs = [{ step, ...mask }];
    this.#sparsities = new Map([[mask.epoch, mask.sparsity]]);
  }

  /** Undefined where the epoch is not known. */
  sparsityOf(epoch: number): number | undefined {
    return this.#sparsities.get(epoch);
  }

  committed(step: number, mask: MaskInForce): void {
    this.#sparsities.set(mask.epoch, mask.sparsity);
    this.#epochs.push({ step, ...mask });
  }

  completed(step: CompletedStep, isUpdate: boolean): void {
    this.#held.push({ step, isUpdate });
  }

  /** Takes out the next step whose mask is known; null where there is none. */
  take(): { readonly step: CompletedStep; readonly mask: MaskInForce } | null {
    const next = this.#held[0];
    if (!next) return null;
    const mask = this.#epochs.findLast(({ step }) => step <= next.step.step);
    if (!mask || (next.isUpdate && mask.step < next.step.step)) return null;
    this.#epochs = this.#epochs.filter(({ step }) => step >= mask.step);
    this.#held.shift();
    const { epoch, sparsity } = mask;
    return { step: next.step, mask: mask.step === next.step.step ? mask : { epoch, sparsity } };
  }
}
