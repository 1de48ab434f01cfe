import assert from 'node:assert/strict';
import type { SparsityRule } from '../../../../shared/config/types.ts';
import { ParameterSpace } from '../../../../shared/layout/parameter-space.ts';
import { clearBit, fullBitmap } from '../../../../shared/sparsity/bitmap.ts';
import { type MaskPlan, planMaskUpdate, raisesSparsity } from '../../../../shared/sparsity/mask-update.ts';
import { pack } from '../../../../shared/sparsity/packing.ts';
import { type HistogramQuery, LocalSelection, type ScoresQuery } from '../../../../shared/sparsity/selection.ts';

const SIZE = 64;
const space = ParameterSpace.of([{ name: 'a/kernel', shape: [SIZE], layerKind: 'Dense', prunable: true }]);
const RULE = {
  match: '*/kernel',
  schedule: {
    ...{ kind: 'linear', initialSparsity: 0, finalSparsity: 0.5, beginStep: 2, endStep: 10, frequency: 4 },
  },
  criterion: 'magnitude',
  granularity: 'element',
  scope: 'global',
  regrowth: 'none',
  protect: { minSurvivorsPerParameter: 1 },
} as SparsityRule;

/** What is decided at a step for 64 elements of which the first 8 are dead. */
function plan(rule: SparsityRule, step: number, catchesUp: boolean): Promise<MaskPlan> {
  const mask = fullBitmap(SIZE);
  for (let i = 0; i < 8; i++) clearBit(mask, i);
  const weights = pack(
    Float32Array.from({ length: SIZE }, (_, i) => i + 1),
    mask,
  );
  const local = new LocalSelection({ start: 0, end: SIZE, mask, weights, space });
  const source = {
    histogram: (query: HistogramQuery) => Promise.resolve(local.histogram(query)),
    scores: (query: ScoresQuery) => Promise.resolve(local.scores(query)),
  };
  return planMaskUpdate({
    ...{ rules: [rule], space, step, catchesUp, seed: 1, sources: [source], cuts: [0, SIZE] },
    units: { groups: [], refused: new Map() },
  });
}

describe('a mask update that catches up', () => {
  it('brings a rule that has begun to its target, also between and after its own updates', async () => {
    assert.deepEqual((await plan(RULE, 15, false)).reports, [], 'not by itself');
    assert.deepEqual((await plan(RULE, 2, true)).reports.length, 1, 'its own update');
    assert.deepEqual((await plan(RULE, 1, true)).reports, [], 'before it begins');
    // At step 7 that of step 6 is in force: a quarter of 64.
    assert.equal((await plan(RULE, 7, true)).reports[0]?.removed, 16);
    assert.equal((await plan(RULE, 15, true)).reports[0]?.removed, 32);
  });

  it('regrows nothing, and brings nothing back after the end of a straight-through rule', async () => {
    const grows = { ...RULE, regrowth: { kind: 'set', fraction: 0.3, initial: 'magnitude' } } as SparsityRule;
    const [report] = (await plan(grows, 7, true)).reports;
    assert.deepEqual([report?.removed, report?.newlyRemoved, report?.grown], [16, 8, undefined]);
    const late = await plan({ ...RULE, straightThrough: true }, 15, true);
    assert.ok(late.selections.flat().every(({ action }) => action !== 'revive'));
  });

  it('raises sparsity, which dropping and growing as many does not', async () => {
    assert.equal(raisesSparsity(await plan(RULE, 10, false)), true);
    const same = { ...RULE, schedule: { ...RULE.schedule, finalSparsity: 0.125 } } as SparsityRule;
    assert.equal(raisesSparsity(await plan(same, 10, false)), false);
    const grows = { ...same, schedule: { ...same.schedule, initialSparsity: 0.125 } } as SparsityRule;
    const regrowth = { kind: 'set', fraction: 0.3, initial: 'magnitude' } as const;
    const regrown = await plan({ ...grows, regrowth }, 6, false);
    assert.ok((regrown.reports[0]?.grown ?? 0) > 0);
    assert.equal(raisesSparsity(regrown), false);
  });
});
