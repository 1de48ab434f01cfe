import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { getBit } from '../../../../shared/sparsity/bitmap.ts';
import { GRANULARITIES } from '../../../../shared/sparsity/granularity/index.ts';
import { lowestScores } from '../../../../shared/sparsity/granularity/lowest.ts';
import { nmMask } from '../../../../shared/sparsity/granularity/nm.ts';
import { rowMask, rowNorms } from '../../../../shared/sparsity/granularity/row.ts';

interface GoldenCase {
  readonly granularity?: string;
  readonly norm?: 1 | 2;
  readonly n?: number;
  readonly m?: number;
  readonly sparsity: number;
  readonly layers: readonly { name: string; shape: [out: number, inputs: number]; weights: number[]; mask: number[] }[];
}
const golden = JSON.parse(readFileSync(new URL('../../../golden/masks.json', import.meta.url), 'utf8')) as {
  cases: GoldenCase[];
};

/** [rows, columns] row-major to [columns, rows]. */
function transpose(values: readonly number[], [rows, columns]: readonly [number, number]): number[] {
  return Array.from({ length: values.length }, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number);
}
const flags = (bits: Uint8Array, length: number): number[] => Array.from({ length }, (_, i) => Number(getBit(bits, i)));

describe('granularity', () => {
  it('element: every element is a unit', () => assert.equal(GRANULARITIES.element.numUnits([3, 4, 5]), 60));

  it('the lowest scores come in order, equals by index, and scores stay as they are', () => {
    const scores = Float32Array.of(2, -0, 1, 0, -1);
    assert.deepEqual(lowestScores(scores, 4), [4, 1, 3, 2]);
    assert.deepEqual(scores, Float32Array.of(2, -0, 1, 0, -1));
  });

  const rows = golden.cases.filter(({ granularity }) => granularity === 'row');
  assert.deepEqual(
    rows.map(({ norm }) => norm),
    [1, 2],
  );
  for (const { norm, sparsity, layers } of rows) {
    for (const { name, shape, weights, mask } of layers) {
      it(`row: golden ${name} with L${norm} at ${sparsity}, as [out, in] and as [in, out]`, () => {
        const values = Float32Array.from(weights);
        assert.deepEqual(flags(rowMask(values, shape, 0, norm ?? 1, sparsity), mask.length), mask);
        const turned = Float32Array.from(transpose(weights, shape));
        const bits = rowMask(turned, [shape[1], shape[0]], 1, norm ?? 1, sparsity);
        assert.deepEqual(flags(bits, mask.length), transpose(mask, shape));
      });
    }
  }

  it('row: norms across any axis', () => {
    // Shape [2, 2, 2], values 1..8; axis 1 has rows {1, 2, 5, 6} and {3, 4, 7, 8}.
    const values = Float32Array.of(1, -2, 3, -4, 5, -6, 7, -8);
    assert.deepEqual(rowNorms(values, [2, 2, 2], 1, 1), Float32Array.of(14, 22));
    assert.deepEqual(rowNorms(values, [2, 2, 2], 1, 2), Float32Array.of(Math.sqrt(66), Math.sqrt(138)));
  });

  const nm = golden.cases.filter(({ granularity }) => granularity === 'n:m');
  assert.equal(nm.length, 1);
  for (const { n = 0, m = 0, layers } of nm) {
    for (const { name, shape, weights, mask } of layers) {
      it(`${n}:${m}: golden ${name}, as [out, in] and as [in, out]`, () => {
        assert.deepEqual(flags(nmMask(Float32Array.from(weights), shape, 1, n, m), mask.length), mask);
        const turned = Float32Array.from(transpose(weights, shape));
        assert.deepEqual(flags(nmMask(turned, [shape[1], shape[0]], 0, n, m), mask.length), transpose(mask, shape));
      });
    }
  }

  it('n:m removes equals by ascending index, and refuses an axis that does not divide', () => {
    assert.deepEqual(flags(nmMask(new Float32Array(4).fill(1), [4], 0, 2, 4), 4), [0, 0, 1, 1]);
    assert.throws(() => nmMask(new Float32Array(6), [6], 0, 2, 4), { code: 'UNSUPPORTED' });
  });

  it('covers every golden case together with the tests of mask updates', () => {
    assert.equal(golden.cases.length, 10 + rows.length + nm.length);
  });
});
