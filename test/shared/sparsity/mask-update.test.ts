import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import type { SparsityRule } from '../../../shared/config/types.ts';
import type { ParameterSpec } from '../../../shared/layout/model-description.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { cutEvenly } from '../../../shared/layout/shard-map.ts';
import { concatBits, emptyBitmap, getBit, setBit, sliceBits } from '../../../shared/sparsity/bitmap.ts';
import { planMaskUpdate, type MaskPlan } from '../../../shared/sparsity/mask-update.ts';
import { matches } from '../../../shared/sparsity/rules.ts';
import { pack } from '../../../shared/sparsity/packing.ts';
import { LocalSelection, type HistogramQuery, type ScoresQuery } from '../../../shared/sparsity/selection.ts';

type Mask = boolean[];

function ruleOf(sparsity: number, change: Partial<SparsityRule> = {}): SparsityRule {
  return {
    match: null,
    schedule: { kind: 'constant', finalSparsity: sparsity, beginStep: 5, endStep: 10, frequency: 5 },
    criterion: 'magnitude',
    granularity: 'element',
    scope: 'global',
    regrowth: 'none',
    protect: { minSurvivorsPerParameter: 0 },
    ...change,
  };
}

function specs(sizes: readonly number[], prunable: (index: number) => boolean = () => true): ParameterSpec[] {
  return sizes.map((size, i) => ({
    name: `layer_${i}/kernel`,
    shape: [size],
    layerKind: 'Dense',
    prunable: prunable(i),
  }));
}

/** What `planMaskUpdate` must do, written with one sort over everything. Returns the mask and the reports' counts. */
function naive(rules: readonly SparsityRule[], space: ParameterSpace, weights: Float32Array, before: Mask): Mask {
  const mask = [...before];
  for (const rule of rules) {
    const parameters = matches(rule, space);
    const groups = rule.scope === 'global' ? [parameters] : parameters.map((parameter) => [parameter]);
    for (const group of groups) {
      const indices = group.flatMap(({ offset, size }) => Array.from({ length: size }, (_, i) => offset + i));
      const alive = indices.filter((i) => mask[i]);
      const target = Math.floor(rule.schedule.finalSparsity * indices.length + 0.5);
      const ranked = (list: number[]): number[] =>
        list.sort((a, b) => Math.abs(weights[a] as number) - Math.abs(weights[b] as number) || a - b);
      const doomed = new Set(ranked(alive).slice(0, Math.max(0, target - (indices.length - alive.length))));
      for (const { offset, size } of group) {
        const own = ranked(Array.from({ length: size }, (_, i) => offset + i).filter((i) => mask[i]));
        const minimum = Math.min(rule.protect.minSurvivorsPerParameter, own.length);
        const kept = own.filter((i) => !doomed.has(i)).length;
        if (kept < minimum) own.slice(own.length - minimum).forEach((i) => doomed.delete(i));
      }
      doomed.forEach((i) => (mask[i] = false));
    }
  }
  return mask;
}

interface Held {
  readonly space: ParameterSpace;
  readonly weights: Float32Array;
  readonly before: Mask;
}

/** Decides and applies an update over shards cut at `cuts`. */
async function update(
  rules: readonly SparsityRule[],
  held: Held,
  cuts: readonly number[],
  onQuery: (query: HistogramQuery) => void = () => undefined,
): Promise<{ plan: MaskPlan; mask: Mask }> {
  const bits = bitmapOf(held.before);
  const shards = cuts.slice(1).map((end, i) => {
    const start = cuts[i] as number;
    const mask = sliceBits(bits, start, end);
    return { start, end, mask, weights: pack(held.weights.slice(start, end), mask), space: held.space };
  });
  const locals = shards.map((shard) => new LocalSelection(shard));
  const sources = locals.map((local) => ({
    histogram: (query: HistogramQuery): Promise<number[][]> => {
      onQuery(query);
      return Promise.resolve(local.histogram(query));
    },
    scores: (query: ScoresQuery) => Promise.resolve(local.scores(query)),
  }));
  const units = { groups: [], refused: new Map() };
  const plan = await planMaskUpdate({ rules, space: held.space, units, step: 5, seed: 1, sources, cuts });
  const parts = shards.map(({ start, end, mask, weights, space }, i) => {
    // A commit is applied by a server that may have answered no query at all (it comes of a kept record).
    const fresh = new LocalSelection({ start, end, mask, weights, space });
    return { bits: fresh.selected(plan.selections[i] ?? []).mask, length: end - start };
  });
  const after = concatBits(parts);
  return { plan, mask: held.before.map((_, i) => getBit(after, i)) };
}

function bitmapOf(mask: Mask): Uint8Array {
  const bits = emptyBitmap(mask.length);
  mask.forEach((alive, i) => alive && setBit(bits, i));
  return bits;
}

const weight = fc.oneof(
  { weight: 4, arbitrary: fc.float({ noNaN: true, noDefaultInfinity: true }) },
  { weight: 3, arbitrary: fc.constantFrom(1, -1, 0.5, 1.0000001192092896) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(0, -0, 1.401298464324817e-45, -2.802596928649634e-45, 3.4028234663852886e38),
  },
);
const kinds = fc.oneof(weight, fc.constant(0.25));

const held: fc.Arbitrary<Held> = fc
  .record({ sizes: fc.array(fc.integer({ min: 0, max: 150 }), { minLength: 1, maxLength: 6 }), equal: fc.boolean() })
  .chain(({ sizes, equal }) => {
    const n = sizes.reduce((sum, size) => sum + size, 0);
    const one = equal ? fc.constant(0.25) : kinds;
    return fc
      .record({
        weights: fc.array(one, { minLength: n, maxLength: n }),
        before: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: n, maxLength: n }),
        density: fc.integer({ min: 0, max: 10 }),
      })
      .map(({ weights, before, density }) => ({
        space: ParameterSpace.of(specs(sizes, (i) => i !== 1)),
        weights: Float32Array.from(weights),
        before: before.map((digit) => digit < density),
      }));
  });
const rule = fc
  .record({
    // Not fc.double, most of whose values are next to 0.
    sparsity: fc.integer({ min: 0, max: 1000 }).map((thousandths) => thousandths / 1000),
    scope: fc.constantFrom<SparsityRule['scope']>('global', 'layer'),
    match: fc.constantFrom(null, '*', 'layer_?/kernel', 'layer_0/*', 'nothing'),
    minimum: fc.constantFrom(0, 1, 4, 60),
  })
  .map(({ sparsity, scope, match, minimum }) =>
    ruleOf(sparsity, { scope, match, protect: { minSurvivorsPerParameter: minimum } }),
  );
const picks = fc.array(fc.nat(), { maxLength: 15 });

function cutsFrom(size: number, list: readonly number[]): number[] {
  const inner = list.map((pick) => Math.min(size, (pick % (Math.ceil(size / 64) + 1)) * 64));
  return [0, ...inner.sort((a, b) => a - b), size];
}

describe('mask update', () => {
  it('removes what one sort over everything removes, for 1 to 16 shards cut anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(held, fc.array(rule, { minLength: 1, maxLength: 3 }), picks, async (state, rules, list) => {
        const { plan, mask } = await update(rules, state, cutsFrom(state.weights.length, list));
        assert.deepEqual(mask, naive(rules, state.space, state.weights, state.before));
        const one = await update(rules, state, [0, state.weights.length]);
        assert.deepEqual(one.plan.reports, plan.reports);
      }),
      { numRuns: 300 },
    );
  });

  it('reports the counts that the masks have', async () => {
    await fc.assert(
      fc.asyncProperty(held, rule, picks, async (state, one, list) => {
        const { plan, mask } = await update([one], state, cutsFrom(state.weights.length, list));
        const indices = matches(one, state.space).flatMap(({ offset, size }) =>
          Array.from({ length: size }, (_, i) => offset + i),
        );
        const dead = (of: Mask): number => indices.filter((i) => !of[i]).length;
        const report = plan.reports[0];
        assert.ok(report);
        assert.equal(report.matched, indices.length);
        assert.equal(report.removed, dead(mask));
        assert.equal(report.newlyRemoved, dead(mask) - dead(state.before));
        if (one.scope === 'global') {
          assert.equal(report.pastTarget, dead(state.before) > report.targetRemoved);
          assert.equal(report.removed + report.protectedCount, Math.max(report.targetRemoved, dead(state.before)));
        }
        assert.ok(
          mask.every((alive, i) => !alive || state.before[i]),
          'nothing comes back',
        );
      }),
    );
  });

  it('takes one count and three histogram rounds, whatever the size', async () => {
    const queries: HistogramQuery[] = [];
    const space = ParameterSpace.of(specs([1000, 1000]));
    const weights = Float32Array.from({ length: 2000 }, (_, i) => Math.sin(i));
    await update([ruleOf(0.5)], { space, weights, before: weights.map(() => 1) as never }, [0, 2000], (q) =>
      queries.push(q),
    );
    assert.deepEqual(
      queries.map(({ round }) => round),
      [0, 1, 2, 3],
    );
    assert.deepEqual(
      queries.map(({ groups }) => groups.length),
      [2, 1, 1, 1],
    );
    assert.deepEqual(queries[1]?.groups, [[[0, 2000]]]);
  });

  it('removes ties by ascending flat index, across shards', async () => {
    const space = ParameterSpace.of(specs([256]));
    const state = { space, weights: new Float32Array(256).fill(-0.5), before: new Array<boolean>(256).fill(true) };
    const { plan, mask } = await update([ruleOf(0.625)], state, cutEvenly(256, 4));
    assert.deepEqual(
      mask,
      Array.from({ length: 256 }, (_, i) => i >= 160),
    );
    assert.deepEqual(
      plan.selections.map(([selection]) => selection?.action === 'remove' && selection.ties),
      [64, 64, 32, 0],
    );
  });

  it('lets the second rule count what the first one removed', async () => {
    const space = ParameterSpace.of(specs([10, 10]));
    const weights = Float32Array.from({ length: 20 }, (_, i) => i + 1);
    const rules = [ruleOf(0.9, { match: 'layer_1/*' }), ruleOf(0.5), ruleOf(0.1)];
    const { plan, mask } = await update(rules, { space, weights, before: new Array<boolean>(20).fill(true) }, [0, 20]);
    // Rule 0 kills 9 of layer 1, rule 1 wants 10 of 20 and takes the smallest of all, rule 2 is past its 2.
    assert.deepEqual(
      mask,
      Array.from({ length: 20 }, (_, i) => (i > 0 && i < 10) || i === 19),
    );
    assert.deepEqual(
      plan.reports.map(({ newlyRemoved, removed, pastTarget }) => [newlyRemoved, removed, pastTarget]),
      [
        [9, 9, false],
        [1, 10, false],
        [0, 10, true],
      ],
    );
  });

  it('keeps the survivors that protect asks for, and says so', async () => {
    const space = ParameterSpace.of(specs([4, 64]));
    const weights = Float32Array.from({ length: 68 }, (_, i) => (i < 4 ? 0.001 : 1 + i));
    const rules = [ruleOf(0.5, { protect: { minSurvivorsPerParameter: 1 } })];
    const { plan, mask } = await update(
      rules,
      { space, weights, before: new Array<boolean>(68).fill(true) },
      [0, 64, 68],
    );
    // 34 of 68 are wanted: all four of layer 0, of which the last of equals is kept, and 30 of layer 1.
    assert.deepEqual(
      mask,
      Array.from({ length: 68 }, (_, i) => i === 3 || i >= 34),
    );
    assert.deepEqual(plan.reports[0], {
      rule: 0,
      sparsity: 0.5,
      matched: 68,
      targetRemoved: 34,
      removed: 33,
      newlyRemoved: 33,
      protectedCount: 1,
      pastTarget: false,
    });
  });

  it('does not hand the tie quota of a protected parameter to others', async () => {
    // All equal: 12 of 20 wanted, so layer 0 (8) would die whole and layer 1 lose its first 4 of 12.
    const space = ParameterSpace.of(specs([8, 12]));
    const state = { space, weights: new Float32Array(20).fill(1), before: new Array<boolean>(20).fill(true) };
    const { plan, mask } = await update([ruleOf(0.6, { protect: { minSurvivorsPerParameter: 2 } })], state, [0, 20]);
    assert.deepEqual(
      mask,
      Array.from({ length: 20 }, (_, i) => i === 6 || i === 7 || i >= 12),
    );
    assert.equal(plan.reports[0]?.protectedCount, 2);
  });

  it('asks only the rules that have an update at this step', async () => {
    const space = ParameterSpace.of(specs([10]));
    const idle = ruleOf(0.9, {
      schedule: { kind: 'constant', finalSparsity: 0.9, beginStep: 4, endStep: 4, frequency: 1 },
    });
    const state = {
      space,
      weights: Float32Array.from({ length: 10 }, (_, i) => i),
      before: new Array<boolean>(10).fill(true),
    };
    const { plan, mask } = await update([idle, ruleOf(0.2)], state, [0, 10]);
    assert.deepEqual(
      plan.reports.map((report) => report.rule),
      [1],
    );
    assert.equal(mask.filter((alive) => !alive).length, 2);
  });

  it('refuses to rank scores that are not finite, unless the element is dead or not prunable', async () => {
    const space = ParameterSpace.of(specs([64, 64, 64], (i) => i !== 1));
    const weights = Float32Array.from({ length: 192 }, (_, i) => i);
    const alive = new Array<boolean>(192).fill(true);
    weights[70] = NaN;
    await update([ruleOf(0.5)], { space, weights, before: alive }, [0, 128, 192]);
    for (const bad of [NaN, Infinity, -Infinity]) {
      weights[150] = bad;
      await assert.rejects(update([ruleOf(0.5)], { space, weights, before: alive }, [0, 128, 192]), {
        code: 'NOT_FINITE',
        message: /element 150 \(in layer_2\/kernel\)/,
        data: { criterion: 'magnitude', index: 150, parameter: 'layer_2/kernel' },
      });
    }
    await update([ruleOf(0.5)], { space, weights, before: alive.map((_, i) => i !== 150) }, [0, 128, 192]);
  });

  it('says so when servers contradict themselves', async () => {
    const space = ParameterSpace.of(specs([64]));
    const source = {
      histogram: ({ round, groups }: HistogramQuery): Promise<number[][]> =>
        Promise.resolve(groups.map(() => (round === 0 ? [64] : new Array<number>(2048).fill(0)))),
      scores: () => Promise.reject(new Error('not asked for')),
    };
    const units = { groups: [], refused: new Map() };
    const update = { rules: [ruleOf(0.5)], space, units, step: 5, seed: 1, sources: [source], cuts: [0, 64] };
    await assert.rejects(planMaskUpdate(update), {
      code: 'PROTOCOL',
    });
  });

  it('ranks survivors only where more is stored', () => {
    const local = new LocalSelection({
      start: 0,
      end: 4,
      mask: Uint8Array.of(0b1010),
      stored: Uint8Array.of(0b1111),
      weights: Float32Array.of(1, 4, 2, 3),
    });
    const scoring = { criterion: 'magnitude', seed: 1 };
    const query = { scoring, population: 'alive', groups: [[[0, 4]]], prior: [], prefixes: [0] } as const;
    assert.deepEqual(local.histogram({ ...query, round: 0 }), [[2]]);
    // Element 3 (score 3) goes before element 1 (score 4): threshold key of 3.5.
    const { mask } = local.selected([
      { action: 'remove', scoring, ranges: [[0, 4]], threshold: 0x80000000 + 0x40600000, ties: 0 },
    ]);
    assert.deepEqual([...mask], [0b0010]);
  });
});

describe('golden masks of global and layer-wise magnitude pruning', () => {
  interface GoldenCase {
    readonly scope: SparsityRule['scope'];
    readonly criterion?: string;
    readonly sparsity: number;
    readonly layers: readonly { name: string; shape: number[]; weights: number[]; mask: number[] }[];
  }
  const golden = JSON.parse(readFileSync(new URL('../../golden/masks.json', import.meta.url), 'utf8')) as {
    cases: GoldenCase[];
  };
  const cases = golden.cases.filter(({ criterion }) => criterion === 'magnitude');
  assert.equal(cases.length, 10);
  for (const { scope, sparsity, layers } of cases) {
    it(`${scope} at ${sparsity}, on 1 and on 3 servers`, async () => {
      const space = ParameterSpace.of(
        layers.map(({ name, shape }) => ({ name, shape, layerKind: 'Dense', prunable: true })),
      );
      const weights = Float32Array.from(layers.flatMap((layer) => layer.weights));
      const expected = layers.flatMap((layer) => layer.mask.map((bit) => bit === 1));
      const before = expected.map(() => true);
      for (const servers of [1, 3]) {
        const { mask } = await update(
          [ruleOf(sparsity, { scope })],
          { space, weights, before },
          cutEvenly(space.size, servers),
        );
        assert.deepEqual(mask, expected);
      }
    });
  }
});
