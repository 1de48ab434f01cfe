import { WhittleError } from '../errors.ts';
import { countBits } from '../sparsity/bitmap.ts';
import { SHARD_ALIGNMENT } from './shard-map.ts';

/**
 * Reductions over the parameter space whose bits do not depend on the shard map.
 *
 * Leaves are float64 sums of 64-element blocks, added in ascending flat index; above them stands a binary
 * tree over the block index, in which absent blocks count as 0. A server computes the few largest subtrees
 * that its range covers; whoever has those of all servers adds them up along the same tree.
 */
export interface DyadicNode {
  /** Height in the tree; a node covers 2^level blocks. */
  readonly level: number;
  /** Covers blocks [index * 2^level, (index + 1) * 2^level). */
  readonly index: number;
  readonly sum: number;
}

export function numBlocks(size: number): number {
  return Math.ceil(size / SHARD_ALIGNMENT);
}

/**
 * Dyadic nodes of the sum of squares over the shard [start, end) of a parameter space of `totalSize`.
 * `values` are packed over `stored` (bit i = element start + i), or dense where `stored` is null.
 * Dead elements add exactly 0, so packed and dense values give the same bits.
 */
export function sumOfSquaresNodes(
  start: number,
  end: number,
  totalSize: number,
  values: Float32Array,
  stored: Uint8Array | null,
): DyadicNode[] {
  if (start === end) return [];
  if (start % SHARD_ALIGNMENT !== 0 || (end % SHARD_ALIGNMENT !== 0 && end !== totalSize)) {
    throw new WhittleError('INTERNAL', `shard [${start}, ${end}) does not start and end at block borders`);
  }
  const sums = new Float64Array(numBlocks(end - start));
  let next = 0;
  for (let block = 0; block < sums.length; block++) {
    const from = block * SHARD_ALIGNMENT;
    const to = Math.min(from + SHARD_ALIGNMENT, end - start);
    const last = next + (stored === null ? to - from : countBits(stored, from, to));
    let sum = 0;
    for (; next < last; next++) {
      const value = values[next] as number;
      sum += value * value;
    }
    sums[block] = sum;
  }
  if (next !== values.length) {
    throw new WhittleError('INTERNAL', `${values.length} values for ${next} stored elements`);
  }
  return nodesOf(start / SHARD_ALIGNMENT, sums);
}

/** The dyadic nodes that cover the blocks firstBlock .. firstBlock + sums.length - 1. Destroys `sums`. */
export function nodesOf(firstBlock: number, sums: Float64Array): DyadicNode[] {
  const nodes: DyadicNode[] = [];
  const end = firstBlock + sums.length;
  for (let at = firstBlock; at < end;) {
    let level = 0;
    let width = 1;
    while (at % (width * 2) === 0 && at + width * 2 <= end) {
      width *= 2;
      level++;
    }
    const offset = at - firstBlock;
    for (let step = 1; step < width; step *= 2) {
      for (let i = offset; i < offset + width; i += step * 2) {
        sums[i] = (sums[i] as number) + (sums[i + step] as number);
      }
    }
    nodes.push({ level, index: at / width, sum: sums[offset] as number });
    at += width;
  }
  return nodes;
}

/**
 * The sum over the whole parameter space of `totalSize` elements, from the nodes of all servers in any order.
 * Throws PROTOCOL where a block is missing.
 */
export function combineNodes(nodes: readonly DyadicNode[], totalSize: number): number {
  const totalBlocks = numBlocks(totalSize);
  const known = new Map(nodes.map((node) => [`${node.level}:${node.index}`, node.sum]));
  const sumOf = (level: number, index: number, width: number): number => {
    if (index * width >= totalBlocks) return 0;
    const sum = known.get(`${level}:${index}`);
    if (sum !== undefined) return sum;
    if (level === 0) throw new WhittleError('PROTOCOL', `no partial sum covers block ${index} of ${totalBlocks}`);
    return sumOf(level - 1, index * 2, width / 2) + sumOf(level - 1, index * 2 + 1, width / 2);
  };
  let level = 0;
  let width = 1;
  while (width < totalBlocks) {
    width *= 2;
    level++;
  }
  return sumOf(level, 0, width);
}
