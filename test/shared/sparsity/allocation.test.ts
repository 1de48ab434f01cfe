import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { SparsityRule } from '../../../shared/config/types.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { allocate } from '../../../shared/sparsity/allocation/index.ts';
import { ownTargets } from '../../../shared/sparsity/allocation/own-targets.ts';
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

type Shapes = readonly (readonly [name: string, shape: readonly number[]])[];

const spaceOf = (shapes: Shapes): ParameterSpace =>
  ParameterSpace.of(shapes.map(([name, shape]) => ({ name, shape, layerKind: 'Dense', prunable: true })));

function ruleOf(finalSparsity: number, change: Partial<SparsityRule> = {}): SparsityRule {
  return {
    match: null,
    schedule: { kind: 'linear', initialSparsity: 0, finalSparsity, beginStep: 0, endStep: 100, frequency: 1 },
    criterion: 'magnitude',
    granularity: 'element',
    scope: 'global',
    regrowth: 'none',
    protect: { minSurvivorsPerParameter: 1 },
    ...change,
  };
}

type Group = [names: string[], size: number, removed: number];
const groupsOf = (rule: SparsityRule, shapes: Shapes, step = 100): Group[] =>
  allocate(rule, spaceOf(shapes).parameters, step).map(({ parameters, size, removed }) => [
    parameters.map(({ name }) => name),
    size,
    removed,
  ]);

describe('allocation', () => {
  const shapes: Shapes = [
    ['a', [5]],
    ['b', [3, 5]],
  ];

  it('ranks all together when global', () => {
    assert.deepEqual(groupsOf(ruleOf(0.5), shapes), [[['a', 'b'], 20, 10]]);
    assert.deepEqual(groupsOf(ruleOf(0.5), []), []);
  });

  it('ranks each parameter by itself when by layer', () => {
    assert.deepEqual(groupsOf(ruleOf(0.5, { scope: 'layer' }), shapes), [
      [['a'], 5, 3],
      [['b'], 15, 8],
    ]);
  });

  it('follows the schedule', () => {
    assert.deepEqual(
      [0, 50, 100, 200].map((step) => groupsOf(ruleOf(0.5), shapes, step)[0]?.[2]),
      [0, 5, 10, 10],
    );
  });

  it('counts units: blocks, neurons, and the groups that n:m asks for', () => {
    const kernel: Shapes = [['k', [8, 6]]];
    const removed = (granularity: SparsityRule['granularity'], sparsity: number): Group | undefined =>
      groupsOf(ruleOf(sparsity, { granularity }), kernel)[0];
    assert.deepEqual(removed({ block: [4, 2], norm: 2 }, 0.5), [['k'], 6, 3]);
    assert.deepEqual(removed({ neuron: { norm: 2 } }, 0.5), [['k'], 6, 3]);
    // 48 elements are 12 groups of 4. At 2:4 half of a group dies: 0.25 of the elements are half of the groups.
    assert.deepEqual(removed({ nm: [2, 4] }, 0.25), [['k'], 12, 6]);
    assert.deepEqual(removed({ nm: [2, 4] }, 0.5), [['k'], 12, 12]);
    assert.deepEqual(removed({ nm: [1, 4] }, 0.75), [['k'], 12, 12]);
    // 0.2 / 0.5 x 12 = 4.8, and 0.1 / 0.75 x 12 = 1.6.
    assert.deepEqual(removed({ nm: [2, 4] }, 0.2), [['k'], 12, 5]);
    assert.deepEqual(removed({ nm: [1, 4] }, 0.1), [['k'], 12, 2]);
  });

  it('gives overridden parameters their own scaled curve, and the others the rest of the rule', () => {
    const three: Shapes = [
      ['a/kernel', [10]],
      ['b/kernel', [10]],
      ['c/kernel', [20]],
    ];
    const rule = ruleOf(0.8, {
      overrides: [
        { match: 'b/*', finalSparsity: 0.4 },
        { match: '*', finalSparsity: 0 },
      ],
    });
    // c and a fall to the second glob, b only to the first.
    assert.deepEqual(groupsOf(rule, three), [
      [['a/kernel'], 10, 0],
      [['b/kernel'], 10, 4],
      [['c/kernel'], 20, 0],
    ]);
    const one = ruleOf(0.8, { overrides: [{ match: 'b/*', finalSparsity: 0.4 }] });
    assert.deepEqual(groupsOf(one, three), [
      [['a/kernel', 'c/kernel'], 30, 24],
      [['b/kernel'], 10, 4],
    ]);
    // Half way 0.4 of the others and 0.2 of b.
    assert.deepEqual(groupsOf(one, three, 50), [
      [['a/kernel', 'c/kernel'], 30, 12],
      [['b/kernel'], 10, 2],
    ]);
  });

  it('reaches an override exactly, whatever the ratio rounds to', () => {
    // Of one element a half goes, and a hair less does not.
    fc.assert(
      fc.property(fc.double({ min: 0.01, max: 1, maxExcluded: true, noNaN: true }), (final) => {
        const rule = ruleOf(final, { overrides: [{ match: '*', finalSparsity: 0.5 }] });
        assert.equal(groupsOf(rule, [['a', [1]]])[0]?.[2], 1);
      }),
      { numRuns: 500 },
    );
  });
});

describe('own targets', () => {
  const shapes: Shapes = [
    ['a/kernel', [10, 10]],
    ['b/kernel', [40, 10]],
  ];
  const own = (...rules: SparsityRule[]): object => Object.fromEntries(ownTargets(rules, spaceOf(shapes)));

  it('are those of parameters that are ranked within themselves', () => {
    assert.deepEqual(own(ruleOf(0.5)), {});
    assert.deepEqual(own(ruleOf(0.5, { scope: 'layer' })), { 'a/kernel': 0.5, 'b/kernel': 0.5 });
    // Of what two rules ask for the larger counts, in elements where units die in part.
    const half = ruleOf(0.5, { match: 'a/*', granularity: { nm: [2, 4] }, scope: 'layer' });
    const most = ruleOf(0.5, { overrides: [{ match: 'a/*', finalSparsity: 0.7 }] });
    assert.deepEqual(own(half), { 'a/kernel': 0.5 });
    assert.deepEqual(own(half, most), { 'a/kernel': 0.7, 'b/kernel': 0.5 });
  });
});

describe('Erdos-Renyi-kernel', () => {
  const lenet300: Shapes = [
    ['fc1', [784, 300]],
    ['fc2', [300, 100]],
    ['fc3', [100, 10]],
  ];
  const lenet5: Shapes = [
    ['conv1', [5, 5, 1, 20]],
    ['conv2', [5, 5, 20, 50]],
    ['fc1', [800, 500]],
    ['fc2', [500, 10]],
  ];
  // JaxPruner's and RigL's algorithm on both networks.
  const golden: readonly [shapes: Shapes, sparsity: number, layers: readonly number[]][] = [
    [lenet300, 0.9, [0.92043, 0.76981, 0]],
    [lenet300, 0.95, [0.96152, 0.88867, 0.08149]],
    [lenet300, 0.98, [0.98461, 0.95547, 0.6326]],
    [lenet300, 0.99, [0.9923, 0.97773, 0.8163]],
    [lenet5, 0.9, [0, 0.91293, 0.91157, 0]],
    [lenet5, 0.95, [0.27388, 0.96252, 0.96194, 0]],
    [lenet5, 0.98, [0.72211, 0.98566, 0.98543, 0.54283]],
    [lenet5, 0.99, [0.86106, 0.99283, 0.99272, 0.77142]],
  ];
  for (const [shapes, sparsity, layers] of golden) {
    it(`of ${shapes.map(([name]) => name).join(', ')} at ${sparsity}`, () => {
      const groups = groupsOf(ruleOf(sparsity, { scope: 'erk' }), shapes);
      groups.forEach(([, size, removed], i) => {
        // Counts are whole elements: conv1 has 500.
        const wanted = layers[i] as number;
        assert.ok(Math.abs(removed / size - wanted) <= 0.5 / size + 5e-5, `${removed / size} is not ${wanted}`);
      });
      const total = groups.reduce((sum, [, size]) => sum + size, 0);
      const removed = groups.reduce((sum, [, , count]) => sum + count, 0);
      assert.ok(Math.abs(removed - sparsity * total) <= groups.length / 2, `${removed} of ${total}`);
    });
  }

  it('er looks at inputs and outputs only', () => {
    // Raw densities: [2, 2, 10, 10] and [10, 10] have (10 + 10) / 100 alike; erk gives the kernel 24 / 400.
    const two: Shapes = [
      ['conv', [2, 2, 10, 10]],
      ['dense', [10, 10]],
    ];
    assert.deepEqual(
      groupsOf(ruleOf(0.8, { scope: 'er' }), two).map(([, , removed]) => removed),
      [320, 80],
    );
    // Budget 100 elements; raw x size is 24 and 20: 54.5 and 45.5 elements stay.
    assert.deepEqual(
      groupsOf(ruleOf(0.8, { scope: 'erk' }), two).map(([, , removed]) => removed),
      [345, 55],
    );
  });

  it('keeps within the budget for any shapes, and no parameter comes back as sparsity rises', () => {
    const shape = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 });
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(
        fc.array(shape, { minLength: 1, maxLength: 6 }),
        share,
        share,
        fc.constantFrom<SparsityRule['scope']>('erk', 'er'),
        (shapes, one, other, scope) => {
          const named = shapes.map((each, i) => [`p${i}`, each] as const);
          const [low, high] = [Math.min(one, other), Math.max(one, other)];
          const sparser = groupsOf(ruleOf(high, { scope }), named);
          groupsOf(ruleOf(low, { scope }), named).forEach(([, size, removed], i) => {
            assert.ok(removed >= 0 && removed <= size);
            assert.ok(removed <= (sparser[i]?.[2] ?? 0) + 1, 'one element by rounding');
          });
          const total = sparser.reduce((sum, [, size]) => sum + size, 0);
          const removed = sparser.reduce((sum, [, , count]) => sum + count, 0);
          assert.ok(Math.abs(removed - high * total) <= named.length / 2 + 1e-6);
        },
      ),
    );
  });
});
