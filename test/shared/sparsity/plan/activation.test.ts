import assert from 'node:assert/strict';
import type { SparsityRule } from '../../../../shared/config/types.ts';
import { ParameterSpace } from '../../../../shared/layout/parameter-space.ts';
import type { ModelUnits } from '../../../../shared/model-graph/unit-groups.ts';
import { fullBitmap, setPositions } from '../../../../shared/sparsity/bitmap.ts';
import { planMaskUpdate } from '../../../../shared/sparsity/mask-update.ts';
import { LocalSelection, type ScoresQuery } from '../../../../shared/sparsity/selection.ts';

const space = ParameterSpace.of([
  { name: 'a/kernel', shape: [64, 4], layerKind: 'Dense', prunable: true },
  { name: 'b/kernel', shape: [4, 2], layerKind: 'Dense', prunable: false },
]);
const rule = {
  match: 'a/kernel',
  schedule: { kind: 'oneShot', finalSparsity: 0.5, beginStep: 5, endStep: 5 },
  criterion: 'activation',
  granularity: { neuron: { norm: 2 } },
  scope: 'global',
  regrowth: 'none',
  protect: { minSurvivorsPerParameter: 1 },
} as SparsityRule;
const each = [0, 1, 2, 3].map((unit) => [unit]);
const units: ModelUnits = {
  groups: [
    {
      producers: ['a/kernel'],
      units: 4,
      members: [
        { parameter: 'a/kernel', role: 'kernel', axis: 1, positions: each },
        { parameter: 'b/kernel', role: 'consumer', axis: 0, positions: each },
      ],
    },
  ],
  refused: new Map(),
  states: new Map([
    ['a/activation_mean', [1, 5]],
    ['a/activation_zeros', [5, 9]],
  ]),
};
/** One value of another state, then means and shares of zeros. Scores: 2, 1, 0.5, 3. */
const STATE = Float32Array.of(9, 4, 1, 1, 3, 0.5, 0, 0.5, 0);

/** Dead columns of a/kernel after an update, with the shards cut so. */
async function deadAfter(cuts: readonly number[], states: ModelUnits['states'] = units.states): Promise<number[]> {
  const locals = cuts.slice(1).map((end, i) => {
    const start = cuts[i] ?? 0;
    const mask = fullBitmap(end - start);
    return new LocalSelection({ start, end, mask, weights: new Float32Array(end - start).fill(1), space });
  });
  const sources = locals.map((local) => ({
    histogram: () => Promise.reject(new Error('units are ranked in one place')),
    scores: (query: ScoresQuery) =>
      Promise.resolve(
        query.ofState === true
          ? { alive: fullBitmap(query.range[1] - query.range[0]), scores: STATE.slice(...query.range) }
          : local.scores(query),
      ),
  }));
  const { selections } = await planMaskUpdate({
    ...{ rules: [rule], space, step: 5, seed: 1, sources, cuts },
    units: { groups: units.groups, refused: units.refused, ...(states ? { states } : {}) },
  });
  const alive = new Set(
    locals.flatMap((local, i) =>
      [...setPositions(local.selected(selections[i] ?? []).mask)].map((at) => at + (cuts[i] ?? 0)),
    ),
  );
  return [0, 1, 2, 3].filter((unit) => !alive.has(unit));
}

describe('units ranked by what they give out', () => {
  it('lose those that are weak or often silent, for any number of servers', async () => {
    for (const cuts of [
      [0, 264],
      [0, 128, 264],
      [0, 64, 192, 264],
    ])
      assert.deepEqual(await deadAfter(cuts), [1, 2], cuts.join());
  });

  it('are refused where nothing was gathered', () =>
    assert.rejects(() => deadAfter([0, 264], new Map()), /UNSUPPORTED.*keeps no a\/activation_mean/));
});
