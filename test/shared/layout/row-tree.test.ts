import assert from 'node:assert/strict';
import fc from 'fast-check';
import { combineRowNodes, rowNodes, type RowNode } from '../../../shared/layout/row-tree.ts';
import { fullBitmap } from '../../../shared/sparsity/bitmap.ts';

const nodesOf = (values: Float32Array, columns: number, from: number, to: number): RowNode[] =>
  rowNodes(
    { parameter: 0, columns, from, to, firstBit: 0, firstValue: 0 },
    values.subarray(from, to),
    fullBitmap(to - from),
  );

describe('sums down columns', () => {
  it('are those of a binary tree over the rows', () => {
    // Rows 1e8, 1, 1, 1: ((1e16 + 1) + (1 + 1)) where adding row by row would lose every 1.
    const values = Float32Array.of(1e8, 1, 1, 1);
    const [sum] = combineRowNodes(nodesOf(values, 1, 0, 4), 4, 1);
    assert.equal(sum, 1e16 + 2);
    assert.equal(
      values.reduce((all, each) => all + each * each, 0),
      1e16,
      'row by row',
    );
  });

  it('have the same bits wherever the matrix is cut, within rows too', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 9 }),
        fc.array(fc.float({ noNaN: true, min: -1e6, max: 1e6 }), { minLength: 1, maxLength: 120 }),
        fc.array(fc.nat(120), { maxLength: 4 }),
        (columns, raw, places) => {
          const rows = Math.ceil(raw.length / columns);
          const values = new Float32Array(rows * columns);
          values.set(raw);
          const cuts = [0, ...places.filter((at) => at < values.length).sort((a, b) => a - b), values.length];
          const parts = cuts.slice(1).flatMap((end, i) => nodesOf(values, columns, cuts[i] ?? 0, end));
          const whole = combineRowNodes(nodesOf(values, columns, 0, values.length), rows, columns);
          assert.deepEqual(combineRowNodes(parts.reverse(), rows, columns), whole);
          whole.forEach((sum, column) => {
            const exact = values.reduce((all, each, i) => (i % columns === column ? all + each * each : all), 0);
            assert.ok(Math.abs(sum - exact) <= 1e-12 * exact);
          });
        },
      ),
    );
  });

  it('come in few nodes: two a level at most, and the cut rows', () => {
    const values = new Float32Array(1000 * 3).fill(1);
    const nodes = nodesOf(values, 3, 4, 2999);
    assert.ok(nodes.length <= 2 * 10 + 2, `${nodes.length} nodes`);
  });

  it('refuses nodes that leave a row out or have other columns', () => {
    const values = new Float32Array(12).fill(1);
    assert.throws(() => combineRowNodes(nodesOf(values, 2, 0, 10), 6, 2), /PROTOCOL.*row 5 of 6/);
    assert.throws(() => combineRowNodes(nodesOf(values, 2, 0, 12), 6, 3), /PROTOCOL.*2 partial sums.*3 columns/);
  });
});
