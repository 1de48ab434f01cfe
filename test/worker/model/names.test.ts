import assert from 'node:assert/strict';
import { before, describe, it } from 'mocha';
import type { LayersModel, SymbolicTensor } from '@tensorflow/tfjs-layers';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { describeModel } from '../../../worker/model/describe-model.ts';

const FACTS = { trainExamples: 1, testExamples: 0, notes: [] };

function namesOf(model: LayersModel): string[] {
  return describeModel(model, FACTS).parameters.map(({ name }) => name);
}

/** Wrapped, recurrent, shared and nested layers, automatic and given names. */
function everything(): LayersModel {
  const { layers } = tf;
  const nested = tf.sequential({
    layers: [layers.dense({ units: 3, inputShape: [4] }), layers.dense({ units: 4, name: 'fc' })],
  });
  const shared = layers.dense({ units: 4 });
  const input = tf.input({ shape: [5, 4] });
  let x = layers.timeDistributed({ layer: layers.dense({ units: 4 }) }).apply(input);
  for (let i = 0; i < 2; i++) {
    const direction = layers.lstm({ units: 2, returnSequences: true, recurrentInitializer: 'glorotUniform' });
    x = layers.bidirectional({ layer: direction, mergeMode: 'concat' }).apply(x);
  }
  x = layers.rnn({ cell: [layers.simpleRNNCell({ units: 2 }), layers.simpleRNNCell({ units: 4 })] }).apply(x);
  x = layers.batchNormalization().apply(x);
  x = shared.apply(shared.apply(x));
  x = nested.apply(x);
  x = layers.dense({ units: 2, name: 'dense_2' }).apply(x);
  x = layers.dense({ units: 2 }).apply(x);
  return tf.model({ inputs: input, outputs: x as SymbolicTensor });
}

describe('parameter names', () => {
  before(() => loadBackend('wasm'));

  it('count automatic layers within the model and keep given names', () => {
    assert.deepEqual(namesOf(everything()), [
      'time_distributed_1/kernel',
      'time_distributed_1/bias',
      ...[1, 2].flatMap((k) =>
        ['forward', 'backward'].flatMap((direction) =>
          ['kernel', 'recurrent_kernel', 'bias'].map((weight) => `bidirectional_${k}/${direction}_lstm_${k}/${weight}`),
        ),
      ),
      ...[0, 1].flatMap((cell) =>
        ['kernel', 'recurrent_kernel', 'bias'].map((weight) => `rnn_1/RNNCell_${cell}/${weight}`),
      ),
      'batch_normalization_1/gamma',
      'batch_normalization_1/beta',
      'dense_1/kernel',
      'dense_1/bias',
      // dense_2 is the user's own layer further down
      'dense_3/kernel',
      'dense_3/bias',
      'fc/kernel',
      'fc/bias',
      'dense_2/kernel',
      'dense_2/bias',
      'dense_4/kernel',
      'dense_4/bias',
    ]);
  });

  it('are the same at every rebuild, with the whole description', () => {
    const first = describeModel(everything(), FACTS);
    tf.layers.dense({ units: 1 }); // moves TensorFlow.js's own count
    assert.deepEqual(describeModel(everything(), FACTS), first);
  });

  it('are the original names of a model rebuilt from the topology', async () => {
    const description = describeModel(everything(), FACTS);
    const rebuilt = await tf.models.modelFromJSON(description.topology as never);
    assert.deepEqual(
      rebuilt.trainableWeights.map(({ originalName }) => originalName),
      description.parameters.map(({ name }) => name),
    );
    assert.deepEqual(describeModel(rebuilt, FACTS), description);
  });

  it('are unique where two nested models use the same layer names', () => {
    const part = (): LayersModel =>
      tf.sequential({ layers: [tf.layers.dense({ units: 4, inputShape: [4], name: 'fc' })] });
    const model = tf.sequential();
    model.add(part());
    model.add(part());
    assert.deepEqual(namesOf(model), ['fc/kernel', 'fc/bias', 'fc_2/kernel', 'fc_2/bias']);
  });

  it('leave a frozen layer out, and count it all the same', () => {
    const model = tf.sequential({
      layers: [tf.layers.dense({ units: 4, inputShape: [4], trainable: false }), tf.layers.dense({ units: 2 })],
    });
    assert.deepEqual(namesOf(model), ['dense_2/kernel', 'dense_2/bias']);
    assert.deepEqual(describeModel(model, FACTS).states, []);
  });

  it('survive a model that is built only when it is nested', () => {
    const inner = tf.sequential();
    inner.add(tf.layers.dense({ units: 3, inputShape: [4] }));
    const outer = tf.sequential();
    outer.add(tf.layers.dense({ units: 4, inputShape: [2] }));
    outer.add(inner);
    assert.deepEqual(namesOf(outer), ['dense_1/kernel', 'dense_1/bias', 'dense_2/kernel', 'dense_2/bias']);
  });
});

describe('describeModel', () => {
  before(() => loadBackend('wasm'));

  it('marks kernels of dense and convolution layers prunable, also inside TimeDistributed', () => {
    const { layers } = tf;
    const model = tf.sequential({
      layers: [
        layers.conv2d({ filters: 2, kernelSize: 3, inputShape: [8, 8, 1] }),
        layers.depthwiseConv2d({ kernelSize: 2 }),
        layers.separableConv2d({ filters: 2, kernelSize: 2 }),
        layers.batchNormalization(),
      ],
    });
    model.add(layers.reshape({ targetShape: [16, 2] }));
    model.add(layers.timeDistributed({ layer: layers.dense({ units: 3 }) }));
    const { parameters, states } = describeModel(model, FACTS);
    assert.deepEqual(
      parameters.filter(({ prunable }) => prunable).map(({ name, layerKind }) => [name, layerKind]),
      [
        ['conv2d_1/kernel', 'Conv2D'],
        ['separable_conv2d_1/pointwise_kernel', 'SeparableConv2D'],
        ['time_distributed_1/kernel', 'Dense'],
      ],
    );
    assert.equal(parameters.length, 11);
    assert.deepEqual(states, [
      { name: 'batch_normalization_1/moving_mean', shape: [2] },
      { name: 'batch_normalization_1/moving_variance', shape: [2] },
    ]);
  });

  it('travels as JSON', () => {
    const description = describeModel(everything(), FACTS);
    assert.deepEqual(JSON.parse(JSON.stringify(description)), description);
    assert.deepEqual(description.layers.at(-1), { name: 'dense_4', className: 'Dense', outputShape: [null, 2] });
  });
});
