import { combineNodes, type DyadicNode } from '../../shared/layout/dyadic.ts';

/** The global L2 norm from the nodes of all servers. `size`: elements of the whole parameter space. */
export function gradientNorm(nodes: readonly DyadicNode[], size: number): number {
  return Math.sqrt(combineNodes(nodes, size));
}

/** torch.nn.utils.clip_grad_norm_: limit / (norm + 1e-6), never above 1. */
export function clipFactor(norm: number, limit: number): number {
  return Math.fround(Math.min(1, limit / (norm + 1e-6)));
}
