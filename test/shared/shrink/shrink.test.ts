import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { ParameterSpace } from '../../../shared/layout/parameter-space.ts';
import { shrinkModel } from '../../../shared/shrink/shrink.ts';
import { countBits } from '../../../shared/sparsity/bitmap.ts';
import { descriptionOf, MODELS } from '../model-graph/models.ts';
import { distance, killed, OWN, outputsOf, trained } from './support.ts';

const { layers } = tfl;

describe('physical shrink', () => {
  before(() => tf.setBackend('cpu'));

  for (const [name, build] of Object.entries(MODELS)) {
    for (const roles of [OWN, [...OWN, 'consumer' as const]]) {
      const consumers = roles.length > OWN.length ? 'dead' : 'alive, constants are folded';
      it(`${name}: the same outputs with smaller tensors (consumers ${consumers})`, async () => {
        for (const seed of [1, 2]) {
          const model = killed(trained(descriptionOf(build()), seed), (_, unit) => (unit + seed) % 2 === 0, roles);
          const { model: small, units, refused } = shrinkModel(model, 'masked');
          assert.ok(distance(await outputsOf(model), await outputsOf(small)) < 1e-5);
          assert.deepEqual(refused, []);
          for (const { before, after } of units) {
            const dead = Math.floor((before + (seed % 2 === 0 ? 1 : 0)) / 2);
            assert.equal(after, before - dead);
          }
          const space = ParameterSpace.of(small.description.parameters);
          assert.equal(small.weights.length, space.size);
          assert.equal(small.slots['m']!.length, space.size);
          assert.equal(countBits(small.stored), space.size);
          const rebuilt = await tfl.models.modelFromJSON(structuredClone(small.description.topology) as never);
          assert.deepEqual(descriptionOf(rebuilt).parameters, small.description.parameters);
          assert.deepEqual(descriptionOf(rebuilt).states, small.description.states);
          assert.deepEqual(descriptionOf(rebuilt).layers, small.description.layers);
        }
      });
    }
  }

  it('survivors keep weight, slots and mask bit; nothing but biases changes', () => {
    const description = descriptionOf(MODELS.dense());
    const model = killed(trained(description, 3), (producers, unit) => producers[0] === 'dense_1/kernel' && unit === 1);
    const small = shrinkModel(model, 'masked').model;
    // dense_1/kernel [3, 4] without column 1, then bias [4] without 1, then dense_2/kernel [4, 3] without row 1.
    const kept = [0, 2, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16, 17, 18, 22, 23, 24, 25, 26, 27];
    for (const [values, now] of [
      [model.weights, small.weights],
      [model.slots['m']!, small.slots['m']!],
      [model.slots['v']!, small.slots['v']!],
    ] as const) {
      // relu(0) is 0: no constant to fold.
      assert.deepEqual(
        [...now.slice(0, kept.length)],
        kept.map((element) => values[element]),
      );
    }
    assert.deepEqual(
      small.description.parameters.map(({ shape }) => shape),
      [[3, 3], [3], [3, 3], [3], [3, 2], [2]],
    );
  });

  it('latent weights of dead elements play no part', async () => {
    const model = killed(trained(descriptionOf(MODELS.dense()), 4), (_, unit) => unit === 0);
    const other = {
      ...model,
      weights: model.weights.map((w, i) => (((model.mask[i >> 3]! >> (i & 7)) & 1) === 1 ? w : 99)),
    };
    assert.equal(
      distance(
        await outputsOf(shrinkModel(model, 'masked').model),
        await outputsOf(shrinkModel(other, 'masked').model),
      ),
      0,
    );
  });

  it('one unit stays of a kernel that is dead whole', async () => {
    const model = killed(
      trained(descriptionOf(MODELS.convolution()), 5),
      (producers) => producers[0] !== 'conv2d_2/kernel',
    );
    const { model: small, units } = shrinkModel(model, 'masked');
    assert.deepEqual(
      units.map(({ after }) => after),
      [1, 3, 1],
    );
    assert.ok(distance(await outputsOf(model), await outputsOf(small)) < 1e-5);
  });

  it('useless: units that compute a constant or that nothing reads go too, and what that makes useless', async () => {
    const model = trained(descriptionOf(MODELS.dense()), 6);
    const weights = model.weights.slice();
    // Column 0 of dense_1/kernel: unit 0 is relu(bias). Row 1 of dense_3/kernel: nothing reads unit 1 of dense_2.
    for (const element of [0, 4, 8]) weights[element] = 0;
    const { offset } = ParameterSpace.of(model.description.parameters).byName('dense_3/kernel')!;
    weights.fill(0, offset + 2, offset + 4);
    // Unit 2 of dense_1 is read by unit 1 of dense_2 alone.
    const second = ParameterSpace.of(model.description.parameters).byName('dense_2/kernel')!.offset;
    weights[second + 3 * 2] = 0;
    weights[second + 3 * 2 + 2] = 0;
    const before = { ...model, weights };
    assert.deepEqual(
      shrinkModel(before, 'masked').units.map(({ after }) => after),
      [4, 3],
    );
    const { model: small, units } = shrinkModel(before, 'useless');
    assert.deepEqual(
      units.map(({ before: b, after }) => [b, after]),
      [
        [4, 2],
        [3, 2],
      ],
    );
    assert.ok(distance(await outputsOf(before), await outputsOf(small)) < 1e-5);
  });

  it('batch normalisation makes a constant of zero unless beta is dead too', async () => {
    const model = killed(trained(descriptionOf(MODELS.convolution()), 7), (_, unit) => unit === 1, ['kernel', 'bias']);
    assert.deepEqual(
      shrinkModel(model, 'masked').units.map(({ after }) => after),
      [4, 2, 4],
    );
    const { model: small, units } = shrinkModel(model, 'useless');
    assert.deepEqual(
      units.map(({ after }) => after),
      [3, 2, 4],
    );
    assert.ok(distance(await outputsOf(model), await outputsOf(small)) < 1e-5);
  });

  const refusals: Record<string, [() => tfl.LayersModel, RegExp]> = {
    "padding 'same' after a constant": [
      () =>
        tfl.sequential({
          layers: [
            layers.conv2d({ filters: 2, kernelSize: 1, activation: 'sigmoid', inputShape: [4, 4, 1] }),
            layers.conv2d({ filters: 2, kernelSize: 3, padding: 'same', activation: 'relu' }),
            layers.flatten(),
            layers.dense({ units: 1 }),
          ],
        }),
      /constant 0\.5 meets the padding of layer conv2d_2/,
    ],
    'depthwise padding after a constant': [
      () =>
        tfl.sequential({
          layers: [
            layers.conv2d({ filters: 2, kernelSize: 1, activation: 'softplus', inputShape: [4, 4, 1] }),
            layers.zeroPadding2d({ padding: 1 }),
            layers.flatten(),
            layers.dense({ units: 1 }),
          ],
        }),
      /constant 0\.6931 does not stay one: layer zero_padding2d_1 puts zeros around/,
    ],
    'no bias to fold into': [
      () =>
        tfl.sequential({
          layers: [
            layers.dense({ units: 2, activation: 'sigmoid', inputShape: [3] }),
            layers.dense({ units: 2, useBias: false }),
          ],
        }),
      /layer dense_2 has no bias that its constant 0\.5 could be folded into/,
    ],
  };
  for (const [what, [build, why]] of Object.entries(refusals)) {
    it(`refused by name: ${what}`, async () => {
      const model = killed(
        trained(descriptionOf(build()), 8),
        (producers, unit) => unit === 1 && /_1\//.test(producers[0]!),
      );
      const { model: small, refused, units } = shrinkModel(model, 'masked');
      assert.equal(units[0]!.after, 2);
      assert.deepEqual(
        refused.map(({ producers, units: count }) => [producers[0]?.slice(-8), count]),
        [['1/kernel', 1]],
      );
      assert.match(refused[0]!.why, why);
      assert.equal(distance(await outputsOf(model), await outputsOf(small)), 0);
    });
  }

  it('refused by name: shared and custom layers', () => {
    const model = trained(descriptionOf(MODELS.odd()), 9);
    const { refused } = shrinkModel({ ...model, weights: model.weights.map(() => 0) }, 'useless');
    const why = new Map(refused.map((each) => [each.producers.join(), each.why]));
    assert.match(why.get('dense_1/kernel')!, /twin \(Dense\) is shared/);
    assert.match(why.get('twin/kernel')!, /twin \(Dense\) is shared/);
    assert.match(why.get('before/kernel')!, /doubled \(Twice\)/);
    assert.equal(why.has('dense_2/kernel'), false);
  });
});
