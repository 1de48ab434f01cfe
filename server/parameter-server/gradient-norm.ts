import { combineNodes, type DyadicNode } from '../../shared/layout/dyadic.ts';

/** Collects every server's part of a step's gradient norm. Early parts wait. */
export class GradientNorm {
  readonly #servers: number;
  readonly #size: number;
  readonly #parts = new Map<number, Map<number, readonly DyadicNode[]>>();

  /** @param size elements of the whole parameter space */
  constructor(servers: number, size: number) {
    this.#servers = servers;
    this.#size = size;
  }

  add(step: number, sender: number, nodes: readonly DyadicNode[]): void {
    let parts = this.#parts.get(step);
    if (!parts) this.#parts.set(step, (parts = new Map<number, readonly DyadicNode[]>()));
    parts.set(sender, nodes);
  }

  /** The global L2 norm once the parts of all servers are there, own ones among them; else null. */
  take(step: number): number | null {
    const parts = this.#parts.get(step);
    if (!parts || parts.size < this.#servers) return null;
    this.#parts.delete(step);
    return Math.sqrt(combineNodes([...parts.values()].flat(), this.#size));
  }
}

/** torch.nn.utils.clip_grad_norm_: limit / (norm + 1e-6), never above 1. */
export function clipFactor(norm: number, limit: number): number {
  return Math.fround(Math.min(1, limit / (norm + 1e-6)));
}
