import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { SparsityRule } from '../../../shared/config/types.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { allocate } from '../../../shared/sparsity/allocation/index.ts';
import { removedCount } from '../../../shared/sparsity/allocation/removed-count.ts';

describe('removed count', () => {
  const cases: [sparsity: number, n: number, removed: number][] = [
    [0.95, 266_200, 252_890],
    [0.5, 5, 3],
    [0.5, 3, 2],
    [0.9, 25, 23], // 22.5 goes up
    [0, 10, 0],
    [1, 10, 10],
    [0.49999999999999994, 1, 0], // floor(x + 0.5) would give 1
    [0.5, 20_000_001, 10_000_001], // beyond the whole numbers of float32
  ];
  for (const [sparsity, n, removed] of cases) {
    it(`${sparsity} of ${n} is ${removed}`, () => assert.equal(removedCount(sparsity, n), removed));
  }

  it('is within half an element of sparsity x n and never falls with sparsity', () => {
    const fraction = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fraction, fraction, fc.integer({ min: 0, max: 1e9 }), (a, b, n) => {
        const removed = removedCount(a, n);
        assert.ok(removed - a * n <= 0.5 && removed - a * n > -0.5);
        assert.ok(removedCount(Math.min(a, b), n) <= removedCount(Math.max(a, b), n));
      }),
    );
  });
});

describe('allocation', () => {
  const { parameters } = ParameterSpace.of([
    { name: 'a', shape: [5], layerKind: 'Dense', prunable: true },
    { name: 'b', shape: [3, 5], layerKind: 'Dense', prunable: true },
  ]);
  const groups = (scope: SparsityRule['scope']): [string[], number, number][] =>
    allocate({ scope, granularity: 'element' } as SparsityRule, parameters, 0.5).map((group) => [
      group.parameters.map(({ name }) => name),
      group.size,
      group.removed,
    ]);

  it('ranks all together when global', () => assert.deepEqual(groups('global'), [[['a', 'b'], 20, 10]]));

  it('ranks each parameter by itself when by layer', () => {
    assert.deepEqual(groups('layer'), [
      [['a'], 5, 3],
      [['b'], 15, 8],
    ]);
  });
});
