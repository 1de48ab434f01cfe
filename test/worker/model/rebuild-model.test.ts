import assert from 'node:assert/strict';
import type { Tensor } from '@tensorflow/tfjs-core';
import { before, describe, it } from 'mocha';
import type { ModelDescription } from '../../../shared/layout/model-description.ts';
import { shrinkModel } from '../../../shared/shrink/shrink.ts';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { describeModel, variablesOf } from '../../../worker/model/describe-model.ts';
import type { LoadedModel } from '../../../worker/model/load-model.ts';
import { rebuildShrunk } from '../../../worker/model/rebuild-model.ts';
import { killed, trained } from '../../shared/shrink/support.ts';

const facts = { trainExamples: 1, testExamples: 1, notes: [] };

/** A frozen layer, a layer named by the user, dropout and batch normalisation. */
function load(): LoadedModel {
  const { layers } = tf;
  const model = tf.sequential({
    layers: [
      layers.dense({ units: 6, inputShape: [3], trainable: false, activation: 'relu' }),
      layers.dense({ units: 5, name: 'hidden' }),
      layers.batchNormalization(),
      layers.activation({ activation: 'relu' }),
      layers.dropout({ rate: 0.5 }),
      layers.dense({ units: 4, activation: 'relu' }),
      layers.dense({ units: 2 }),
    ],
  });
  return { model, loss: () => tf.scalar(1), source: './model.ts', notes: ['a note'] };
}

function shrunk({ model }: LoadedModel): ModelDescription {
  const flat = trained(describeModel(model, facts), 1);
  const dead = killed(flat, (producers, unit) => (producers[0] === 'hidden/kernel' ? unit < 2 : unit === 3));
  return shrinkModel(dead, 'masked').model.description;
}

describe('rebuilding a shrunk model', () => {
  before(() => loadBackend('wasm'));

  it("has the shapes and names of the description, the user's loss and the frozen weights", async () => {
    const loaded = load();
    const frozen = (loaded.model.layers[0]!.getWeights()[0] as Tensor).dataSync().slice();
    const description = shrunk(loaded);
    const draws = Math.random;
    const rebuilt = await rebuildShrunk(tf, loaded, description);
    assert.equal(Math.random, draws);
    assert.notEqual(rebuilt.model, loaded.model);
    const { shrunkFrom, ...others } = description;
    assert.deepEqual(describeModel(rebuilt.model, facts), others);
    assert.equal(shrunkFrom!.parameters.length, others.parameters.length);
    assert.deepEqual(
      description.parameters.map(({ name, shape }) => `${name} ${shape.join()}`),
      [
        'hidden/kernel 6,3',
        'hidden/bias 3',
        'batch_normalization_1/gamma 3',
        'batch_normalization_1/beta 3',
        'dense_2/kernel 3,3',
        'dense_2/bias 3',
        'dense_3/kernel 3,2',
        'dense_3/bias 2',
      ],
    );
    assert.deepEqual((rebuilt.model.layers[0]!.getWeights()[0] as Tensor).dataSync(), frozen);
    assert.deepEqual([rebuilt.loss, rebuilt.source, rebuilt.notes], [loaded.loss, loaded.source, loaded.notes]);
    assert.throws(() => loaded.model.layers[1]!.weights[0]!.read(), /disposed/, "the user's model is freed");
  });

  it('leaves a model alone that no unit has left', async () => {
    const loaded = load();
    assert.equal(await rebuildShrunk(tf, loaded, describeModel(loaded.model, facts)), loaded);
    assert.equal(await rebuildShrunk(tf, loaded, undefined), loaded);
    assert.equal(variablesOf(loaded.model).parameters[0]!.read().isDisposed, false);
  });

  it("is refused where the user's files build another model than the one that was shrunk", async () => {
    const loaded = load();
    const description = shrunk(loaded);
    const { parameters, states } = description.shrunkFrom!;
    const [first, ...others] = parameters;
    for (const changed of [
      { ...first!, name: 'other/kernel' },
      { ...first!, shape: [6, 7] },
    ])
      await assert.rejects(
        rebuildShrunk(tf, loaded, { ...description, shrunkFrom: { parameters: [changed, ...others], states } }),
        /\[CHECKPOINT\] .*written by another model.*hidden\/kernel/s,
      );
  });

  it('says what to do about a class that TensorFlow.js does not know', async () => {
    const loaded = load();
    const description = shrunk(loaded);
    const topology: unknown = JSON.parse(JSON.stringify(description.topology).replace('"Dropout"', '"MyDropout"'));
    await assert.rejects(
      rebuildShrunk(tf, loaded, { ...description, topology }),
      /\[UNSUPPORTED\] .*model\.ts.*MyDropout.*registerClass/s,
    );
  });
});
