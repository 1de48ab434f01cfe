import assert from 'node:assert/strict';
import { deadFraction, reportLayers, reportLayersOf } from '../../../shared/checkpoint/layer-report.ts';
import type { Manifest } from '../../../shared/checkpoint/manifest.ts';
import { CheckpointStore } from '../../../shared/checkpoint/store.ts';
import type { SparsityRule } from '../../../shared/config/types.ts';
import { bitmap, cut, isSet, model, useFolder, wholeSnapshot, writeCheckpoint } from './fixtures.ts';

describe('reportLayers', () => {
  const folder = useFolder();
  const whole = wholeSnapshot();

  /** The snapshot of the fixtures with another mask; what dies stays stored. */
  function masked(survives: (index: number) => boolean) {
    return { ...whole, mask: bitmap(300, (i) => survives(i) && isSet(whole.stored, i)) };
  }
  const located = (store: CheckpointStore, manifest: Manifest) => ({ folder: store.folderOf(manifest), manifest });

  it('counts mask bits, survivors of exactly zero, units without a survivor, and bytes', async () => {
    const store = new CheckpointStore(folder());
    const manifest = await writeCheckpoint(store, { cuts: [0, 64, 192, 300] });
    // Survivors: i % 3 != 1 and i % 5 != 2, that is 8 of every 15. Of 0..99: 6 * 8 of the first 90, and of 90..99
    // (0..9 by residue: 0, 3, 5, 6, 8, 9) 6. Of 0..299: 20 * 8. Only element 0 weighs 0.
    // The kernel is [10, 10]: units 2 and 7 have i % 5 = 2 throughout. Of the 200 elements of the vector 94 are dead.
    assert.deepEqual(await reportLayers(located(store, manifest), null), [
      {
        ...{ name: 'dense_1/kernel', size: 100, survivors: 54, zeroSurvivors: 1, bytes: 216 },
        ...{ prunable: true, units: 10, deadUnits: 2, churn: null },
      },
      {
        ...{ name: 'dense_1/bias', size: 200, survivors: 106, zeroSurvivors: 0, bytes: 424 },
        ...{ prunable: false, units: 200, deadUnits: 94, churn: null },
      },
    ]);
  });

  it('takes units from where kernels have them', async () => {
    const store = new CheckpointStore(folder());
    const shapes = [
      // [height, width, out, in]: 3 filters of 4 neighbours; [height, width, in, multiplier]: 6 of single elements.
      { name: 'up/kernel', shape: [1, 10, 3, 4], layerKind: 'Conv2DTranspose', prunable: true },
      { name: 'deep/depthwise_kernel', shape: [5, 6, 3, 2], layerKind: 'DepthwiseConv2D', prunable: false },
    ];
    const description = { ...model(), parameters: shapes };
    // Of 0..119 filter 1 is dead: floor(i / 4) % 3; of the 180 behind, element 5 of each 6.
    const snapshot = masked((i) => (i < 120 ? Math.floor(i / 4) % 3 !== 1 : (i - 120) % 6 !== 5));
    const manifest = await writeCheckpoint(store, { whole: { ...snapshot, state: whole.state }, description });
    const layers = await reportLayers(located(store, manifest), null);
    // The fixtures' snapshot leaves out i % 3 = 1 besides: elements 1 and 4 of each 6.
    assert.deepEqual(
      layers.map(({ units, deadUnits }) => [units, deadUnits]),
      [
        [3, 1],
        [6, 3],
      ],
    );
  });

  it('says which parameters the rules match, or, without rules, which one without match would', async () => {
    const store = new CheckpointStore(folder());
    const manifest = await writeCheckpoint(store);
    const prunable = async (match: string | null): Promise<boolean[]> => {
      const config = { ...manifest.config, sparsity: [{ match } as SparsityRule] };
      const layers = await reportLayers(located(store, { ...manifest, config }), null);
      return layers.map((layer) => layer.prunable);
    };
    assert.deepEqual(await prunable(null), [true, false]);
    assert.deepEqual(await prunable('*/bias'), [false, true]);
  });

  it('compares with the newest usable checkpoint before it', async () => {
    const store = new CheckpointStore(folder());
    await writeCheckpoint(store, { clock: 5 });
    // At clock 10 elements 0 and 3 died, and 2 (of i % 5 = 2) came back; the vector is as it was.
    const later = masked((i) => (i === 2 || i % 5 !== 2) && i !== 0 && i !== 3);
    const manifest = await writeCheckpoint(store, { clock: 10, whole: later, cuts: [0, 192, 300] });
    const layers = await reportLayersOf(located(store, manifest), store, []);
    assert.deepEqual(
      layers.map(({ churn }) => churn),
      [
        { since: 5, died: 2, regrown: 1 },
        { since: 5, died: 0, regrown: 0 },
      ],
    );
    const first = await store.read(store.folderName(5, 1));
    assert.deepEqual(
      (await reportLayersOf(located(store, first), store, [])).map(({ churn }) => churn),
      [null, null],
    );
  });

  it('counts what left the model as dead elements of it, of the sizes that the run began with', async () => {
    const store = new CheckpointStore(folder());
    const { parameters, states } = model();
    const begun = [{ ...parameters[0]!, shape: [10, 14] }, parameters[1]!];
    const description = { ...model(), shrunkFrom: { parameters: begun, states } };
    const manifest = await writeCheckpoint(store, { description });
    const [kernel, bias] = await reportLayers(located(store, manifest), null);
    assert.deepEqual(
      [kernel!.size, kernel!.left, kernel!.survivors, kernel!.units, kernel!.deadUnits],
      [140, 40, 54, 14, 4 + 2],
    );
    assert.deepEqual([bias!.size, bias!.left], [200, undefined]);
  });

  it('does not compare what was shrunk in between', async () => {
    const store = new CheckpointStore(folder());
    const before = await writeCheckpoint(store, { clock: 5 });
    const small = cut(whole, 0, 250, whole.state);
    const manifest = await writeCheckpoint(store, { clock: 10, whole: small, cuts: [0, 250] });
    const layers = await reportLayers(located(store, manifest), located(store, before));
    assert.deepEqual(
      layers.map(({ churn }) => churn?.since ?? null),
      [5, null],
    );
  });
});

describe('deadFraction', () => {
  it('is over all elements, 0 without any', () => {
    assert.equal(deadFraction([]), 0);
    assert.equal(
      deadFraction([
        { size: 90, survivors: 0 },
        { size: 10, survivors: 5 },
      ]),
      0.95,
    );
  });
});
