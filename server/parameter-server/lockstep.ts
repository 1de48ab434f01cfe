import type { RunConfig } from '../../shared/config/types.ts';
import { type DyadicNode, sumOfSquaresNodes } from '../../shared/layout/dyadic.ts';
import type { ParameterSpace } from '../../shared/layout/parameter-space.ts';
import type { RowNode } from '../../shared/layout/row-tree.ts';
import { countBits } from '../../shared/sparsity/bitmap.ts';
import { compact } from '../../shared/sparsity/mask-rule.ts';
import { clipFactor, gradientNorm } from './gradient-norm.ts';
import { GroupLasso, type PackedShard } from './optimizers/group-lasso.ts';
import { PeerParts } from './peer-parts.ts';
import type { Push } from './push.ts';
import type { ShardEvents } from './shard-events.ts';
import { SliceReduction } from './slice-reduction.ts';
import type { MadeStep, ReducedGradient, Stage, Steps } from './steps.ts';
import type { StoredValues } from './stored-values.ts';
import type { WeightUpdate } from './weight-update.ts';

export interface LockstepOptions {
  readonly config: RunConfig;
  readonly space: ParameterSpace;
  readonly start: number;
  readonly end: number;
  readonly servers: number;
  readonly stateSize: number;
  readonly values: StoredValues;
  readonly update: WeightUpdate;
  readonly events: ShardEvents;
}

/** bsp: the slices of a step are summed and applied at once, with what has to be known of the whole model on the way. */
export class Lockstep implements Steps {
  readonly overlap = false;
  readonly newest = 0;
  readonly peers: { readonly norm: PeerParts<DyadicNode>; readonly groups: PeerParts<RowNode> };
  readonly #options: LockstepOptions;
  readonly #clipNorm: number | null;
  /** Null without group lasso. */
  readonly #lasso: GroupLasso | null;
  readonly #reduction: SliceReduction;
  #stage: Stage = 'collecting';
  /** What the newest gradient is packed over; null before the first step is begun. */
  #set: Uint8Array | null = null;
  /** Norms of the groups that lie on this server whole. */
  #ownGroups: readonly RowNode[] = [];

  constructor(options: LockstepOptions) {
    const { config, space, servers, stateSize } = options;
    const { clipNorm, decay } = config.training;
    this.#options = options;
    this.#clipNorm = clipNorm;
    this.#lasso = decay.groupLasso === undefined ? null : new GroupLasso(space, decay.match);
    this.#reduction = new SliceReduction(config.cluster.slices, config.data.batchSize, stateSize);
    this.peers = { norm: new PeerParts(servers), groups: new PeerParts(servers) };
  }

  get stage(): Stage {
    return this.#stage;
  }

  get reduced(): ReducedGradient | null {
    if (this.#set === null || !this.#reduction.isComplete) return null;
    return { set: this.#set, values: this.#reduction.gradient };
  }

  startAt(): void {
    // A checkpoint holds whole steps: nothing is under way.
  }

  begin(set: Uint8Array): void {
    this.#set = set;
    this.#reduction.begin(countBits(set));
  }

  has({ slice }: Push): boolean {
    return this.#set === null || this.#reduction.has(slice);
  }

  wait(push: Push): void {
    this.#reduction.wait(push);
  }

  /** Slices of step 0 are gradients of the first batch, for the mask update before it, and are never applied. */
  make(step: number): MadeStep | null {
    if (this.#stage === 'collecting') {
      this.#reduction.reduce((push) => this.#options.events.consumed(push));
      if (!this.#reduction.isComplete) return null;
      if (step > 0) this.#reducedStep(step);
    }
    if (this.#stage === 'norm') {
      const nodes = this.peers.norm.take(step);
      if (nodes === null) return null;
      this.#apply(step, clipFactor(gradientNorm(nodes, this.#options.space.size), this.#clipNorm ?? 0));
    }
    if (this.#stage === 'groups') {
      const nodes = this.peers.groups.take(step);
      if (nodes === null) return null;
      this.#lasso?.shrink(this.#packed(), [...this.#ownGroups, ...nodes], this.#options.update.groupLasso(step));
    }
    this.#stage = 'collecting';
    const { stateDelta, loss, senders } = this.#reduction;
    if (step > 0) this.#options.values.addState(stateDelta, 1);
    return { loss, workers: senders };
  }

  #reducedStep(step: number): void {
    if (this.#clipNorm === null) {
      this.#apply(step, 1);
      return;
    }
    this.#stage = 'norm';
    const { start, end, space, values, events } = this.#options;
    events.norm(step, sumOfSquaresNodes(start, end, space.size, this.#storedGradient(), values.stored));
  }

  #apply(step: number, scale: number): void {
    const { update, events } = this.#options;
    const gradient = this.#storedGradient();
    if (scale !== 1) for (let i = 0; i < gradient.length; i += 1) gradient[i] = gradient[i]! * scale;
    update.apply(gradient, step, 1);
    this.#stage = 'collecting';
    if (!this.#lasso || update.groupLasso(step) === 0) return;
    this.#stage = 'groups';
    const { own, shared } = this.#lasso.squares(this.#packed());
    this.#ownGroups = own;
    events.groups?.(step, shared);
  }

  #packed(): PackedShard {
    const { start, end, values } = this.#options;
    return { start, end, weights: values.weights, stored: values.stored };
  }

  /** The reduced gradient of what is stored; gradients of other elements serve scores only. */
  #storedGradient(): Float32Array {
    const { gradient } = this.#reduction;
    const { stored } = this.#options.values;
    return this.#set === null || this.#set === stored ? gradient : compact(gradient, this.#set, stored);
  }
}
