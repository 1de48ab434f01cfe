import type { RowNode } from '../../shared/layout/row-tree.ts';
import type { GroupLasso, PackedShard } from './optimizers/group-lasso.ts';

/** A step's group lasso over several servers: the norms of groups wait for the parts of all servers, early or late ones. */
export class GroupShrinkage {
  readonly #lasso: GroupLasso;
  readonly #servers: number;
  readonly #parts = new Map<number, Map<number, readonly RowNode[]>>();
  #begun: { readonly step: number; readonly shard: PackedShard; readonly own: RowNode[]; readonly by: number } | null =
    null;

  constructor(lasso: GroupLasso, servers: number) {
    this.#lasso = lasso;
    this.#servers = servers;
  }

  /** The optimizer has made the step: returns this server's part of the sums, for every server, itself among them. */
  begin(step: number, shard: PackedShard, by: number): RowNode[] {
    const { own, shared } = this.#lasso.squares(shard);
    this.#begun = { step, shard, own, by };
    return shared;
  }

  /** A server's part; parts of steps that are over change nothing. */
  take(step: number, sender: number, nodes: readonly RowNode[], clock: number): void {
    if (step <= clock) return;
    let parts = this.#parts.get(step);
    if (!parts) this.#parts.set(step, (parts = new Map<number, readonly RowNode[]>()));
    parts.set(sender, nodes);
  }

  /** Shrinks the groups of the step that was begun once all parts are there. Returns true when it did. */
  finish(): boolean {
    const begun = this.#begun;
    if (!begun) return false;
    const parts = this.#parts.get(begun.step);
    if (!parts || parts.size < this.#servers) return false;
    this.#lasso.shrink(begun.shard, [...begun.own, ...[...parts.values()].flat()], begun.by);
    this.#parts.delete(begun.step);
    this.#begun = null;
    return true;
  }
}
