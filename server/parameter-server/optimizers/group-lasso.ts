import type { Parameter, ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { combineRowNodes, rowNodes, type RowNode, type RowPart } from '../../../shared/layout/row-tree.ts';
import { countBits, getBit } from '../../../shared/sparsity/bitmap.ts';
import { matchesGlob } from '../../../shared/sparsity/glob.ts';

/** A kernel whose groups are its output units. */
interface GroupedKernel {
  /** Place in the parameter space's list. */
  readonly index: number;
  readonly offset: number;
  readonly size: number;
  readonly columns: number;
  /** Neighbouring columns that belong to one group: 1, but for transposed convolutions. */
  readonly columnsPerGroup: number;
}

/** Packed values of a shard, changed in place, and what they are packed over. */
export interface PackedShard {
  /** Flat range [start, end). */
  readonly start: number;
  readonly end: number;
  readonly weights: Float32Array;
  readonly stored: Uint8Array;
}

/**
 * Group lasso by its proximal operator: after the optimizer's step and the soft threshold of L1 (together: the sparse
 * group lasso), every group g, all weights into one output unit of a kernel, becomes
 * w_g * max(0, 1 - learningRate * lambda * sqrt(|g|) / ||w_g||) (Yuan & Lin 2006; |g| counts dead elements too).
 * Groups reach zero as a whole, and their zeros stay survivors until a rule prunes them.
 *
 * A group may lie on several servers: each computes `squares` of its part, those of kernels that lie on others too are
 * sent to them, and all scale by the same factor, whatever the cuts.
 */
export class GroupLasso {
  readonly #kernels: readonly GroupedKernel[];

  /** Covers the prunable kernels that `match` matches; other parameters have no output units. */
  constructor(space: ParameterSpace, match: string) {
    this.#kernels = space.parameters.flatMap((parameter, index) =>
      parameter.prunable && parameter.size > 0 && parameter.shape.length > 1 && matchesGlob(match, parameter.name)
        ? [grouped(parameter, index)]
        : [],
    );
  }

  /** Partial sums of squares of this shard: of kernels that lie here whole (`own`), and of others, for all servers. */
  squares(shard: PackedShard): { readonly own: RowNode[]; readonly shared: RowNode[] } {
    const own: RowNode[] = [];
    const shared: RowNode[] = [];
    for (const { kernel, part } of this.#parts(shard)) {
      const isWhole = part.from === 0 && part.to === kernel.size;
      (isWhole ? own : shared).push(...rowNodes(part, shard.weights, shard.stored));
    }
    return { own, shared };
  }

  /**
   * Shrinks every group by `by` = learning rate x lambda. `nodes`: the own ones and those that all servers shared.
   * @throws PROTOCOL where the nodes do not cover a kernel of this shard
   */
  shrink(shard: PackedShard, nodes: readonly RowNode[], by: number): void {
    for (const { kernel, part } of this.#parts(shard)) {
      const rows = kernel.size / kernel.columns;
      const ofKernel = nodes.filter(({ parameter }) => parameter === kernel.index);
      const factors = factorsOf(combineRowNodes(ofKernel, rows, kernel.columns), kernel, by);
      let next = part.firstValue;
      for (let at = part.from; at < part.to; at++) {
        if (!getBit(shard.stored, part.firstBit + at - part.from)) continue;
        // + 0 turns -0, which a factor of 0 makes of a negative weight, into +0.
        shard.weights[next] = (shard.weights[next] as number) * (factors[at % kernel.columns] as number) + 0;
        next++;
      }
    }
  }

  *#parts({ start, end, stored }: PackedShard): Generator<{ kernel: GroupedKernel; part: RowPart }> {
    for (const kernel of this.#kernels) {
      const from = Math.max(start, kernel.offset);
      const to = Math.min(end, kernel.offset + kernel.size);
      if (from >= to) continue;
      const part = {
        parameter: kernel.index,
        columns: kernel.columns,
        from: from - kernel.offset,
        to: to - kernel.offset,
        firstBit: from - start,
        firstValue: countBits(stored, 0, from - start),
      };
      yield { kernel, part };
    }
  }
}

/** Output units lie along the last axis, [..., in, out]; in kernels of transposed convolutions, [..., out, in]. */
function grouped({ layerKind, shape, offset, size }: Parameter, index: number): GroupedKernel {
  const last = shape.at(-1) ?? 1;
  const isTransposed = layerKind.endsWith('Transpose');
  const columns = isTransposed ? last * (shape.at(-2) ?? 1) : last;
  return { index, offset, size, columns, columnsPerGroup: isTransposed ? last : 1 };
}

/** The factor of each column. */
function factorsOf(squares: Float64Array, kernel: GroupedKernel, by: number): Float64Array {
  const { columns, columnsPerGroup, size } = kernel;
  const groupSize = (size / columns) * columnsPerGroup;
  const limit = by * Math.sqrt(groupSize);
  const factors = new Float64Array(columns);
  for (let first = 0; first < columns; first += columnsPerGroup) {
    let sum = 0;
    for (let column = first; column < first + columnsPerGroup; column++) sum += squares[column] as number;
    const norm = Math.sqrt(sum);
    factors.fill(norm > limit ? 1 - limit / norm : 0, first, first + columnsPerGroup);
  }
  return factors;
}
