import assert from 'node:assert/strict';
import fc from 'fast-check';
import { combineNodes, nodesOf, sumOfSquaresNodes } from '../../../shared/layout/dyadic.ts';
import { fullBitmap, sliceBits } from '../../../shared/sparsity/bitmap.ts';
import { pack } from '../../../shared/sparsity/packing.ts';

/** The definition, written out: block sums in flat order, then a binary tree padded with zeros. */
function reference(values: Float32Array): number {
  let sums: number[] = [];
  for (let from = 0; from < values.length; from += 64) {
    sums.push(values.slice(from, from + 64).reduce((sum, value) => sum + value * value, 0));
  }
  while (sums.length > 1) {
    sums = Array.from({ length: Math.ceil(sums.length / 2) }, (_, i) => (sums[2 * i] ?? 0) + (sums[2 * i + 1] ?? 0));
  }
  return sums[0] ?? 0;
}

const finite = fc.float({ noNaN: true, noDefaultInfinity: true, min: -1000, max: 1000 });
const dense = fc.integer({ min: 0, max: 1200 }).chain((n) => fc.array(finite, { minLength: n, maxLength: n }));

/** Random cut points at multiples of 64. */
function cutsOf(size: number, picks: readonly number[]): number[] {
  const inner = picks.map((pick) => Math.min(size, (pick % (Math.ceil(size / 64) + 1)) * 64));
  return [0, ...inner.sort((a, b) => a - b), size];
}

describe('dyadic reduction', () => {
  it('has the same bits for any cuts, packed or dense', () => {
    fc.assert(
      fc.property(
        dense,
        fc.array(fc.nat(), { maxLength: 15 }),
        fc.infiniteStream(fc.boolean()),
        (list, picks, coin) => {
          const bits = fullBitmap(list.length);
          const values = Float32Array.from(list, (value, i) => {
            if (coin.next().value === true) return value;
            bits[i >> 3] = (bits[i >> 3] as number) & ~(1 << (i & 7));
            return 0;
          });
          const cuts = cutsOf(list.length, picks);
          const nodes = cuts.slice(1).flatMap((end, server) => {
            const start = cuts[server] as number;
            if (server % 2 === 0) return sumOfSquaresNodes(start, end, list.length, values.slice(start, end), null);
            const stored = sliceBits(bits, start, end);
            return sumOfSquaresNodes(start, end, list.length, pack(values.slice(start, end), stored), stored);
          });
          assert.equal(combineNodes(nodes.reverse(), list.length), reference(values));
        },
      ),
    );
  });

  it('covers a range with few nodes', () => {
    // Blocks 3 .. 12 of a tree: [3], [4..7], [8..11], [12].
    const nodes = nodesOf(3, new Float64Array(10).fill(1));
    assert.deepEqual(nodes, [
      { level: 0, index: 3, sum: 1 },
      { level: 2, index: 1, sum: 4 },
      { level: 2, index: 2, sum: 4 },
      { level: 0, index: 12, sum: 1 },
    ]);
    assert.ok(nodesOf(1, new Float64Array(4166)).length <= 26);
  });

  it('adds along the tree, not from left to right', () => {
    // 1e16 + 1 = 1e16 in float64, but 1 + 1 + ... first makes 2: ((1e16 + 1) + (1 + 1)) = 1e16 + 2.
    const values = new Float32Array(256);
    values[0] = 1e8;
    values[64] = 1;
    values[128] = 1;
    values[192] = 1;
    const square = Math.fround(1e8) * Math.fround(1e8);
    assert.equal(combineNodes(sumOfSquaresNodes(0, 256, 256, values, null), 256), square + 2);
  });

  it('refuses a missing part, and a shard that cuts a block', () => {
    const nodes = sumOfSquaresNodes(0, 64, 128, new Float32Array(64), null);
    assert.throws(() => combineNodes(nodes, 128), { code: 'PROTOCOL', message: /block 1/ });
    assert.throws(() => sumOfSquaresNodes(32, 64, 128, new Float32Array(32), null), { code: 'INTERNAL' });
    assert.throws(() => sumOfSquaresNodes(0, 64, 64, new Float32Array(63), null), { code: 'INTERNAL' });
  });
});
