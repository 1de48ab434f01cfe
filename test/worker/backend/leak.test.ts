import assert from 'node:assert/strict';
import type { Tensor } from '@tensorflow/tfjs-core';
import { loadBackend } from '../../../worker/backend/backend.ts';
import { tf } from '../../../worker/backend/tf.ts';
import { trainable } from './layer-cases.ts';

describe('1,000 training steps on the wasm backend', () => {
  before(() => loadBackend('wasm'));

  it('leak no tensor and no memory of the backend, and learn', () => {
    const model = tf.sequential({
      layers: [
        tf.layers.conv2d({ inputShape: [6, 6, 1], filters: 2, kernelSize: 3, activation: 'relu' }),
        tf.layers.maxPooling2d({ poolSize: 2 }),
        tf.layers.batchNormalization({ axis: -1 }),
        tf.layers.flatten(),
        tf.layers.dropout({ rate: 0.1 }),
        tf.layers.dense({ units: 3 }),
      ],
    });
    const weights = trainable(model);
    const x = tf.randomNormal([9, 6, 6, 1], 0, 1, 'float32', 1);
    const labels = tf.oneHot(tf.tensor1d([0, 1, 2, 0, 1, 2, 0, 1, 2], 'int32'), 3);
    const step = (): number =>
      tf.tidy(() => {
        const { value, grads } = tf.variableGrads(
          () => tf.losses.softmaxCrossEntropy(labels, model.apply(x, { training: true }) as Tensor).asScalar(),
          weights,
        );
        for (const weight of weights) {
          weight.assign(tf.sub(weight, tf.mul(grads[weight.name] as Tensor, 0.05)));
        }
        return value.dataSync()[0] as number;
      });
    const first = step();
    const before = tf.memory();
    const dataIds = tf.engine().backend.numDataIds();
    let last = first;
    for (let k = 0; k < 1000; k++) last = step();
    const after = tf.memory();
    assert.equal(after.numTensors, before.numTensors);
    assert.equal(after.numBytes, before.numBytes);
    assert.equal(tf.engine().backend.numDataIds(), dataIds);
    assert.ok(last < first / 2, `loss went from ${first} to ${last}`);
  });
});
