import { WhittleError } from '../errors.ts';
import { permutation } from '../kernels/random.ts';

/** How the endless stream of examples is drawn and cut. */
export interface StreamOptions {
  /** Examples in a global batch. */
  readonly batchSize: number;
  /** Slices a global batch is cut into. */
  readonly slices: number;
  /** Training examples, n: position p of the stream is element p mod n of epoch floor(p / n). */
  readonly examples: number;
  readonly order: 'shuffled' | 'sequential';
  readonly seed: number;
}

/** Slice i of k of a batch of B holds positions [floor(iB/k), floor((i+1)B/k)) of it; empty where k > B. */
export function sliceRange(slice: number, batchSize: number, slices: number): readonly [start: number, end: number] {
  if (!(slice >= 0 && slice < slices)) {
    throw new WhittleError('PROTOCOL', `no slice ${slice} in a batch of ${slices} slices`);
  }
  return [Math.floor((slice * batchSize) / slices), Math.floor(((slice + 1) * batchSize) / slices)];
}

/** Examples of each slice. */
export function sliceSizes(batchSize: number, slices: number): number[] {
  return Array.from({ length: slices }, (_, slice) => {
    const [start, end] = sliceRange(slice, batchSize, slices);
    return end - start;
  });
}

/**
 * The examples of slice `slice` of step `step` (from 1), as indices 0 .. examples-1 in stream order.
 * Global batch t is positions (t-1)B .. tB-1 of the stream, so every example occurs exactly once an epoch,
 * whatever the batch size and the number of slices.
 */
export function sliceIndices(step: number, slice: number, options: StreamOptions): Int32Array {
  const { batchSize, slices, examples } = options;
  if (examples < 1) throw new WhittleError('DATA', 'the training data has no examples');
  const [start, end] = sliceRange(slice, batchSize, slices);
  const indices = new Int32Array(end - start);
  let position = (step - 1) * batchSize + start;
  for (let i = 0; i < indices.length;) {
    const epoch = Math.floor(position / examples);
    const within = position - epoch * examples;
    const count = Math.min(indices.length - i, examples - within);
    const order = options.order === 'sequential' ? null : epochOrder(examples, options.seed, epoch);
    for (let k = 0; k < count; k++) indices[i + k] = order === null ? within + k : (order[within + k] as number);
    i += count;
    position += count;
  }
  return indices;
}

/** Permutations used last: a slice touches one epoch, at its border two. Newest last. */
const recentOrders: { readonly key: string; readonly order: Uint32Array }[] = [];

function epochOrder(examples: number, seed: number, epoch: number): Uint32Array {
  const key = `${examples}:${seed}:${epoch}`;
  const known = recentOrders.find((recent) => recent.key === key);
  if (known !== undefined) return known.order;
  const order = permutation(examples, seed, epoch);
  recentOrders.push({ key, order });
  if (recentOrders.length > 2) recentOrders.shift();
  return order;
}
