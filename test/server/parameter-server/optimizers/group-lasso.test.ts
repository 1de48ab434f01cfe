import assert from 'node:assert/strict';
import fc from 'fast-check';
import { GroupLasso, type PackedShard } from '../../../../server/parameter-server/optimizers/group-lasso.ts';
import { ParameterSpace } from '../../../../shared/layout/parameter-space.ts';
import { fullBitmap, sliceBits } from '../../../../shared/sparsity/bitmap.ts';
import { pack } from '../../../../shared/sparsity/packing.ts';

const kernel = (name: string, shape: number[], layerKind = 'Dense') => ({ name, shape, layerKind, prunable: true });
const bias = (name: string, size: number) => ({ name, shape: [size], layerKind: 'Dense', prunable: false });

function whole(space: ParameterSpace, weights: ArrayLike<number>): PackedShard {
  return { start: 0, end: space.size, weights: Float32Array.from(weights), stored: fullBitmap(space.size) };
}

function shrunk(space: ParameterSpace, match: string, shard: PackedShard, by: number): number[] {
  const lasso = new GroupLasso(space, match);
  const { own, shared } = lasso.squares(shard);
  assert.equal(shared.length, 0, 'one server shares nothing');
  lasso.shrink(shard, own, by);
  return [...shard.weights];
}

describe('group lasso', () => {
  it('shrinks the norm of each output unit by by x sqrt(size), to zero at most', () => {
    // Columns (3, 0, 4, 0), of norm 5, and (-1, 1, 1, 1), of norm 2; limit 1 x sqrt(4) = 2.
    const space = ParameterSpace.of([kernel('dense/kernel', [4, 2]), bias('dense/bias', 2)]);
    const after = shrunk(space, '*', whole(space, [3, -1, 0, 1, 4, 1, 0, 1, 7, 7]), 1);
    const kept = 1 - 2 / 5;
    assert.deepEqual(
      after,
      [3 * kept, 0, 0, 0, 4 * kept, 0, 0, 0, 7, 7].map((x) => Math.fround(x)),
    );
    assert.ok(
      after.every((x) => !Object.is(x, -0)),
      'zeros are +0',
    );
  });

  it('is the proximal operator: it minimizes |v - w|^2 / 2 + by sqrt(size) |v|', () => {
    const space = ParameterSpace.of([kernel('dense/kernel', [6, 1])]);
    const number = fc.float({ min: -3, max: 3, noNaN: true });
    const six = fc.array(number, { minLength: 6, maxLength: 6 });
    fc.assert(
      fc.property(six, six, fc.double({ min: 0.01, max: 1, noNaN: true }), (weights, move, by) => {
        const cost = (v: readonly number[]): number =>
          v.reduce((sum, x, i) => sum + (x - (weights[i] ?? 0)) ** 2 / 2, 0) +
          by * Math.sqrt(6) * Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));
        const best = shrunk(space, '*', whole(space, weights), by);
        const other = best.map((x, i) => x + 0.01 * (move[i] ?? 0));
        assert.ok(cost(best) <= cost(other) + 1e-6);
      }),
    );
  });

  it('takes the output axis of each kind of layer, and only parameters that match', () => {
    // Transposed convolution [1, 1, out 2, in 2]: groups are neighbours (3, 4) and (0, 1); limit 1 x sqrt(2).
    const space = ParameterSpace.of([kernel('up/kernel', [1, 1, 2, 2], 'Conv2DTranspose'), kernel('a/kernel', [2, 1])]);
    const kept = 1 - Math.sqrt(2) / 5;
    assert.deepEqual(
      shrunk(space, 'up/*', whole(space, [3, 4, 0, 1, 1, 1]), 1),
      [3 * kept, 4 * kept, 0, 0, 1, 1].map((x) => Math.fround(x)),
    );
  });

  it('has the same bits for any cuts and masks, with values packed or dense', () => {
    const space = ParameterSpace.of([
      bias('a/bias', 7),
      kernel('a/kernel', [23, 10]),
      kernel('b/kernel', [3, 3, 2, 9], 'Conv2D'),
      kernel('c/kernel', [2, 2, 3, 5], 'Conv2DTranspose'),
    ]);
    const lasso = new GroupLasso(space, '*');
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: space.size, maxLength: space.size }),
        fc.array(fc.nat(255), { minLength: Math.ceil(space.size / 8), maxLength: Math.ceil(space.size / 8) }),
        fc.subarray([64, 128, 192, 256, 320, 384, 448]),
        (raw, bytes, inner) => {
          const mask = sliceBits(Uint8Array.from(bytes), 0, space.size);
          const dense = Float32Array.from(raw, (x, i) => (((mask[i >> 3] ?? 0) >> (i & 7)) & 1 ? x : 0));
          const expected = shrunk(space, '*', whole(space, dense), 0.1);
          const cuts = [0, ...inner, space.size];
          const shards = cuts.slice(1).map((end, i): PackedShard => {
            const start = cuts[i] ?? 0;
            const stored = sliceBits(mask, start, end);
            return { start, end, stored, weights: pack(dense.slice(start, end), stored) };
          });
          const parts = shards.map((shard) => lasso.squares(shard));
          const shared = parts.flatMap((part) => part.shared);
          shards.forEach((shard, i) => lasso.shrink(shard, [...(parts[i]?.own ?? []), ...shared], 0.1));
          assert.deepEqual(
            shards.flatMap(({ weights }) => [...weights]),
            [...pack(Float32Array.from(expected), mask)],
          );
        },
      ),
    );
  });
});
