import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import type { GranularityConfig } from '../../../../shared/config/types.ts';
import { allocate } from '../../../../shared/sparsity/allocation/index.ts';
import { keysInPlace } from '../../../../shared/sparsity/criterion/key.ts';
import { unitScores } from '../../../../shared/sparsity/granularity/group-norm.ts';
import { granularityOf } from '../../../../shared/sparsity/granularity/index.ts';
import { nmGroups } from '../../../../shared/sparsity/granularity/nm.ts';
import { ParameterSpace } from '../../../../shared/layout/parameter-space.ts';

interface GoldenCase {
  readonly scope: string;
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

/** Units that go at a sparsity: the lowest scores, ties by index. */
function lowest(scores: Float32Array, count: number): Set<number> {
  const keys = keysInPlace(scores.slice());
  const order = [...keys.keys()].sort((a, b) => (keys[a] as number) - (keys[b] as number) || a - b);
  return new Set(order.slice(0, count));
}

/** The mask of one parameter of inputs by outputs, pruned by magnitude at a sparsity. */
function maskOf(config: GranularityConfig, shape: readonly number[], weights: readonly number[], sparsity: number) {
  const space = ParameterSpace.of([{ name: 'dense_1/kernel', shape, layerKind: 'Dense', prunable: true }]);
  const [group] = allocate(
    {
      match: null,
      schedule: { kind: 'oneShot', finalSparsity: sparsity, beginStep: 0, endStep: 0, frequency: 1 },
      criterion: 'magnitude',
      granularity: config,
      scope: 'global',
      regrowth: 'none',
      protect: { minSurvivorsPerParameter: 0 },
    },
    space.parameters,
    0,
  );
  const granularity = granularityOf(config);
  const unitOf = granularity.unitOf(shape);
  const numUnits = granularity.numUnits(shape);
  const scores = Float32Array.from(weights, Math.abs);
  const mask = weights.map(() => 1);
  if (typeof config === 'object' && 'nm' in config) {
    const { lost, dies, offsets } = nmGroups(
      scores,
      new Uint8Array(weights.length).fill(1),
      unitOf,
      numUnits,
      ...config.nm,
    );
    for (const unit of lowest(lost, group?.removed ?? 0)) {
      for (const element of dies.slice(offsets[unit], offsets[unit + 1])) mask[element] = 0;
    }
    return mask;
  }
  const norm = config === 'element' ? 1 : 'block' in config ? config.norm : Object.values(config)[0]!.norm;
  const dead = lowest(unitScores(scores, unitOf, numUnits, norm), group?.removed ?? 0);
  return mask.map((_, i) => (dead.has(unitOf[i] as number) ? 0 : 1));
}

describe('golden masks', () => {
  const rows = golden.cases.filter(({ granularity }) => granularity === 'row');
  assert.deepEqual(
    rows.map(({ norm }) => norm),
    [1, 2],
  );
  for (const { norm = 1, sparsity, layers } of rows) {
    for (const { name, shape, weights, mask } of layers) {
      it(`neurons of ${name} by L${norm} at ${sparsity}`, () => {
        const found = maskOf({ neuron: { norm } }, [shape[1], shape[0]], transpose(weights, shape), sparsity);
        assert.deepEqual(found, transpose(mask, shape));
      });
    }
  }

  const nm = golden.cases.filter(({ granularity }) => granularity === 'n:m');
  assert.equal(nm.length, 1);
  for (const { n = 0, m = 0, layers } of nm) {
    for (const { name, shape, weights, mask } of layers) {
      it(`${n}:${m} of ${name}`, () => {
        const found = maskOf({ nm: [n, m] }, [shape[1], shape[0]], transpose(weights, shape), 1 - n / m);
        assert.deepEqual(found, transpose(mask, shape));
      });
    }
  }

  const elements = golden.cases.filter(({ granularity, scope }) => granularity === undefined && scope === 'layer');
  assert.equal(elements.length, 5);
  for (const { sparsity, layers } of elements) {
    it(`elements at ${sparsity}`, () => {
      for (const { shape, weights, mask } of layers) {
        assert.deepEqual(maskOf('element', shape, weights, sparsity), mask);
      }
    });
  }

  it('are all covered, together with the tests of mask updates', () => {
    assert.equal(golden.cases.length, 10 + rows.length + nm.length);
  });
});

describe('granularity', () => {
  it('element: every element is a unit', () => {
    const element = granularityOf('element');
    assert.equal(element.numUnits([3, 4, 5]), 60);
    assert.deepEqual([...element.unitOf([2, 2])], [0, 1, 2, 3]);
  });

  it('block: [rows, columns] of inputs by outputs', () => {
    const block = granularityOf({ block: [2, 3], norm: 2 });
    assert.equal(block.numUnits([4, 6]), 4);
    // prettier-ignore
    assert.deepEqual([...block.unitOf([4, 6])], [
      0, 0, 0, 1, 1, 1,
      0, 0, 0, 1, 1, 1,
      2, 2, 2, 3, 3, 3,
      2, 2, 2, 3, 3, 3,
    ]);
    // A convolution of two taps, two inputs and three outputs is the same matrix.
    assert.deepEqual(block.unitOf([2, 1, 2, 3]), block.unitOf([4, 3]));
  });

  it('n:m: groups along the inputs, within a tap', () => {
    const nm = granularityOf({ nm: [1, 2] });
    assert.equal(nm.numUnits([4, 3]), 6);
    // prettier-ignore
    assert.deepEqual([...nm.unitOf([4, 3])], [
      0, 1, 2,
      0, 1, 2,
      3, 4, 5,
      3, 4, 5,
    ]);
    // [2, 1, 4, 3]: element (tap, input, output) is of group (tap, input / 2, output).
    const units = nm.unitOf([2, 1, 4, 3]);
    for (let i = 0; i < units.length; i++) {
      const [tap, input, output] = [Math.floor(i / 12), Math.floor(i / 3) % 4, i % 3];
      assert.equal(units[i], tap * 6 + Math.floor(input / 2) * 3 + output);
    }
  });

  it('neuron and filter: the outputs', () => {
    for (const config of [{ neuron: { norm: 2 } }, { filter: { norm: 2 } }] as const) {
      const granularity = granularityOf(config);
      assert.equal(granularity.numUnits([5, 5, 3, 2]), 2);
      assert.deepEqual([...granularity.unitOf([1, 2, 2])], [0, 1, 0, 1]);
    }
  });

  it('every unit has the same number of elements', () => {
    const side = fc.integer({ min: 1, max: 4 });
    fc.assert(
      fc.property(side, side, side, side, fc.nat(3), (height, width, a, b, pick) => {
        const m = height + 1;
        const configs: GranularityConfig[] = [
          'element',
          { block: [height, width], norm: 2 },
          { nm: [1, m] },
          { neuron: { norm: 1 } },
        ];
        const granularity = granularityOf(configs[pick] as GranularityConfig);
        const shape = [2, a * height * m, b * width];
        const counts = new Uint32Array(granularity.numUnits(shape));
        for (const unit of granularity.unitOf(shape)) counts[unit] = (counts[unit] as number) + 1;
        assert.equal(new Set(counts).size, 1);
      }),
    );
  });

  const refusals: readonly [
    config: GranularityConfig,
    name: string,
    shape: number[],
    kind: string,
    says: RegExp | null,
  ][] = [
    [{ block: [4, 1], norm: 2 }, 'a/kernel', [8, 3], 'Dense', null],
    [{ block: [4, 1], norm: 2 }, 'a/kernel', [9, 3], 'Dense', /9 rows \(inputs\) of a\/kernel \[9, 3\].*multiple of 4/],
    [{ block: [4, 2], norm: 2 }, 'a/kernel', [8, 3], 'Dense', /3 columns \(outputs\).*multiple of 2.*divisor of 3/],
    [{ block: [4, 2], norm: 2 }, 'a/bias', [8], 'Dense', /a\/bias \[8\] is no matrix/],
    [{ nm: [2, 4] }, 'a/kernel', [3, 3, 8, 5], 'Conv2D', null],
    // 36 rows could be cut into fours, the 6 inputs of a tap cannot.
    [{ nm: [2, 4] }, 'a/kernel', [3, 2, 6, 5], 'Conv2D', /6 inputs of a\/kernel \[3, 2, 6, 5\] are no multiple of 4/],
    [{ nm: [2, 4] }, 'a/kernel', [3, 3, 4, 8], 'Conv2DTranspose', /Conv2DTranspose has its inputs last/],
    [{ nm: [2, 4] }, 'a/depthwise_kernel', [3, 3, 4, 1], 'DepthwiseConv2D', /sums over no inputs/],
    [{ nm: [2, 4] }, 'a/bias', [8], 'Dense', /no input axis/],
    [{ neuron: { norm: 2 } }, 'a/kernel', [8, 3], 'Dense', null],
    [{ neuron: { norm: 2 } }, 'a/kernel', [3, 3, 8, 3], 'Conv2D', /\{filter: \{norm: 2\}\}/],
    [{ neuron: { norm: 2 } }, 'a/bias', [3], 'Dense', /no kernel of a dense layer/],
    [{ filter: { norm: 2 } }, 'a/kernel', [3, 3, 8, 3], 'Conv2D', null],
    [{ filter: { norm: 2 } }, 'a/pointwise_kernel', [1, 1, 8, 3], 'SeparableConv2D', null],
    [{ filter: { norm: 2 } }, 'a/kernel', [8, 3], 'Dense', /\{neuron: \{norm: 2\}\}/],
    [{ filter: { norm: 2 } }, 'a/kernel', [3, 3, 4, 8], 'Conv2DTranspose', /whose filters cannot be removed/],
    [{ filter: { norm: 2 } }, 'a/depthwise_kernel', [3, 3, 4, 1], 'DepthwiseConv2D', /no kernel of a convolution/],
    ['element', 'a/bias', [3], 'Dense', null],
  ];
  for (const [config, name, shape, layerKind, says] of refusals) {
    it(`${JSON.stringify(config)} ${says === null ? 'takes' : 'refuses'} ${name} of a ${layerKind}`, () => {
      const why = granularityOf(config).refuse({ name, shape, layerKind, prunable: true });
      if (says === null) assert.equal(why, null);
      else assert.match(why ?? '', says);
    });
  }
});

describe('unit scores', () => {
  const scores = Float32Array.of(1, -2, 3, -4, 0);
  const unitOf = Uint32Array.of(0, 1, 0, 1, 2);

  it('are sum, root of squares or mean of each', () => {
    assert.deepEqual(unitScores(scores, unitOf, 4, 1), Float32Array.of(4, 6, 0, 0));
    assert.deepEqual(unitScores(scores, unitOf, 4, 2), Float32Array.of(Math.sqrt(10), Math.sqrt(20), 0, 0));
    assert.deepEqual(unitScores(scores, unitOf, 4, 'mean'), Float32Array.of(2, -3, 0, 0));
  });

  it('stay finite and exact where float32 sums would not', () => {
    const large = Float32Array.of(3e38, 3e38);
    assert.deepEqual(unitScores(large, Uint32Array.of(0, 0), 1, 1), Float32Array.of(3.4028234663852886e38));
    assert.ok(Number.isFinite(unitScores(large, Uint32Array.of(0, 0), 1, 2)[0]));
    // 2^24 + 1 + 1: float32 would stay at 2^24.
    const sum = unitScores(Float32Array.of(2 ** 24, 1, 1), Uint32Array.of(0, 0, 0), 1, 1);
    assert.equal(sum[0], 2 ** 24 + 2);
  });
});

describe('n:m groups', () => {
  const alive = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes);
  const one = new Uint32Array(4);

  it('lose the lowest, ties by index, and add up what is lost', () => {
    const { lost, dies, offsets } = nmGroups(Float32Array.of(3, 1, 2, 1), alive(1, 1, 1, 1), one, 1, 2, 4);
    assert.deepEqual([...lost], [2]);
    assert.deepEqual([...dies], [1, 3]);
    assert.deepEqual([...offsets], [0, 2]);
    assert.deepEqual([...nmGroups(new Float32Array(4), alive(1, 1, 1, 1), one, 1, 2, 4).dies], [0, 1]);
    assert.deepEqual([...nmGroups(Float32Array.of(0, -0, 0, -0), alive(1, 1, 1, 1), one, 1, 2, 4).dies], [0, 1]);
  });

  it('count what is dead already first', () => {
    const scores = Float32Array.of(9, 1, 2, 3);
    assert.deepEqual([...nmGroups(scores, alive(0, 1, 1, 1), one, 1, 2, 4).dies], [1]);
    const done = nmGroups(scores, alive(0, 1, 0, 1), one, 1, 2, 4);
    assert.deepEqual([...done.dies, ...done.lost, ...done.offsets], [0, 0, 0]);
    assert.equal(nmGroups(scores, alive(0, 0, 0, 1), one, 1, 2, 4).dies.length, 0);
  });

  it('take scores below 0 in their order', () => {
    const { lost, dies } = nmGroups(Float32Array.of(1, -5, 2, -1), alive(1, 1, 1, 1), one, 1, 2, 4);
    assert.deepEqual([...dies], [1, 3]);
    assert.equal(lost[0], -6);
  });

  it('leave every group with n, or with what it had', () => {
    const granularity = granularityOf({ nm: [2, 4] });
    const shape = [8, 3];
    const cell = fc.record({ score: fc.float({ noNaN: true, noDefaultInfinity: true }), isAlive: fc.boolean() });
    fc.assert(
      fc.property(fc.array(cell, { minLength: 24, maxLength: 24 }), (cells) => {
        const bytes = Uint8Array.from(cells, ({ isAlive }) => Number(isAlive));
        const scores = Float32Array.from(cells, ({ score }) => score);
        const unitOf = granularity.unitOf(shape);
        const { dies } = nmGroups(scores, bytes, unitOf, 6, 2, 4);
        const left = bytes.slice();
        for (const element of dies) {
          assert.equal(left[element], 1);
          left[element] = 0;
        }
        const count = (of: Uint8Array, group: number): number =>
          of.reduce((sum, byte, i) => sum + (unitOf[i] === group ? byte : 0), 0);
        for (let group = 0; group < 6; group++) {
          assert.equal(count(left, group), Math.min(2, count(bytes, group)));
        }
      }),
    );
  });
});
