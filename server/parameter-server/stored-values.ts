import type { ShardSnapshot } from '../../shared/checkpoint/manifest.ts';
import type { SparsityRule } from '../../shared/config/types.ts';
import { WhittleError } from '../../shared/errors.ts';
import { countBits, fullBitmap } from '../../shared/sparsity/bitmap.ts';
import { criterionNamed } from '../../shared/sparsity/criterion/index.ts';
import { compact, repack } from '../../shared/sparsity/mask-rule.ts';
import type { Selected } from '../../shared/sparsity/selection.ts';
import type { Optimizer } from './optimizers/optimizer.ts';

type Statistic = NonNullable<ReturnType<typeof criterionNamed>['statistic']>;

/** Slots of criteria are told from those of optimizers in checkpoints by this prefix. */
const STATISTIC = 'criterion.';

/**
 * What a shard keeps of each element: weight, optimizer slots, running statistics of the rules' criteria, all packed
 * over one set. The set holds the survivors, and latent weights where a rule says that dead elements go on learning.
 * Beside it the non-trainable state, on the server that holds it.
 */
export class StoredValues {
  readonly #optimizer: Optimizer;
  readonly #statistics: readonly Statistic[];
  mask: Uint8Array;
  /** A superset of `mask`; the very same array where nothing is latent. */
  stored: Uint8Array;
  weights = new Float32Array(0);
  slots: Float32Array<ArrayBuffer>[] = [];
  /** Empty on all servers but the first. */
  state: Float32Array;
  #version = 0;
  #statisticValues: Float32Array<ArrayBuffer>[] = [];

  constructor(optimizer: Optimizer, rules: readonly SparsityRule[], size: number, stateSize: number) {
    this.#optimizer = optimizer;
    const used = rules.flatMap(({ criterion }) => criterionNamed(criterion).statistic ?? []);
    this.#statistics = used.filter(({ name }, i) => used.findIndex((other) => other.name === name) === i);
    this.mask = fullBitmap(size);
    this.stored = this.mask;
    this.state = new Float32Array(stateSize);
  }

  /** Another one after every gradient. */
  get version(): number {
    return this.#version;
  }

  /** Dense initial values; nothing is pruned. */
  initialize(weights: Float32Array, state: Float32Array): void {
    this.weights = weights.slice();
    this.state = state.slice();
    this.slots = this.#optimizer.slotNames.map((name) =>
      new Float32Array(weights.length).fill(this.#optimizer.initialSlot(name)),
    );
    this.#statisticValues = this.#statistics.map(() => new Float32Array(weights.length));
  }

  restore(snapshot: ShardSnapshot): void {
    this.mask = snapshot.mask.slice();
    this.stored = countBits(snapshot.stored) === countBits(snapshot.mask) ? this.mask : snapshot.stored.slice();
    this.weights = snapshot.weights.slice();
    if (this.state.length > 0 && snapshot.state) this.state = snapshot.state.slice();
    this.slots = this.#optimizer.slotNames.map((name) => {
      const slot = snapshot.slots[name];
      if (!slot) {
        const held = Object.keys(snapshot.slots).join(', ') || 'none';
        throw new WhittleError(
          'CHECKPOINT',
          `the checkpoint holds no optimizer slot "${name}" (it holds ${held}): ` +
            'resume with the optimizer kind it was written with',
        );
      }
      return slot.slice();
    });
    // A rule may be new to the run: its criterion begins to watch now.
    this.#statisticValues = this.#statistics.map(
      ({ name }) => snapshot.slots[STATISTIC + name]?.slice() ?? new Float32Array(this.weights.length),
    );
  }

  /** Values of a snapshot, copied. */
  snapshot(): Omit<ShardSnapshot, 'start' | 'end'> {
    const slots = this.#optimizer.slotNames.map((name, i) => [name, this.slots[i]!.slice()] as const);
    const statistics = this.#statistics.map(
      ({ name }, i) => [STATISTIC + name, this.#statisticValues[i]!.slice()] as const,
    );
    return {
      stored: this.stored.slice(),
      mask: this.mask.slice(),
      weights: this.weights.slice(),
      slots: Object.fromEntries([...slots, ...statistics]),
      state: this.state.length > 0 ? this.state.slice() : null,
    };
  }

  /** Weights packed over the survivors: what workers get. */
  effective(): Float32Array {
    return this.stored === this.mask ? this.weights : compact(this.weights, this.stored, this.mask);
  }

  get statistics(): ReadonlyMap<string, Float32Array> {
    return new Map(this.#statistics.map(({ name }, i) => [name, this.#statisticValues[i]!]));
  }

  /** The optimizer's running mean of squared gradients, or null. */
  get secondMoment(): Float32Array | null {
    const { secondMoment } = this.#optimizer;
    return secondMoment === undefined ? null : (this.slots[this.#optimizer.slotNames.indexOf(secondMoment)] ?? null);
  }

  /** Lets criteria see a gradient, packed over `stored`, with the weights that it was computed at. */
  observe(gradients: Float32Array): void {
    this.#version += 1;
    this.#statistics.forEach((statistic, i) =>
      statistic.update(this.#statisticValues[i]!, this.weights, gradients, 0, gradients.length),
    );
  }

  /** A slice's or a step's change of the non-trainable state, with its share of the global batch. */
  addState(delta: Float32Array, share: number): void {
    const { state } = this;
    for (let i = 0; i < state.length; i += 1) state[i] = state[i]! + share * delta[i]!;
  }

  /** Takes a new mask: what is no longer stored is dropped, what is grown begins with zero weight and fresh slots. */
  select({ mask, grown }: Selected, stored: Uint8Array): void {
    // What was latent and is grown begins anew like what was not stored.
    const kept = this.stored.map((byte, i) => byte & ~(grown[i] as number));
    const move = (values: Float32Array<ArrayBuffer>, fresh = 0): Float32Array<ArrayBuffer> =>
      repack(compact(values, this.stored, kept), kept, stored, fresh);
    this.weights = move(this.weights);
    this.slots = this.slots.map((slot, i) => {
      const name = this.#optimizer.slotNames[i] ?? '';
      return move(slot, this.#optimizer.initialSlot(name));
    });
    this.#statisticValues = this.#statisticValues.map((values) => move(values));
    this.mask = mask;
    this.stored = stored;
  }
}
