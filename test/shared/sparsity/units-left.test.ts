import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { SparsityRule } from '../../../shared/config/types.ts';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { emptyBitmap, getBit, setBit } from '../../../shared/sparsity/bitmap.ts';
import { type MaskPlan, planMaskUpdate } from '../../../shared/sparsity/mask-update.ts';
import { pack } from '../../../shared/sparsity/packing.ts';
import { LocalSelection } from '../../../shared/sparsity/selection.ts';

interface Element {
  readonly weight: number;
  /** `left`: it died and left the model. */
  readonly state: 'alive' | 'dead' | 'left';
}

const layers = fc.array(
  fc.array(
    fc.record({
      weight: fc.integer({ min: -50, max: 50 }),
      state: fc.constantFrom<Element['state']>('alive', 'alive', 'dead', 'left'),
    }),
    { minLength: 1, maxLength: 40 },
  ),
  { minLength: 1, maxLength: 4 },
);

function spaceOf(sizes: readonly number[]): ParameterSpace {
  return ParameterSpace.of(
    sizes.map((size, i) => ({ name: `dense_${i}/kernel`, shape: [size], layerKind: 'Dense', prunable: true })),
  );
}

/** Plans on one server that holds these elements, and answers which of them survive. */
async function survivors(
  rule: SparsityRule,
  parameters: readonly (readonly Element[])[],
  begun?: ParameterSpace,
): Promise<{ plan: MaskPlan; alive: Element[] }> {
  const elements = parameters.flat();
  const space = spaceOf(parameters.map(({ length }) => length));
  const mask = emptyBitmap(elements.length);
  for (const [i, { state }] of elements.entries()) if (state === 'alive') setBit(mask, i);
  const weights = pack(
    Float32Array.from(elements, ({ weight }) => weight),
    mask,
  );
  const local = new LocalSelection({ start: 0, end: elements.length, mask, weights, space });
  const source = {
    histogram: (query: Parameters<LocalSelection['histogram']>[0]) => Promise.resolve(local.histogram(query)),
    scores: (query: Parameters<LocalSelection['scores']>[0]) => Promise.resolve(local.scores(query)),
  };
  const units = { groups: [], refused: new Map() };
  const plan = await planMaskUpdate({
    ...{ rules: [rule], space, units, step: 5, seed: 1, sources: [source], cuts: [0, elements.length] },
    ...(begun ? { begun } : {}),
  });
  const after = local.selected(plan.selections[0] ?? []).mask;
  return { plan, alive: elements.filter((_, i) => getBit(after, i)) };
}

describe('a mask update after units left the model', () => {
  for (const scope of ['global', 'layer', 'erk'] as const) {
    it(`removes what it would with all of them still there, dead (${scope})`, async () => {
      const property = fc.asyncProperty(layers, fc.integer({ min: 0, max: 9 }), async (whole, tenths) => {
        const rule: SparsityRule = {
          match: null,
          schedule: { kind: 'oneShot', finalSparsity: tenths / 10, beginStep: 5, endStep: 5, frequency: 1 },
          criterion: 'magnitude',
          granularity: 'element',
          scope,
          regrowth: 'none',
          protect: { minSurvivorsPerParameter: 1 },
        };
        const begun = spaceOf(whole.map(({ length }) => length));
        const left = whole.map((elements) => elements.filter(({ state }) => state !== 'left'));
        const expected = await survivors(rule, whole);
        const found = await survivors(rule, left, begun);
        // The very same objects, in the same order.
        assert.equal(found.alive.length, expected.alive.length);
        assert.ok(found.alive.every((element, i) => element === expected.alive[i]));
        assert.deepEqual(found.plan.reports, expected.plan.reports);
      });
      await fc.assert(property, { numRuns: 200 });
    });
  }
});
