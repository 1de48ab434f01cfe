import assert from 'node:assert/strict';
import type { LayersModel } from '@tensorflow/tfjs-layers';
import type { Tensor } from '@tensorflow/tfjs-core';
import { WhittleError } from '../../../shared/errors.ts';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { assertSupported } from '../../../worker/backend/supported.ts';
import { tf } from '../../../worker/backend/tf.ts';

type Layer = Parameters<ReturnType<typeof tf.sequential>['add']>[0];

function model(...layers: Layer[]): LayersModel {
  return tf.sequential({ layers });
}

describe('assertSupported', () => {
  before(() => loadBackend('wasm'));

  const refused: [what: string, make: () => LayersModel, message: RegExp][] = [
    [
      'a stateful recurrent layer',
      () => model(tf.layers.lstm({ units: 2, stateful: true, batchInputShape: [2, 3, 4] })),
      /layer lstm_1 \(LSTM\).*stateful: false/,
    ],
    [
      'a stateful layer in a wrapper',
      () =>
        model(
          tf.layers.bidirectional({
            layer: tf.layers.gru({ units: 2, stateful: true }),
            batchInputShape: [2, 3, 4],
            mergeMode: 'sum',
          }),
        ),
      /\(Bidirectional\).*stateful/,
    ],
    [
      'a constraint',
      () => model(tf.layers.dense({ units: 2, inputShape: [3], name: 'head', kernelConstraint: 'nonNeg' })),
      /layer head \(Dense\).*constraint.*remove/,
    ],
    [
      'a constraint in a nested model',
      () => model(model(tf.layers.dense({ units: 2, inputShape: [3], biasConstraint: 'unitNorm' }))),
      /bias has a constraint/,
    ],
    [
      'causal padding',
      () => model(tf.layers.conv1d({ filters: 2, kernelSize: 2, padding: 'causal', inputShape: [5, 2] })),
      /Conv1D.*causal/,
    ],
    [
      'dilated depthwise convolutions',
      () => model(tf.layers.depthwiseConv2d({ kernelSize: 2, dilationRate: 2, inputShape: [5, 5, 2] })),
      /DepthwiseConv2D.*dilationRate/,
    ],
    [
      'a resizing layer',
      () => model(tf.layers.resizing({ height: 2, width: 2, inputShape: [4, 4, 1] })),
      /Resizing.*data module/,
    ],
    [
      'a cropping of the centre',
      () => model(tf.layers.centerCrop({ height: 2, width: 2, inputShape: [4, 4, 1] })),
      /CenterCrop.*Cropping2D/,
    ],
    ['softmax along another axis', () => model(tf.layers.softmax({ inputShape: [3, 4] })), /Softmax.*last axis/],
    [
      'dropout in the cell of a plain RNN',
      () => model(tf.layers.rnn({ cell: tf.layers.lstmCell({ units: 2, dropout: 0.5 }), inputShape: [3, 4] })),
      /RNN.*mask/,
    ],
  ];
  for (const [what, make, message] of refused) {
    it(`refuses ${what} by name`, () => {
      const unsupported = make();
      assert.throws(
        () => assertSupported(unsupported),
        (error: unknown) =>
          error instanceof WhittleError && error.code === 'UNSUPPORTED' && message.test(error.message),
      );
      unsupported.dispose();
    });
  }

  it('lets the rest pass', () => {
    const supported = model(
      tf.layers.conv2d({ filters: 2, kernelSize: 2, dilationRate: 2, inputShape: [6, 6, 1] }),
      tf.layers.batchNormalization({ center: false }),
      tf.layers.flatten(),
      tf.layers.dense({ units: 3, activation: 'softmax' }),
    );
    assert.deepEqual(assertSupported(supported), []);
    supported.dispose();
  });

  it('repairs leave weights, configuration and inference as they were', () => {
    const make = (): LayersModel =>
      model(
        tf.layers.conv2d({
          filters: 2,
          kernelSize: 2,
          dilationRate: 2,
          activation: 'tanh',
          inputShape: [6, 6, 1],
          name: 'c',
        }),
        tf.layers.batchNormalization({ center: false, name: 'b' }),
        tf.layers.batchNormalization({ scale: false, name: 'b2' }),
        tf.layers.layerNormalization({ center: false, name: 'l' }),
      );
    const plain = make();
    const config = JSON.stringify(plain.toJSON(null, false));
    const x = tf.randomNormal([2, 6, 6, 1], 0, 1, 'float32', 3);
    const expected = [...(plain.apply(x) as Tensor).dataSync()];
    assertSupported(plain);
    assertSupported(plain);
    assert.equal(JSON.stringify(plain.toJSON(null, false)), config);
    assert.equal(plain.weights.length, 2 + 3 + 3 + 1);
    const actual = (plain.apply(x) as Tensor).dataSync();
    expected.forEach((value, k) => assert.ok(Math.abs(value - (actual[k] as number)) < 1e-5, `element ${k}`));
    plain.dispose();
  });
});
