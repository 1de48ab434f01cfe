/**
 * One-dimensional k-means without a draw: the same weights give the same centroids in every process, at any step, so
 * nothing has to be remembered or sent. Weights are counted by the first 16 bits of their order, once; Lloyd's
 * iterations then work on those at most 65,536 counts, so that a step costs one pass over the weights.
 */

/** Where the first centroids lie: evenly between the extremes (Han et al. 2016), or so that each has as many weights. */
export type Initialization = 'linear' | 'density';

const BUCKETS = 1 << 16;
/** Lloyd's iterations come to rest long before. */
const MAX_ITERATIONS = 100;

const asFloat = new Float32Array(1);
const asBits = new Uint32Array(asFloat.buffer);

/**
 * The values with each nonzero one replaced by its centroid, the mean of its cluster. Zeros stay +0 and count as one of
 * the `clusters` values; values that differ only beyond the first 16 bits share a cluster. NaN and infinities stay.
 * @param clusters distinct values wanted, >= 2
 */
export function clusterValues(values: Float32Array, clusters: number, initialization: Initialization): Float32Array {
  const buckets = countBuckets(values);
  const free = clusters - (buckets.hasZeros ? 1 : 0);
  const { centroids, firsts } = lloyd(buckets, initialCentroids(buckets, free, initialization));
  const ofBucket = new Float32Array(BUCKETS);
  centroids.forEach((centroid, k) => {
    const end = firsts[k + 1] as number;
    for (let i = firsts[k] as number; i < end; i++) ofBucket[buckets.keys[i] as number] = centroid;
  });
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const clustered = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value === 0) continue;
    clustered[i] = value - value === 0 ? (ofBucket[keyOf(bits[i] as number)] as number) : value;
  }
  return clustered;
}

/** Nonzero finite values by the first 16 bits of their order. */
interface Buckets {
  /** Of the buckets that hold something, ascending as their values are. */
  readonly keys: Uint32Array;
  /** Running totals before bucket i; one longer than `keys`. */
  readonly counts: Float64Array;
  readonly sums: Float64Array;
  readonly least: number;
  readonly greatest: number;
  readonly hasZeros: boolean;
}

/** Float bits to a number that orders as the floats do. */
function keyOf(bits: number): number {
  return (bits & 0x80000000) === 0 ? (bits >>> 16) | 0x8000 : ~bits >>> 16;
}

function countBuckets(values: Float32Array): Buckets {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const counts = new Uint32Array(BUCKETS);
  const sums = new Float64Array(BUCKETS);
  let [least, greatest, numZeros, used] = [Infinity, -Infinity, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value === 0) numZeros++;
    else if (value - value === 0) {
      const key = keyOf(bits[i] as number);
      if (counts[key] === 0) used++;
      counts[key] = (counts[key] as number) + 1;
      sums[key] = (sums[key] as number) + value;
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    }
  }
  const keys = new Uint32Array(used);
  const countsBefore = new Float64Array(used + 1);
  const sumsBefore = new Float64Array(used + 1);
  for (let key = 0, i = 0; i < used; key++) {
    if (counts[key] === 0) continue;
    keys[i] = key;
    countsBefore[i + 1] = (countsBefore[i] as number) + (counts[key] as number);
    sumsBefore[i + 1] = (sumsBefore[i] as number) + (sums[key] as number);
    i++;
  }
  return { keys, counts: countsBefore, sums: sumsBefore, least, greatest, hasZeros: numZeros > 0 };
}

/** Ascending; at most one a bucket. */
function initialCentroids(
  { keys, counts, sums, least, greatest }: Buckets,
  wanted: number,
  how: Initialization,
): Float64Array {
  const k = Math.min(wanted, keys.length);
  if (how === 'linear') {
    return Float64Array.from({ length: k }, (_, i) =>
      k === 1 ? (least + greatest) / 2 : least + (i * (greatest - least)) / (k - 1),
    );
  }
  const total = counts[keys.length] as number;
  return Float64Array.from({ length: k }, (_, i) => {
    // The bucket that holds the middle of the i-th of k equal parts.
    const at = lowerBound(counts, ((i + 0.5) * total) / k, 1, keys.length) - 1;
    return meanOf(counts, sums, at, at + 1);
  });
}

/** Lloyd's iterations (1982) until no bucket moves. `firsts`: the first bucket of each cluster, and the end. */
function lloyd({ keys, counts, sums }: Buckets, start: Float64Array): { centroids: Float64Array; firsts: Uint32Array } {
  const k = start.length;
  const centroids = start.slice();
  let firsts = new Uint32Array(0);
  for (let iteration = 0; iteration < MAX_ITERATIONS; iteration++) {
    const next = new Uint32Array(k + 1);
    next[k] = keys.length;
    for (let c = 1; c < k; c++) {
      const middle = ((centroids[c - 1] as number) + (centroids[c] as number)) / 2;
      next[c] = firstAbove(keys, middle, next[c - 1] as number);
    }
    if (next.every((first, c) => first === firsts[c])) break;
    firsts = next;
    for (let c = 0; c < k; c++) {
      const [first, end] = [firsts[c] as number, firsts[c + 1] as number];
      // A cluster without weights keeps its centroid; nothing is mapped to it.
      if (first < end) centroids[c] = meanOf(counts, sums, first, end);
    }
  }
  return { centroids, firsts };
}

function meanOf(counts: Float64Array, sums: Float64Array, first: number, end: number): number {
  const count = (counts[end] as number) - (counts[first] as number);
  return ((sums[end] as number) - (sums[first] as number)) / count;
}

/** The first bucket from `from` on whose values begin above `middle`. */
function firstAbove(keys: Uint32Array, middle: number, from: number): number {
  let [low, high] = [from, keys.length];
  while (low < high) {
    const at = (low + high) >> 1;
    if (beginningOf(keys[at] as number) > middle) high = at;
    else low = at + 1;
  }
  return low;
}

/** The value of a bucket that is nearest to zero; it stands for all of them where clusters meet. */
function beginningOf(key: number): number {
  asBits[0] = (key & 0x8000) === 0 ? (~key & 0xffff) << 16 : (key & 0x7fff) << 16;
  return asFloat[0] as number;
}

/** The first index in [from, to] whose value is >= `wanted`. */
function lowerBound(ascending: Float64Array, wanted: number, from: number, to: number): number {
  let [low, high] = [from, to];
  while (low < high) {
    const at = (low + high) >> 1;
    if ((ascending[at] as number) >= wanted) high = at;
    else low = at + 1;
  }
  return low;
}
