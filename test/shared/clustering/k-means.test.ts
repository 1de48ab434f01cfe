import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'mocha';
import { clusterValues } from '../../../shared/clustering/k-means.ts';
import { createRandom } from '../../../shared/kernels/random.ts';

const INITIALIZATIONS = ['linear', 'density'] as const;

function distinct(values: Float32Array): number[] {
  return [...new Set(values)].sort((a, b) => a - b);
}

function squaredError(values: Float32Array, clustered: Float32Array): number {
  return values.reduce((sum, value, i) => sum + (value - (clustered[i] as number)) ** 2, 0);
}

/** Least squared error of k contiguous clusters, by dynamic programming over the sorted values. */
function leastError(values: readonly number[], k: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const cost = (from: number, to: number): number => {
    const part = sorted.slice(from, to);
    const mean = part.reduce((a, b) => a + b, 0) / part.length;
    return part.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  };
  let best = sorted.map((_, i) => cost(0, i + 1));
  for (let clusters = 2; clusters <= k; clusters++) {
    best = sorted.map((_, i) =>
      Math.min(
        ...Array.from(
          { length: i + 1 },
          (_, from) => (from === 0 ? Infinity : (best[from - 1] as number)) + cost(from, i + 1),
        ),
        best[i] as number,
      ),
    );
  }
  return best.at(-1) as number;
}

describe('clusterValues', () => {
  for (const initialization of INITIALIZATIONS) {
    it(`finds groups that lie apart, ${initialization}`, () => {
      // Four groups and zeros: five values.
      const values = Float32Array.from([-2.1, 0, 1, -1.9, 0.11, 1.1, 0.09, 0, -0.5, 0.9, -0.5, 0.1]);
      const clustered = clusterValues(values, 5, initialization);
      const expected = [-2, 0, 1, -2, 0.1, 1, 0.1, 0, -0.5, 1, -0.5, 0.1].map(Math.fround);
      clustered.forEach((value, i) => assert.ok(Math.abs(value - (expected[i] as number)) < 1e-6, `${i}: ${value}`));
      assert.equal(distinct(clustered).length, 5);
    });

    it(`comes near the least squared error, ${initialization}`, () => {
      const random = createRandom(3);
      const values = Float32Array.from({ length: 60 }, () => random.float() + random.float() + random.float() - 1.5);
      const least = leastError([...values], 6);
      const found = squaredError(values, clusterValues(values, 6, initialization));
      // Lloyd's rests at a local minimum.
      assert.ok(found >= least * 0.999 && found < 1.5 * least, `${found}, at best ${least}`);
    });
  }

  it('keeps zeros at +0 and no more values than asked for, each the mean of what it stands for', () => {
    const numbers = fc.array(
      fc.oneof(
        fc.constant(0),
        fc.constant(-0),
        fc.float({ noNaN: true, noDefaultInfinity: true, min: -100, max: 100 }),
      ),
      {
        minLength: 1,
        maxLength: 200,
      },
    );
    fc.assert(
      fc.property(
        numbers,
        fc.integer({ min: 2, max: 12 }),
        fc.constantFrom(...INITIALIZATIONS),
        (list, clusters, how) => {
          const values = Float32Array.from(list);
          const clustered = clusterValues(values, clusters, how);
          values.forEach((value, i) => {
            if (value === 0) assert.ok(Object.is(clustered[i], 0));
          });
          const groups = new Map<number, number[]>();
          values.forEach((value, i) => {
            if (value === 0) return;
            const centroid = clustered[i] as number;
            groups.set(centroid, [...(groups.get(centroid) ?? []), value]);
          });
          const hasZeros = values.includes(0);
          assert.ok(groups.size <= clusters - (hasZeros ? 1 : 0));
          for (const [centroid, members] of groups) {
            const mean = members.reduce((a, b) => a + b, 0) / members.length;
            assert.ok(
              Math.abs(mean - centroid) <= 1e-5 * Math.max(1, ...members.map(Math.abs)),
              `${mean}, ${centroid}`,
            );
          }
        },
      ),
    );
  });

  it('keeps the order of values, and depends on their number and not on their places', () => {
    const random = createRandom(8);
    const values = Float32Array.from({ length: 5000 }, () => (random.float() < 0.3 ? 0 : random.float() ** 3 - 0.4));
    const clustered = clusterValues(values, 16, 'linear');
    const order = [...values.keys()].sort((a, b) => (values[a] as number) - (values[b] as number));
    for (let i = 1; i < order.length; i++)
      assert.ok(
        (clustered[order[i - 1] as number] as number) <= (clustered[order[i] as number] as number) ||
          values[order[i] as number] === 0 ||
          values[order[i - 1] as number] === 0,
      );
    assert.equal(distinct(clustered).length, 16);
    const sorted = clusterValues(values.slice().sort(), 16, 'linear');
    distinct(sorted).forEach((value, k) => assert.ok(Math.abs(value - (distinct(clustered)[k] as number)) < 1e-6));
    // Of a part of a larger buffer it reads that part only.
    const larger = new Float32Array(values.length + 2).fill(9);
    larger.set(values, 1);
    assert.deepEqual(clusterValues(larger.subarray(1, -1), 16, 'linear'), clustered);
  });

  it('leaves few values as they are', () => {
    const values = Float32Array.from([3, 0, -3, 3]);
    assert.deepEqual(clusterValues(values, 16, 'linear'), values);
    assert.deepEqual(clusterValues(new Float32Array(4), 2, 'density'), new Float32Array(4));
  });
});
